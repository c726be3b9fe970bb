"""Text that can leave the process: characters that cannot be encoded are replaced.

Python reads a byte of the environment, the command line or a file's name that is not UTF-8 as a lone surrogate. No
page, message or file can hold one, and an exporter that meets one loses everything it was about to send.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from opentelemetry.sdk.environment_variables import OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME

_logger = logging.getLogger(__name__)

_SURROGATES: Final = re.compile("[\ud800-\udfff]")

_RESOURCE_VARIABLES: Final = (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES)


def encodable(text: str) -> str:
    """The text with U+FFFD, the replacement character, for whatever cannot be encoded."""
    return _SURROGATES.sub("\ufffd", text)


@contextmanager
def resource_variables() -> Generator[None]:
    """Let the SDK make a resource that can be sent; leave the variables as they were, for child processes inherit them.

    A value that has to be changed for that costs one warning line.
    """
    before: dict[str, str] = {}
    for variable in _RESOURCE_VARIABLES:
        value = os.environ.get(variable, "")
        if (clean := encodable(value)) != value:
            _logger.warning("%s=%r is not UTF-8; using %r", variable, value, clean)
            before[variable] = value
            os.environ[variable] = clean
    try:
        yield
    finally:
        os.environ.update(before)
