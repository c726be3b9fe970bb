"""Which exporters the environment names, and which of them are installed.

The SDK gives up on everything when one exporter of a list is not installed, or refuses its options. Here it is left out
with one line, and the others are used.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    OTEL_METRICS_EXEMPLAR_FILTER,
)
from opentelemetry.sdk.metrics.export import MetricReader

from .installed import entry_points

_logger = logging.getLogger(__name__)

STANDARD_NAME: Final = "prometheus"
"""The exporter's name in OTEL_METRICS_EXPORTER (OpenTelemetry specification, "Exporter Selection")."""

OWN_NAME: Final = "mcp_prometheus"
"""The entry point of :class:`~.prometheus.PrometheusReader` in the group ``opentelemetry_metrics_exporter``."""

_NONE: Final = "none"
_CONSOLE: Final = "console"
_OF_THE_SDK: Final = "opentelemetry.sdk."
_OTLP: Final = "otlp"
_GRPC: Final = "otlp_proto_grpc"
_HTTP: Final = "otlp_proto_http"
_BY_PROTOCOL: Final = {"grpc": _GRPC, "http/protobuf": _HTTP}
_EXTRAS: Final = {_OTLP: "otlp", _GRPC: "otlp", _HTTP: "otlp-http"}
_SHOWN: Final = {OWN_NAME: STANDARD_NAME, _GRPC: "otlp over gRPC", _HTTP: "otlp over HTTP"}

_Complain = Callable[[str], None]


class Signal:
    """One of traces, metrics and logs, as the specification's variables call it.

    Attributes:
        variable: Names its exporters.
        protocol_variable: Names its protocol of OTLP.
        group: The group of its exporters' entry points.
    """

    # No dataclass, here and below: making one costs every process at start-up, with MCP or without.
    def __init__(self, name: str, variable: str, protocol_variable: str) -> None:
        self.variable = variable
        self.protocol_variable = protocol_variable
        self.group = f"opentelemetry_{name}_exporter"


TRACES: Final = Signal("traces", OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL)
METRICS: Final = Signal("metrics", OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_METRICS_PROTOCOL)
LOGS: Final = Signal("logs", OTEL_LOGS_EXPORTER, OTEL_EXPORTER_OTLP_LOGS_PROTOCOL)
SIGNALS: Final = (TRACES, METRICS, LOGS)


class Exporters:
    """The exporters and readers to be set up.

    Attributes:
        chosen: Their classes by signal and by the name the SDK knows them by.
    """

    def __init__(self) -> None:
        self.chosen: dict[Signal, dict[str, type[Any]]] = {}
        self._built: dict[tuple[Signal, str], Any] = {}
        self._complaints: dict[str, list[str]] = defaultdict(list)

    def complain(self, signal: Signal, complaint: str) -> None:
        """Note what is wrong with a signal, for :meth:`report`."""
        self._complaints[complaint].append(signal.variable)

    def report(self) -> None:
        """Log what was noted: one warning for each complaint, with the variables of all signals it is about."""
        for complaint, variables in self._complaints.items():
            _logger.warning("%s: %s", ", ".join(variables), complaint)
        self._complaints.clear()

    def build(self, signal: Signal, component: str, arguments: Mapping[str, Any]) -> Any | None:
        """An exporter or reader, made once; None, with a complaint, where it cannot be made."""
        key = (signal, component)
        if key not in self._built:
            try:
                self._built[key] = self.chosen[signal][component](**arguments)
            except Exception as error:
                name = _SHOWN.get(component, component)
                self.complain(signal, f"{name} is left out ({type(error).__name__}: {error})")
                self._built[key] = None
        return self._built[key]

    @property
    def console(self) -> list[type[Any]]:
        """The SDK's ``console`` exporters among them; the stdout of a stdio server belongs to its protocol.

        Another package's exporter of that name is left alone: it may not take the argument.
        """
        named = (classes.get(_CONSOLE) for classes in self.chosen.values())
        return [each for each in named if each is not None and each.__module__.startswith(_OF_THE_SDK)]

    @classmethod
    def from_environment(cls) -> Exporters:
        """The exporters that are named and installed. Each one that is not installed costs a warning line."""
        exporters = cls()
        for signal in SIGNALS:
            exporters.chosen[signal] = _chosen(signal, partial(exporters.complain, signal))
        exporters.report()
        return exporters

    @contextmanager
    def environment(self) -> Generator[None]:
        """Let the SDK read what was found; leave the variables as they were, for child processes inherit them.

        The SDK reads the names of exporters from the variables and has no argument in their place. Exemplars link
        measurements to traces. The Prometheus exporter shows none, so the SDK need not sample them.
        """
        values = {signal.variable: ",".join(self.chosen[signal]) or _NONE for signal in SIGNALS}
        if list(self.chosen[METRICS]) == [OWN_NAME] and not os.environ.get(OTEL_METRICS_EXEMPLAR_FILTER, "").strip():
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

    @property
    def push(self) -> bool:
        """Whether any of them sends of its own accord."""
        readers = (each for each in self.chosen[METRICS].values() if not issubclass(each, MetricReader))
        return any(readers) or any(self.chosen[signal] for signal in (TRACES, LOGS))


