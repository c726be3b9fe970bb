"""The limits of every table, read from the environment once per ``instrument()``.

A value that is no whole number, or is out of its range, costs one warning that names the variable and the value used
instead.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from ..environment_variables import (
    OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS,
    OTEL_INSTRUMENTATION_MCP_MAX_NAMES,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How many different values each table admits (the catalogue's section on attributes).

    Attributes:
        attribute_sets: Attribute sets per instrument.
        names: Tool and prompt names together.
        servers: Values of ``mcp.server.name``.
        methods: Methods beyond the protocol's own.
        exceptions: Exception class names in ``error.type``.
        addresses: Values of ``server.address`` (with its port).
        interceptors: Values of ``interceptor``.
        pools: Values of ``pool``.
    """

    attribute_sets: int = 1000
    names: int = 100
    servers: int = 50
    methods: int = 50
    exceptions: int = 50
    addresses: int = 100
    interceptors: int = 50
    pools: int = 100

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, with what the environment says instead."""
        return cls(
            # The SDK's own limit is 2,000 sets; at that point it would fold everything into its overflow series.
            attribute_sets=_whole_number(OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, cls.attribute_sets, 10, 1900),
            names=_whole_number(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, cls.names, 0, 1900),
        )


def _whole_number(variable: str, default: int, least: int, most: int) -> int:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        _logger.warning("%s=%r is not a whole number from %d to %d; using %d", variable, text, least, most, default)
        return default
    return value
