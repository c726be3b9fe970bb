"""The SDK's own set-up from the environment, for processes that have more than metrics.

Samplers, processors, logging handlers: all of it is the SDK's, with nothing changed but which providers are made.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.sdk import _configuration

# Private by its name, and yet the class that the SDK's docstring tells distros to derive from.
from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # pyright: ignore[reportPrivateUsage]

from .exporters import LOGS, METRICS, SIGNALS, TRACES, Exporters, Signal

_LOGGING_HANDLER: Final = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"

_BUILDERS: Final[Mapping[Signal, tuple[str, frozenset[str]]]] = {
    TRACES: ("_init_tracing", frozenset({"trace_exporter_names", "span_processors"})),
    METRICS: ("_init_metrics", frozenset({"metric_exporter_names"})),
    LOGS: ("_init_logging", frozenset({"log_exporter_names", "log_record_processors", "setup_logging_handler"})),
}
"""The function of the SDK that makes a signal's provider, and the arguments for which it has work to do."""


def configure_unchanged(kwargs: dict[str, Any]) -> None:
    """Set up whatever the SDK would."""
    # The SDK leaves its keywords without annotations.
    _OTelSDKConfigurator().configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]


def configure(exporters: Exporters, kwargs: dict[str, Any]) -> None:
    """Set up what was found; the environment says it as long as this runs (:meth:`Exporters.environment`)."""
    idle = [signal for signal in SIGNALS if not exporters.chosen[signal] and not _has_work(signal, kwargs)]
    with _without_providers(idle):
        configure_unchanged(kwargs)


def _has_work(signal: Signal, kwargs: Mapping[str, Any]) -> bool:
    """Whether a signal without exporters needs its provider all the same."""
    if signal is LOGS and os.environ.get(_LOGGING_HANDLER, "").strip().lower() == "true":
        return True
    return not _BUILDERS[signal][1].isdisjoint(kwargs)


@contextmanager
def _without_providers(signals: list[Signal]) -> Generator[None]:
    """Keep the SDK from making providers that nobody listens to.

    A tracer provider without exporters is not free: spans are recorded, and every outgoing request that had no trace
    context gets one that says "sampled". The SDK makes all three in one function that cannot be told to leave one out.
    """
    builders = {name: getattr(_configuration, name, None) for name, _ in (_BUILDERS[signal] for signal in signals)}
    for name, builder in builders.items():
        if builder is not None:
            setattr(_configuration, name, _make_no_provider)
    try:
        yield
    finally:
        for name, builder in builders.items():
            if builder is not None:
                setattr(_configuration, name, builder)


def _make_no_provider(*args: object, **kwargs: object) -> None:
    """Take the place of a function of the SDK that makes a provider."""
