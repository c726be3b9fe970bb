"""The SDK's providers, from the environment: for metrics alone here, for more by the SDK's own set-up.

``prometheus`` among the metrics exporters means our reader, ``console`` exporters write to stderr, an exporter that is
not installed is left out, a signal without exporters gets no provider, and the resource names this distro. Which
exporters there are stays the environment's choice; this module has no defaults.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.metrics import get_meter_provider, set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from ..core import stdout
from ..core.environment import configuration_file, sdk_is_disabled
from ..core.environment_variables import OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR
from ..version import __version__
from . import options
from .encodable import resource_variables
from .exporters import LOGS, METRICS, TRACES, Exporters
from .forking import begin_at_zero_in_children
from .installed import entry_points
from .selection import CONFIGURATORS, DISTROS, delegate, is_chosen, vendors

_logger = logging.getLogger(__name__)

_FOR_THE_SDK: Final = ("OTEL_PYTHON_METER_CONFIGURATOR", "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED")
"""Variables that ask for something only the SDK's own set-up does."""

_HOOKS_FOR_THE_SDK: Final = "_opentelemetry_opamp"
"""The group of entry points of programs that reconfigure a running process; only the SDK's own set-up loads them."""

_AUTO_VERSION: Final = "auto_instrumentation_version"


class MCPConfigurator:
    """Builds the SDK's providers from the environment, as the SDK's configurator does.

    It is not derived from the SDK's, as that would import tracing and logging into processes that have metrics alone.
    """

    def configure(self, **kwargs: Any) -> None:
        """Set up the SDK, or nothing at all when OTEL_SDK_DISABLED is ``true``.

        Where a vendor's distro is installed and the environment does not name ours, this is the vendor's configurator,
        or else the SDK's unchanged.

        Args:
            **kwargs: As the SDK's configurator takes them. What a caller puts into ``resource_attributes`` or
                ``exporter_args_map`` wins over ours.

        Raises:
            Exception: From a vendor's configurator, or the SDK's unchanged. Ours raises nothing: what cannot be set up
                is left out with one line, and the instrumentations are loaded.
        """
        vendor = delegate(CONFIGURATORS)
        if vendor is not None:
            vendor.configure(**kwargs)
            return
        if vendors(DISTROS) and not is_chosen(CONFIGURATORS):
            from . import sdk  # noqa: PLC0415

            sdk.configure_unchanged(kwargs)
            return
        stdout.keep_clean()
        options.replace_bad_values()
        # The SDK would build its readers although it is disabled, and ours would open a port that shows nothing.
        if sdk_is_disabled():
            return
        try:
            with resource_variables():
                pushes = _configure(kwargs)
            begin_at_zero_in_children(get_meter_provider())
            if pushes or os.environ.get(OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR, "").strip():
                from .flush import flush_at_the_end  # noqa: PLC0415

                flush_at_the_end()
        except Exception as error:
            _logger.warning("OpenTelemetry is not set up in full (%s: %s)", type(error).__name__, error)


def _configure(kwargs: dict[str, Any]) -> bool:
    """Set up what the file describes, or else what the variables do; returns whether an exporter pushes."""
    file = configuration_file()
    if file is None:
        return _configure_from_variables(kwargs)
    from . import declarative  # noqa: PLC0415

    try:
        return declarative.configure(file)
    except Exception as error:
        in_part = declarative.has_set_a_provider()
        instead = "what was set up before the error is used" if in_part else "using the other variables instead"
        _logger.warning("OTEL_CONFIG_FILE=%r is not used; %s (%s: %s)", file, instead, type(error).__name__, error)
        return True if in_part else _configure_from_variables(kwargs)


def _configure_from_variables(kwargs: dict[str, Any]) -> bool:
    """Set up what the variables describe; returns whether an exporter pushes."""
    kwargs["resource_attributes"] = {
        "telemetry.distro.name": "opentelemetry-distro-mcp",
        "telemetry.distro.version": __version__,
        **(kwargs.get("resource_attributes") or {}),
    }
    exporters = Exporters.from_environment()
    to_stderr = {exporter: {"out": sys.stderr} for exporter in exporters.console}
    kwargs["exporter_args_map"] = {**to_stderr, **(kwargs.get("exporter_args_map") or {})}
    with exporters.environment():
        if _metrics_alone(exporters, kwargs):
            _set_meter_provider(exporters, kwargs)
        else:
            from . import sdk  # noqa: PLC0415

            try:
                sdk.configure(exporters, kwargs)
            except Exception as error:
                _logger.warning("only metrics are set up (%s: %s)", type(error).__name__, error)
                if not isinstance(get_meter_provider(), MeterProvider):
                    _set_meter_provider(exporters, kwargs)
    exporters.report()
    return exporters.push


def _metrics_alone(exporters: Exporters, kwargs: Mapping[str, Any]) -> bool:
    """Whether all there is to set up is a meter provider with the readers of its exporters, or not even that."""
    return not (
        exporters.chosen[TRACES]
        or exporters.chosen[LOGS]
        or kwargs.keys() - {_AUTO_VERSION, "resource_attributes", "exporter_args_map"}
        or any(os.environ.get(variable, "").strip() for variable in _FOR_THE_SDK)
        or entry_points(_HOOKS_FOR_THE_SDK)
    )


def _set_meter_provider(exporters: Exporters, kwargs: Mapping[str, Any]) -> None:
    if not exporters.chosen[METRICS]:
        return
    attributes = dict(kwargs["resource_attributes"])
    if version := kwargs.get(_AUTO_VERSION):
        attributes["telemetry.auto.version"] = version
    resource = Resource.create(attributes)
    # The readers last: one that listens can be scraped as soon as it exists, and answers when it has its provider.
    readers: list[MetricReader] = []
    for name, exporter in exporters.chosen[METRICS].items():
        component = exporters.build(METRICS, name, kwargs["exporter_args_map"].get(exporter, {}))
        if component is not None:
            is_reader = isinstance(component, MetricReader)
            readers.append(component if is_reader else PeriodicExportingMetricReader(component))
    set_meter_provider(MeterProvider(readers, resource))
