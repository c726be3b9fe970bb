"""stdout belongs to a stdio server's protocol: a warning where another configurator lets an exporter write to it.

Our configurator makes the ``console`` exporters write to stderr. A vendor's, or the stock one, lets them write to
stdout, and this package can only log a warning.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

from .environment import sdk_is_disabled
from .fail_open import guard

_logger = logging.getLogger(__name__)

_VARIABLES: Final = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
"""The variables that name exporters, one for each signal (OpenTelemetry specification, "Exporter Selection")."""

_kept_clean = False


def keep_clean() -> None:
    """Note that nothing of OpenTelemetry writes to stdout in this process."""
    global _kept_clean
    _kept_clean = True


@guard("the exporters of a stdio server were not checked")
def warn_on_stdio() -> None:
    """Warn, once, if another configurator has set up an exporter that writes between the messages of a stdio server."""
    # Unless the SDK was configured from the environment, the variables mean nothing: the application set it up.
    if _kept_clean or sdk_is_disabled() or "opentelemetry.sdk._configuration" not in sys.modules:
        return
    variables = [
        variable
        for variable in _VARIABLES
        if "console" in (name.strip() for name in os.environ.get(variable, "").split(","))
    ]
    if variables:
        keep_clean()
        _logger.warning(
            "%s: console writes to stdout, which is this stdio server's channel to its client, since the configurator "
            "is not that of opentelemetry-distro-mcp; use another exporter, or OTEL_PYTHON_DISTRO=mcp",
            ", ".join(variables),
        )
