"""The SDK's own set-up from the environment, with a few things changed.

``prometheus`` among the metrics exporters means our reader, ``console`` exporters write to stderr, an exporter that is
not installed is left out, a signal without exporters gets no provider, and the resource names this distro. Which
exporters there are stays the environment's choice; this module has no defaults.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.sdk import _configuration as sdk_configuration

# Private by its name, and yet the class that the SDK's docstring tells distros to derive from.
from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # pyright: ignore[reportPrivateUsage]
from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER

from ..environment import configuration_file, sdk_is_disabled
from ..version import __version__
from . import console
from .exporters import LOGS, METRICS, SIGNALS, TRACES, Exporters, Signal
from .installed import entry_points
from .selection import CONFIGURATORS, DISTROS, delegate, is_chosen, vendors

_LOGGING_HANDLER: Final = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"

_BUILDERS: Final[Mapping[Signal, tuple[str, frozenset[str]]]] = {
    TRACES: ("_init_tracing", frozenset({"trace_exporter_names", "span_processors"})),
    METRICS: ("_init_metrics", frozenset({"metric_exporter_names"})),
    LOGS: ("_init_logging", frozenset({"log_exporter_names", "log_record_processors", "setup_logging_handler"})),
}
"""The function of the SDK that makes a signal's provider, and the arguments for which it has work to do."""


class MCPConfigurator(_OTelSDKConfigurator):
    """Builds the SDK's providers from the environment, as the SDK's configurator does."""

    def _configure(self, **kwargs: Any) -> None:
        """Set up the SDK, or nothing at all when OTEL_SDK_DISABLED is ``true``.

        Where a vendor's distro is installed and nobody has named ours, this is the vendor's configurator, or else the
        SDK's unchanged.

        Args:
            **kwargs: As the SDK's configurator takes them. What a caller puts into ``resource_attributes`` or
                ``exporter_args_map`` wins over ours.

        Raises:
            Exception: From the SDK or an exporter, for a value in the environment that they refuse.
        """
        vendor = delegate(CONFIGURATORS)
        if vendor is not None:
            vendor.configure(**kwargs)
            return
        if vendors(DISTROS) and not is_chosen(CONFIGURATORS):
            super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
            return
        console.keep_clean()
        # The SDK would build its readers all the same, and ours would open a port with nothing behind it.
        if sdk_is_disabled():
            return
        if (file := configuration_file()) is not None:
            from . import declarative  # noqa: PLC0415

            pushes = declarative.configure(file, _console_exporters())
        else:
            pushes = self._configure_from_variables(kwargs)
        if pushes:
            from .flush import flush_at_the_end  # noqa: PLC0415

            flush_at_the_end()

    def _configure_from_variables(self, kwargs: dict[str, Any]) -> bool:
        """Set up what the variables say; returns whether an exporter that pushes is among it."""
        kwargs["resource_attributes"] = {
            "telemetry.distro.name": "opentelemetry-distro-mcp",
            "telemetry.distro.version": __version__,
            **(kwargs.get("resource_attributes") or {}),
        }
        to_stderr = {exporter: {"out": sys.stderr} for exporter in _console_exporters()}
        kwargs["exporter_args_map"] = {**to_stderr, **(kwargs.get("exporter_args_map") or {})}
        exporters = Exporters.from_environment()
        idle = [signal for signal in SIGNALS if not exporters.chosen[signal] and not _has_work(signal, kwargs)]
        with _read_by_the_sdk(exporters), _without_providers(idle):
            # The SDK leaves its keywords without annotations.
            super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        return exporters.push


def _has_work(signal: Signal, kwargs: Mapping[str, Any]) -> bool:
    """Whether a signal without exporters needs its provider all the same."""
    if signal is LOGS and os.environ.get(_LOGGING_HANDLER, "").strip().lower() == "true":
        return True
    return not _BUILDERS[signal][1].isdisjoint(kwargs)


@contextmanager
def _read_by_the_sdk(exporters: Exporters) -> Generator[None]:
    """Let the SDK read what was found; leave the variables as they were, for child processes inherit them.

    The SDK looks exporters up by what the variables say and has no argument that replaces their lists. Exemplars link
    measurements to traces, and the Prometheus exporter shows none: without this they would be sampled for nobody.
    """
    values = {signal.variable: exporters.value(signal) for signal in SIGNALS}
    if exporters.prometheus_alone and not os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, "").strip():
        values[OTEL_METRICS_EXEMPLAR_FILTER] = "always_off"
    before = {variable: os.environ.get(variable) for variable in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


@contextmanager
def _without_providers(signals: list[Signal]) -> Generator[None]:
    """Keep the SDK from making providers that nobody listens to.

    A tracer provider without exporters is not free: spans are recorded, and every outgoing request that had no trace
    context gets one that says "sampled". The SDK makes all three in one function that cannot be told to leave one out.
    """
    builders = {name: getattr(sdk_configuration, name, None) for name, _ in (_BUILDERS[signal] for signal in signals)}
    for name, builder in builders.items():
        if builder is not None:
            setattr(sdk_configuration, name, _make_no_provider)
    try:
        yield
    finally:
        for name, builder in builders.items():
            if builder is not None:
                setattr(sdk_configuration, name, builder)


def _make_no_provider(*args: object, **kwargs: object) -> None:
    """Take the place of a function of the SDK that makes a provider."""


def _console_exporters() -> list[type[Any]]:
    """The SDK's ``console`` exporters; the stdout of a stdio server belongs to its protocol.

    Found by their entry points, because the one for logs has had two names and lives in a private module. Another
    package's exporter of that name is left alone: it may not take the argument.
    """
    return [
        entry_point.load()
        for signal in SIGNALS
        for entry_point in entry_points(signal.group, "console")
        if entry_point.module.startswith("opentelemetry.sdk.")
    ]
