"""What is to be done before a process ends, in bounded time, whatever ends it.

That is to send the last interval of exporters that push, and to remove the file that tells Prometheus of the process.

A process that comes to its end by itself (its input is closed, SIGINT, ``sys.exit``) runs its exit functions. The SDK
flushes there, one signal after the other, with up to 30 seconds for each; here all of them flush at the same time and
share one bound. SIGTERM ends a process without exit functions, and so does uvicorn, which stops in peace and then sends
itself the signal it was sent. For that one signal there is a handler here; it flushes and lets the signal take its
course, so the exit status is the one there would have been.

What this module does not do: flush while the main thread is in a long call outside Python, for Python runs handlers
between two of its own instructions; the process ends when that call returns.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider

from . import file_sd

EXIT_SECONDS: Final = 5.0
"""The most an orderly exit waits for metrics, traces and logs together. A second Ctrl-C ends the wait."""

SIGNAL_SECONDS: Final = 1.5
"""The most a SIGTERM waits, for all of them together. The MCP SDK's stdio client kills a server 2 seconds after this
signal."""


def flush_at_the_end() -> None:
    """Flush the global providers at exit and on SIGTERM. To be called once they are set.

    Target files for Prometheus are removed with the readers at exit, and here on SIGTERM.
    """
    # These, and none that the application may set later where there is none yet: it flushes its own as it likes.
    providers: tuple[Any, ...] = (get_meter_provider(), trace.get_tracer_provider(), get_logger_provider())
    # Exit functions run last in, first out: this one comes before the SDK's, which then has nothing left to do.
    atexit.register(_Exit(providers))
    # Signal handlers can be set by the main thread alone, and whoever has set one already keeps it.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _Termination(providers))


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


class _Termination:
    """The handler of SIGTERM: flush, then end as if there were no handler."""

    def __init__(self, providers: tuple[Any, ...]) -> None:
        self._providers = providers
        self._pid = os.getpid()
        self._flushing = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Not in a forked child, whose threads and connections are not its own; not twice for the impatient.
        if os.getpid() == self._pid and not self._flushing:
            self._flushing = True
            _flush_within(SIGNAL_SECONDS, self._providers)
            self._flushing = False
        # A handler that the application has set since may call the one before it: for that there was none to end
        # the process.
        if signal.getsignal(number) is self:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _flush_within(seconds: float, providers: Sequence[Any]) -> None:
    """Flush in threads: the main one may have been interrupted with a lock of the SDK in its hands."""
    flushes = [_start(lambda each=each: _flush(seconds, each)) for each in providers]
    _wait(seconds, [_start(file_sd.remove_all), *flushes])


def _flush(seconds: float, provider: Any) -> None:
    # The API's own providers have no such method.
    if not _is_shut_down(provider):
        with suppress(Exception):
            provider.force_flush(int(seconds * 1000))


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
