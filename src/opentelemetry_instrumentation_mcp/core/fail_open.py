"""Fail open: a bug of ours costs a metric, never a request of the application.

:class:`guard` does this, as a decorator or in a ``with`` statement, and logs what was lost. Every function that an SDK
wrapper calls is :func:`contained`, which is the guard of a function that records. The wrappers themselves hold only
control flow around the application's own call, so the application's values and exceptions pass through unchanged.

A guard costs another call. A function of the hot path has a ``try`` of its own in its place, and calls :func:`report`.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_logger = logging.getLogger("opentelemetry_instrumentation_mcp")

QUIET_SECONDS: Final = 60.0
"""A failing function is reported once in this time; what it swallowed meanwhile is counted in the next line."""

_reports: dict[str, tuple[float, int]] = {}


class guard:
    """Lets no exception out of a function or a ``with`` block; logs what was lost instead.

    A guarded function returns None where it would have raised. Only :class:`Exception` is held back: what ends a task
    or the process passes.

    Args:
        lost: A sentence about what was lost, in the application's terms. See :func:`report_failure`.
    """

    __slots__ = ("_lost",)

    def __init__(self, lost: str) -> None:
        self._lost = lost

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R | None]:
        lost = self._lost

        @functools.wraps(function)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                report_failure(lost, error)
                return None

        return guarded

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        report_failure(self._lost, error)
        return True


def contained(function: Callable[_P, _R]) -> Callable[_P, _R | None]:
    """The guard of a function that records: a failure costs a metric, and the log line names the function."""
    return guard(_metric_lost_in(function.__qualname__))(function)


def report(where: str, error: BaseException) -> None:
    """Log that a metric was lost in the function ``where``. See :func:`report_failure` for the rest."""
    report_failure(_metric_lost_in(where), error)


def _metric_lost_in(where: str) -> str:
    return f"a metric was lost in {where}"


def report_failure(what: str, error: BaseException) -> None:
    """Log ``what``, a sentence about something that failed, at most once per :data:`QUIET_SECONDS`. Never raises.

    Args:
        what: What went wrong, in the application's terms: "a scrape failed", "the metrics page was not opened".
        error: Its type and the line that raised it are logged. Its text is for DEBUG alone: it may quote what a peer
            or the application sent.
    """
    try:
        now = time.monotonic()
        last, swallowed = _reports.get(what, (now - QUIET_SECONDS, 0))
        if now - last < QUIET_SECONDS:
            _reports[what] = (last, swallowed + 1)
            return
        _reports[what] = (now, 0)
        again = f" ({swallowed} more since the last report)" if swallowed else ""
        _logger.warning("%s: %s at %s%s", what, type(error).__name__, _line(error), again)
        _logger.debug("%s", what, exc_info=error)
    except Exception:
        # A logging handler of the application raises: there is no other place to log to.
        return


def is_refused_at_the_end(error: BaseException) -> bool:
    """Whether Python has refused something, a new thread for instance, because the interpreter is ending.

    It does so from 3.12 on. There is no way to find that out beforehand.
    """
    return isinstance(error, RuntimeError) and "interpreter shutdown" in str(error)


def _line(error: BaseException) -> str:
    """The line of code that raised."""
    traceback = error.__traceback__
    if traceback is None:
        return "an unknown line"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}"
