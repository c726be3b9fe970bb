"""The defaults of the distro, as values of the standard ``OTEL_*`` variables, and the loading of instrumentors.

The defaults are written to ``os.environ`` before the SDK reads it, so child processes start with the same choice. No
SDK is built here: that is the configurator's part.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from importlib.metadata import EntryPoint
from typing import Any, Final

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.dependencies import DependencyConflictError
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL

from ..core.environment import configuration_file
from .selection import CONFIGURATORS, DISTROS, choose, delegate, is_chosen, vendors

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
    Specification"). Where a vendor's distro is installed and OTEL_PYTHON_DISTRO does not name ours, everything is left
    to the vendor's.
    """

    _vendor: BaseDistro | None = None

    def _configure(self, **kwargs: object) -> None:
        """Fill in :data:`DEFAULTS`. Never raises for a value: an interval the SDK would refuse is replaced."""
        self._vendor = delegate(DISTROS)
        if self._vendor is not None:
            # OpenTelemetry leaves its keywords without annotations, here and below.
            self._vendor.configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
            return
        # The configurator is looked up after this. Without a vendor's, the choice is between ours and the stock one.
        if is_chosen(DISTROS) or not vendors(CONFIGURATORS):
            choose(CONFIGURATORS)

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

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Activate one instrumentor. One that fails costs a line in the log, not the ones after it.

        Raises:
            DependencyConflictError: The library is not installed in a release it is for; the auto-instrumentation
                passes over it.
            ImportError: The instrumentor cannot be imported; the auto-instrumentation passes over it, too.
        """
        if configuration_file() is not None:
            from . import declarative  # noqa: PLC0415

            if declarative.is_settled(entry_point.name):
                return
        try:
            if self._vendor is not None:
                self._vendor.load_instrumentor(entry_point, **kwargs)  # pyright: ignore[reportUnknownMemberType]
            else:
                super().load_instrumentor(entry_point, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        except (DependencyConflictError, ImportError):
            raise
        except Exception as error:
            _logger.warning(
                "the instrumentation %s is not active (%s: %s)", entry_point.name, type(error).__name__, error
            )


def _is_positive(text: str) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    # False for NaN too. A thread cannot wait for longer than this; for ever means never, and the SDK knows it.
    return 0 < number <= threading.TIMEOUT_MAX * 1000 or number == math.inf
