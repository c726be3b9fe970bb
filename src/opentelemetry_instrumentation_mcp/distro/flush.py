"""What is to be done before a process ends, in bounded time, whatever ends it.

That is to send the last interval of exporters that push, and to remove the file that tells Prometheus of the process.

A process that comes to its end by itself (its input is closed, SIGINT, ``sys.exit``) runs its exit functions, and the
SDK flushes there. SIGTERM ends it without them, and so does uvicorn, which stops in peace and then sends itself the
signal it was sent. For that one signal there is a handler here; it flushes and lets the signal take its course, so the
exit status is the one there would have been.

What this module does not do: flush while the main thread is in a long call outside Python, for Python runs handlers
between two of its own instructions; the process ends when that call returns.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.metrics import get_meter_provider

from . import file_sd

EXIT_SECONDS: Final = 5.0
"""The most an orderly exit waits for metrics to be sent; the SDK alone would wait for 30."""

SIGNAL_SECONDS: Final = 1.5
"""The most a SIGTERM waits. The MCP SDK's stdio client kills a server 2 seconds after this signal."""


def flush_at_the_end() -> None:
    """Flush the global providers at exit and on SIGTERM. To be called once they are set.

    Target files for Prometheus are removed with the readers at exit, and here on SIGTERM.
    """
    # These, and none that the application may set later where there is none yet: it flushes its own as it likes.
    meters: Any = get_meter_provider()
    providers = (meters, trace.get_tracer_provider(), get_logger_provider())
    # Exit functions run last in, first out: this one comes before the SDK's, which then has nothing left to do.
    atexit.register(_shut_down, meters, os.getpid())
    # Signal handlers can be set by the main thread alone, and whoever has set one already keeps it.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _Termination(providers))


def _shut_down(provider: Any, pid: int) -> None:
    # A forked child has the exit functions of its parent; there the SDK's own does what it always did.
    if os.getpid() == pid and not _is_shut_down(provider):
        # The API's own providers have nothing to shut down, nor the method for it.
        with suppress(Exception):
            provider.shutdown(timeout_millis=EXIT_SECONDS * 1000)


def _is_shut_down(provider: Any) -> bool:
    # The application may have done it; the SDK complains about a second time and has no other way to tell.
    return bool(getattr(provider, "_shutdown", False))


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


def _flush_within(seconds: float, providers: tuple[Any, ...]) -> None:
    """Flush in a thread: the main one may have been interrupted with a lock of the SDK in its hands."""
    arguments = (seconds, providers)
    flusher = threading.Thread(target=_flush, args=arguments, name="opentelemetry-mcp-flush", daemon=True)
    # Python starts no threads any more once it is shutting down.
    with suppress(RuntimeError):
        flusher.start()
        flusher.join(seconds)


def _flush(seconds: float, providers: tuple[Any, ...]) -> None:
    # First, since it takes no time.
    file_sd.remove_all()
    for provider in providers:
        # Again, those of the API have no such method.
        if not _is_shut_down(provider):
            with suppress(Exception):
                provider.force_flush(int(seconds * 1000))
