"""The defaults of the distro, as values of the standard ``OTEL_*`` variables.

They are written to ``os.environ`` before the SDK reads it, so child processes start with the same choice. No SDK is
built here: that is the configurator's part.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL

_logger = logging.getLogger(__name__)

DEFAULTS: Final = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_TRACES_EXPORTER: "none",
    OTEL_METRIC_EXPORT_INTERVAL: "10000",
}
"""What a variable is set to when it is unset or empty. The interval is in milliseconds; push exporters alone use it."""


class MCPDistro(BaseDistro):
    """Metrics to Prometheus and no traces, unless the environment says otherwise.

    An empty variable, or one of nothing but spaces, counts as unset (OpenTelemetry specification, "Environment Variable
    Specification").
    """

    def _configure(self, **kwargs: object) -> None:
        """Fill in :data:`DEFAULTS`. Never raises for a value: an interval the SDK would refuse is replaced."""
        for variable, default in DEFAULTS.items():
            if not os.environ.get(variable, "").strip():
                os.environ[variable] = default

        # The SDK raises for an interval that is not above zero, and with it every instrumentation would be lost.
        interval = os.environ[OTEL_METRIC_EXPORT_INTERVAL]
        if not _is_positive(interval):
            default = DEFAULTS[OTEL_METRIC_EXPORT_INTERVAL]
            _logger.warning(
                "%s=%r is not a positive number of milliseconds; using %s",
                OTEL_METRIC_EXPORT_INTERVAL,
                interval,
                default,
            )
            os.environ[OTEL_METRIC_EXPORT_INTERVAL] = default


def _is_positive(text: str) -> bool:
    try:
        # False for NaN too.
        return float(text) > 0
    except ValueError:
        return False
