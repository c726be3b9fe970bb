"""The SDK's own set-up from the environment, for processes that have more than metrics.

Samplers, processors, logging handlers: all of it is the SDK's. What is changed: which providers are made, and that an
exporter or a provider that cannot be made takes nothing else away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from opentelemetry.sdk import _configuration

# Private by its name, and yet the class that the SDK's docstring tells distros to derive from.
from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # pyright: ignore[reportPrivateUsage]
from opentelemetry.sdk.metrics.export import MetricReader

from .exporters import LOGS, METRICS, SIGNALS, TRACES, Exporters, Signal

_LOGGING_HANDLER: Final = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"

_BUILDERS: Final[Mapping[Signal, tuple[str, frozenset[str]]]] = {
    TRACES: ("_init_tracing", frozenset({"trace_exporter_names", "span_processors"})),
    METRICS: ("_init_metrics", frozenset({"metric_exporter_names"})),
    LOGS: ("_init_logging", frozenset({"log_exporter_names", "log_record_processors", "setup_logging_handler"})),
}
"""The function of the SDK that makes a signal's provider, and the arguments for which it has work to do."""

_FIND_EXPORTERS: Final = "_import_exporters"
"""The function of the SDK that finds the classes of exporters, by signal in the order of :data:`.exporters.SIGNALS`."""


def configure_unchanged(kwargs: dict[str, Any]) -> None:
    """Set up whatever the SDK would."""
    # The SDK leaves its keywords without annotations.
    _OTelSDKConfigurator().configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]


def configure(exporters: Exporters, kwargs: dict[str, Any]) -> None:
    """Set up what was found, which is in the environment while this runs (:meth:`Exporters.environment`)."""
    arguments: Mapping[Any, Mapping[str, Any]] = kwargs["exporter_args_map"]
    changed: dict[str, Callable[..., Any]] = {}
    for signal, (name, _) in _BUILDERS.items():
        if not exporters.chosen[signal] and not _has_work(signal, kwargs):
            changed[name] = _make_no_provider
        elif (builder := getattr(_configuration, name, None)) is not None:
            changed[name] = partial(_contained, exporters, signal, builder)
    if (find := getattr(_configuration, _FIND_EXPORTERS, None)) is not None:
        changed[_FIND_EXPORTERS] = partial(_build_exporters, exporters, arguments, find)
    with _replaced(changed):
        configure_unchanged(kwargs)


def _has_work(signal: Signal, kwargs: Mapping[str, Any]) -> bool:
    """Whether a signal without exporters needs its provider all the same."""
    if signal is LOGS and os.environ.get(_LOGGING_HANDLER, "").strip().lower() == "true":
        return True
    return not _BUILDERS[signal][1].isdisjoint(kwargs)


@contextmanager
def _replaced(functions: Mapping[str, Callable[..., Any]]) -> Generator[None]:
    """Replace those functions of the SDK's module that this release has.

    The SDK makes all providers in one function, which cannot leave one out and stops at the first error. A
    tracer provider without exporters is not free: spans are recorded, and every outgoing request that had no trace
    context gets one with the flag "sampled".
    """
    before = {name: getattr(_configuration, name) for name in functions if hasattr(_configuration, name)}
    for name in before:
        setattr(_configuration, name, functions[name])
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(_configuration, name, function)


def _make_no_provider(*args: object, **kwargs: object) -> None:
    """Take the place of a function of the SDK that makes a provider."""


def _contained(
    exporters: Exporters, signal: Signal, builder: Callable[..., None], /, *args: Any, **kwargs: Any
) -> None:
    """Make a provider, or leave it out with a complaint."""
    try:
        builder(*args, **kwargs)
    except Exception as error:
        exporters.complain(signal, f"not set up ({type(error).__name__}: {error})")


def _build_exporters(
    exporters: Exporters,
    arguments: Mapping[Any, Mapping[str, Any]],
    find: Callable[..., tuple[dict[str, type[Any]], ...]],
    /,
    *args: Any,
    **kwargs: Any,
) -> tuple[dict[str, type[Any]], ...]:
    """What the SDK finds, without what cannot be made. By itself it stops at the first that cannot."""
    ready: list[dict[str, type[Any]]] = []
    for signal, found in zip(SIGNALS, find(*args, **kwargs), strict=True):
        classes: dict[str, type[Any]] = {}
        for name, exporter in found.items():
            # What a caller's argument has added is for the SDK to make.
            if name not in exporters.chosen[signal]:
                classes[name] = exporter
            elif (component := exporters.build(signal, name, arguments.get(exporter, {}))) is not None:
                classes[name] = _class_of(component)
        ready.append(classes)
    return tuple(ready)


def _class_of(component: Any) -> type[Any]:
    """A class for the SDK to call, which gives what there is already."""

    def new(cls: type[Any]) -> Any:
        return component

    bases = (MetricReader,) if isinstance(component, MetricReader) else ()
    return type("Ready", bases, {"__new__": new})
