"""Set-up from a file: OTEL_CONFIG_FILE, read by the package ``opentelemetry-configuration``.

The file decides about every provider and exporter, as the specification says: their variables do not count.
What is added to OpenTelemetry's own reading of it: an instrumentation that the file disables stays disabled, although
the auto-instrumentation loads every one that is installed, and ``console`` exporters write to stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import FunctionType
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.metrics import MeterProvider

from ..package import INSTRUMENTOR
from .exporters import console_exporters

_INSTRUMENTATION: Final = "instrumentation_development"

_settled: set[str] = set()


def configure(path: str) -> bool:
    """Set up what the file describes.

    Args:
        path: The file, YAML or JSON.

    Returns:
        Whether an exporter that pushes is among it.

    Raises:
        RuntimeError: ``opentelemetry-configuration`` is not installed.
        Exception: Whatever that package raises for a file it cannot read.
    """
    try:
        # Without types, and not installed for most.
        package: Any = import_module("opentelemetry.configuration")
    except ImportError as error:
        raise RuntimeError(
            "OTEL_CONFIG_FILE is set, but opentelemetry-configuration is not installed; "
            "pip install opentelemetry-configuration"
        ) from error
    with _without_errors_in_the_log(package.load_config_file):
        configuration: Any = package.load_config_file(path)
    _remember(configuration)
    with _writing_to_stderr(console_exporters()):
        package.configure_sdk(configuration)
    return not configuration.disabled and _pushes(configuration)


def has_set_a_provider() -> bool:
    """Whether a file that failed in the middle has left a provider in place."""
    return isinstance(get_meter_provider(), MeterProvider) or not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider
    )


def is_settled(name: str) -> bool:
    """Whether the file has decided about an instrumentor: it is active by now, or it is disabled."""
    return name in _settled


def _remember(configuration: Any) -> None:
    of_languages = getattr(configuration, _INSTRUMENTATION, None)
    options: Mapping[str, Any] = (of_languages.python if of_languages is not None else None) or {}
    if configuration.disabled:
        # Nothing has been activated. Other instrumentations may still pass on a trace context, as OTEL_SDK_DISABLED
        # leaves them to do.
        _settled.update(name for name, given in options.items() if given and not given.get("enabled", True))
        _settled.add(INSTRUMENTOR)
    else:
        _settled.update(options)


def _pushes(configuration: Any) -> bool:
    metrics = configuration.meter_provider
    readers = metrics.readers if metrics is not None else ()
    others = (configuration.tracer_provider, configuration.logger_provider)
    return any(reader.periodic is not None for reader in readers) or any(other is not None for other in others)


@contextmanager
def _without_errors_in_the_log(function: Any) -> Generator[None]:
    """Keep a module from logging what it is about to raise, with a traceback. Its warnings stay."""
    logger = logging.getLogger(function.__module__)

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@contextmanager
def _writing_to_stderr(exporters: list[type[Any]]) -> Generator[None]:
    """Make stderr the default of the exporters' argument ``out``, for as long as they are set up.

    The file has no place for the stream, and what is built from it is out of reach.
    """
    with ExitStack() as restored:
        for exporter in exporters:
            function = cast("FunctionType", exporter.__init__)
            defaults = function.__defaults__ or ()
            parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
            position = parameters.index("out") - (len(parameters) - len(defaults))
            function.__defaults__ = (*defaults[:position], sys.stderr, *defaults[position + 1 :])
            restored.callback(setattr, function, "__defaults__", defaults)
        yield
