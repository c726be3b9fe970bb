"""Options in the environment that the SDK or an exporter would stumble over.

For a bad value OpenTelemetry raises, which takes every signal away, or prints a traceback, or a line that does not name
the variable, for each exporter anew. So a value is looked at before anything reads it: a bad one costs one line and is
taken away, and what reads the variable then uses its default. Child processes do not inherit it, and say nothing.

What is not looked at here, and fails, costs the exporter or the signal it belongs to: see :mod:`.exporters`.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Final

from .installed import entry_points

_logger = logging.getLogger(__name__)

_Check = Callable[[str], str | None]
"""What is wrong with a value; None for a good one."""


def replace_bad_values() -> None:
    """Take bad values out of ``os.environ``, with one warning for each variable. Empty ones count as unset."""
    for variable in [name for name in os.environ if name.startswith("OTEL_")]:
        if not (value := os.environ[variable].strip()):
            continue
        if variable in _LISTS:
            _keep_good_parts(variable, value)
        elif (check := _check_of(variable)) is not None and (problem := check(value)) is not None:
            default = _DEFAULTS.get(variable)
            _logger.warning("%s=%r %s; using %s", variable, value, problem, default or "the default")
            if default is None:
                del os.environ[variable]
            else:
                os.environ[variable] = default
    for prefix in ("OTEL_BSP_", "OTEL_BLRP_"):
        _fit_batch_into_queue(f"{prefix}MAX_EXPORT_BATCH_SIZE", f"{prefix}MAX_QUEUE_SIZE")
    _leave_out_no_compression()


def _keep_good_parts(variable: str, value: str) -> None:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    problems = {part: problem for part in parts if (problem := _LISTS[variable](part)) is not None}
    if problems:
        rest = ",".join(part for part in parts if part not in problems)
        # Headers hold credentials: neither the variable's value nor a part of it goes into a log.
        shown = "a part" if variable.endswith("HEADERS") else ", ".join(map(repr, problems))
        _logger.warning("%s: %s %s; left out", variable, shown, next(iter(problems.values())))
        if rest:
            os.environ[variable] = rest
        else:
            del os.environ[variable]


def _fit_batch_into_queue(batch: str, queue: str) -> None:
    """The SDK refuses a batch that is larger than the queue it comes from."""
    defaults = {batch: 512, queue: 2048}
    sizes = {variable: int(os.environ.get(variable, "").strip() or defaults[variable]) for variable in defaults}
    if sizes[batch] > sizes[queue]:
        _logger.warning("%s=%d is above %s=%d; using %d", batch, sizes[batch], queue, sizes[queue], sizes[queue])
        os.environ[batch] = str(sizes[queue])


def _leave_out_no_compression() -> None:
    """``none`` is a good value and the default, and the exporter over gRPC refuses it."""
    for variable, _ in reversed(list(_of_otlp("COMPRESSION", _pair))):
        general = os.environ.get("OTEL_EXPORTER_OTLP_COMPRESSION", "none").strip().lower()
        if general == "none" and os.environ.get(variable, "").strip().lower() == "none":
            del os.environ[variable]


def _number(description: str, convert: Callable[[str], float], is_good: Callable[[float], bool]) -> _Check:
    def check(value: str) -> str | None:
        try:
            good = is_good(convert(value))
        except (ValueError, OverflowError):
            good = False
        return None if good else f"is not {description}"

    return check


def _one_of(*values: str) -> _Check:
    return lambda value: None if value.lower() in values else f"is none of {', '.join(values)}"


def _installed(group: str) -> _Check:
    return lambda value: None if entry_points(group, value) else "is not installed"


def _readable(value: str) -> str | None:
    try:
        with open(value, "rb"):
            return None
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _pattern(value: str) -> str | None:
    try:
        re.compile("|".join(part.strip() for part in value.split(",")))
    except re.error as error:
        return f"is not a regular expression ({error})"
    return None


def _pair(part: str) -> str | None:
    return None if part.partition("=")[0].strip() and "=" in part else "is not of the form name=value"


def _detector(part: str) -> str | None:
    return None if part == "*" else _installed("opentelemetry_resource_detector")(part)


def _sampler_argument(value: str) -> str | None:
    # What another package's sampler takes is its own affair.
    ratios = ("traceidratio", "parentbased_traceidratio")
    return _ratio(value) if os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() in ratios else None


def _codes(value: str) -> str | None:
    # grpcio need not be installed, and is not imported for this. Its codes are fixed by its protocol.
    unknown = [code for part in value.split(",") if (code := part.strip()) and code.upper() not in _GRPC_CODES]
    return f"has no code of gRPC in {', '.join(unknown)}" if unknown else None


_GRPC_CODES: Final = frozenset(
    {
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "OUT_OF_RANGE"),
    }
)
_ratio = _number("a number from 0 to 1", float, lambda number: 0 <= number <= 1)
_boolean = _one_of("true", "false")
_seconds = _number("a positive number of seconds", float, lambda number: 0 < number < math.inf)
_milliseconds = _number("a positive number of milliseconds", float, lambda number: 0 < number < math.inf)
_whole_milliseconds = _number("a positive whole number of milliseconds", int, lambda number: number > 0)
_size = _number("a positive whole number", int, lambda number: number > 0)
_limit = _number("a whole number that is not below zero", int, lambda number: number >= 0)


def _of_otlp(option: str, check: _Check) -> Iterator[tuple[str, _Check]]:
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        yield f"OTEL_EXPORTER_OTLP_{signal}{option}", check


_CHECKS: Final[dict[str, _Check]] = {
    "OTEL_SDK_DISABLED": _boolean,
    "OTEL_METRICS_EXEMPLAR_FILTER": _one_of("always_on", "always_off", "trace_based"),
    "OTEL_METRIC_EXPORT_TIMEOUT": _milliseconds,
    "OTEL_TRACES_SAMPLER": _installed("opentelemetry_traces_sampler"),
    "OTEL_TRACES_SAMPLER_ARG": _sampler_argument,
    "OTEL_PYTHON_ID_GENERATOR": _installed("opentelemetry_id_generator"),
    "OTEL_PYTHON_TRACER_CONFIGURATOR": _installed("_opentelemetry_tracer_configurator"),
    "OTEL_PYTHON_METER_CONFIGURATOR": _installed("_opentelemetry_meter_configurator"),
    "OTEL_PYTHON_LOGGER_CONFIGURATOR": _installed("_opentelemetry_logger_configurator"),
    "OTEL_PYTHON_TRACER_PROVIDER": _installed("opentelemetry_tracer_provider"),
    "OTEL_PYTHON_METER_PROVIDER": _installed("opentelemetry_meter_provider"),
    "OTEL_PYTHON_LOGGER_PROVIDER": _installed("opentelemetry_logger_provider"),
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": _boolean,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _boolean,
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": _codes,
    **{f"OTEL_{each}_SCHEDULE_DELAY": _whole_milliseconds for each in ("BSP", "BLRP")},
    **{f"OTEL_{each}_EXPORT_TIMEOUT": _whole_milliseconds for each in ("BSP", "BLRP")},
    **{f"OTEL_{each}_MAX_QUEUE_SIZE": _size for each in ("BSP", "BLRP")},
    **{f"OTEL_{each}_MAX_EXPORT_BATCH_SIZE": _size for each in ("BSP", "BLRP")},
    **dict(_of_otlp("TIMEOUT", _seconds)),
    **dict(_of_otlp("COMPRESSION", _one_of("gzip", "deflate", "none"))),
    **dict(_of_otlp("INSECURE", _boolean)),
    **dict(_of_otlp("CERTIFICATE", _readable)),
    **dict(_of_otlp("CLIENT_KEY", _readable)),
    **dict(_of_otlp("CLIENT_CERTIFICATE", _readable)),
}
"""Each variable for itself. Those of exporters are described in their packages, the others in
``opentelemetry.sdk.environment_variables``. The interval of exports has a default of the distro and is looked at there.
"""

_DEFAULTS: Final = {"OTEL_TRACES_SAMPLER_ARG": "1.0"}
"""Values for variables that the SDK complains about where they are unset."""

_LISTS: Final[dict[str, _Check]] = {
    "OTEL_RESOURCE_ATTRIBUTES": _pair,
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _detector,
    **dict(_of_otlp("HEADERS", _pair)),
}
"""Lists, of which the good parts are kept."""


def _check_of(variable: str) -> _Check | None:
    if check := _CHECKS.get(variable):
        return check
    if variable.endswith(("_COUNT_LIMIT", "_LENGTH_LIMIT")):
        return _limit
    if variable.endswith("_EXCLUDED_URLS"):
        return _pattern
    if variable.endswith("_CREDENTIAL_PROVIDER"):
        return _installed("opentelemetry_otlp_credential_provider")
    return None