def _chosen(signal: Signal, complain: _Complain) -> dict[str, type[Any]]:
    asked = [name for part in os.environ.get(signal.variable, "").split(",") if (name := part.strip())]
    found: dict[str, type[Any]] = {}
    for name in asked:
        if name.lower() == _NONE:
            if len(asked) > 1:
                complain("none means nothing beside other exporters; it is left out")
            continue
        component = _component(signal, name, complain)
        if component is not None and (exporter := _load(signal, name, component, complain)) is not None:
            found[component] = exporter
    return found


def _component(signal: Signal, name: str, complain: _Complain) -> str | None:
    """The entry point that ``name`` stands for; None, with a complaint, where nothing will do."""
    if signal is METRICS and name == STANDARD_NAME:
        return OWN_NAME
    if name != _OTLP:
        return name
    variable, protocol = next(
        (
            (variable, value)
            for variable in (signal.protocol_variable, OTEL_EXPORTER_OTLP_PROTOCOL)
            if (value := os.environ.get(variable, "").strip())
        ),
        ("", ""),
    )
    if not protocol:
        # What is installed decides; with both it is what the SDK takes.
        return next((each for each in (_GRPC, _HTTP) if _installed(signal, each)), _OTLP)
    if protocol not in _BY_PROTOCOL:
        complain(f"otlp is left out: {variable}={protocol!r} is neither grpc nor http/protobuf")
        return None
    return _BY_PROTOCOL[protocol]


def _installed(signal: Signal, component: str) -> bool:
    return bool(entry_points(signal.group, component))


def _load(signal: Signal, name: str, component: str, complain: _Complain) -> type[Any] | None:
    entry_point = next(iter(entry_points(signal.group, component)), None)
    if entry_point is None:
        extra = _EXTRAS.get(component)
        over = " over HTTP" if component == _HTTP else " over gRPC" if component == _GRPC else ""
        cure = f'; pip install "opentelemetry-distro-mcp[{extra}]"' if extra else ""
        complain(f"{name}{over} is left out, it is not installed{cure}")
        return None
    try:
        return entry_point.load()
    except Exception as error:
        # Compiled for another Python or libc, as in an image that was injected into a container.
        complain(f"{name} is left out, it cannot be imported ({type(error).__name__}: {error})")
        return None


def console_exporters() -> list[type[Any]]:
    """All ``console`` exporters the SDK has, found by their entry points: the one for logs has had two names."""
    found = (entry_point for signal in SIGNALS for entry_point in entry_points(signal.group, _CONSOLE))
    return [entry_point.load() for entry_point in found if entry_point.module.startswith(_OF_THE_SDK)]
