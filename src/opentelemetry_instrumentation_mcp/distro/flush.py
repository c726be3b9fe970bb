"""Sending what was measured last before a process ends, in bounded time, and removing its target file for Prometheus.

A process that comes to its end by itself (its input is closed, SIGINT, ``sys.exit``) runs its exit functions. The SDK
flushes there, one signal after the other, with up to 30 seconds for each; here all of them flush at the same time and
share one bound. What ends a process without its exit functions is seen by :mod:`.leaving`, which flushes as well.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider

from . import file_sd, leaving

EXIT_SECONDS: Final = 5.0
"""The most an orderly exit waits for metrics, traces and logs together. A second Ctrl-C ends the wait."""


def flush_at_the_end() -> None:
    """Flush the global providers before this process ends, or a forked child. To be called once they are set.

    Target files for Prometheus are removed with the readers at exit, and here where exit functions do not run.
    """
    # These, and none that the application may set later where there is none yet: it flushes its own as it likes.
    providers: tuple[Any, ...] = (get_meter_provider(), trace.get_tracer_provider(), get_logger_provider())
    # Exit functions run last in, first out: this one comes before the SDK's, which then has nothing left to do.
    atexit.register(_Exit(providers))
    leaving.before_the_end(lambda: _flush(providers))
    # First, since it takes no time.
    leaving.before_the_end(file_sd.remove_all, first=True)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=leaving.await_children)


def _is_shut_down(provider: Any) -> bool:
    """Whether the application has shut a provider down, or keeps the SDK from doing so at exit."""
    # The SDK complains about a second time. Without the flag, it shows by the exit function that it has taken back.
    exit_functions = (getattr(provider, name, True) for name in ("_atexit_handler", "_at_exit_handler"))
    return bool(getattr(provider, "_shutdown", False)) or None in exit_functions


class _Exit:
    """The exit function: shut the providers down, each in a thread of its own, and wait for all of them together.

    The threads start now and wait, since Python 3.12 and later start none once the interpreter is ending. A child that
    is forked has none of its parent's threads and starts its own.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        # The API's own providers have nothing to shut down, nor the method for it.
        self._providers = [each for each in providers if callable(getattr(each, "shutdown", None))]
        self._arm()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._arm)

    def _arm(self) -> None:
        self._begin = begin = threading.Event()
        self._threads = [_start(lambda each=each: _shut_down_after(begin, each)) for each in self._providers]

    def __call__(self) -> None:
        # Ctrl-C, from somebody who has waited long enough.
        with suppress(KeyboardInterrupt):
            self._begin.set()
            _wait(EXIT_SECONDS, self._threads)
        for provider, thread in zip(self._providers, self._threads, strict=True):
            if thread is not None:
                # The SDK's exit function would begin to wait again.
                atexit.unregister(provider.shutdown)


def _shut_down_after(event: threading.Event, provider: Any) -> None:
    event.wait()
    if not _is_shut_down(provider):
        with suppress(Exception):
            provider.shutdown()


def _flush(providers: Sequence[Any]) -> None:
    """Flush all providers at the same time, so that one whose collector does not answer takes no time from others."""
    _wait(leaving.SECONDS, [_start(lambda each=each: _flush_one(each)) for each in providers])


def _flush_one(provider: Any) -> None:
    # The API's own providers have no such method.
    if not _is_shut_down(provider):
        with suppress(Exception):
            provider.force_flush(int(leaving.SECONDS * 1000))


def _start(function: Callable[[], None]) -> threading.Thread | None:
    """Run a function in a thread that does not keep the process alive; None where no thread can be started."""
    thread = threading.Thread(target=function, name="opentelemetry-mcp-flush", daemon=True)
    # Python starts none any more once it is shutting down, and a system may have no more of them.
    with suppress(RuntimeError):
        thread.start()
        return thread
    return None


def _wait(seconds: float, threads: Sequence[threading.Thread | None]) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
