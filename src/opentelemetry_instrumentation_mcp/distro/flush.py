"""Sends the last measurements before a process ends, in bounded time, and removes its target file for Prometheus.

A process that ends by itself (its input is closed, SIGINT, ``sys.exit``) runs its exit functions. The SDK flushes
there, one signal after the other, with up to 30 seconds for each. Here all signals flush at the same time and share one
bound. For a process that ends without its exit functions, :mod:`.leaving` runs the flush.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
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
    # A provider that the application sets later is the application's to flush.
    found: tuple[Any, ...] = (get_meter_provider(), trace.get_tracer_provider(), get_logger_provider())
    # The API's own providers have nothing to shut down, nor the method for it.
    providers = [each for each in found if callable(getattr(each, "shutdown", None))]
    for provider in providers:
        # This one shuts down in its place. While exit functions run it would be too late: 3.14 calls what it has begun
        # with, whatever is taken out.
        atexit.unregister(provider.shutdown)
    atexit.register(_Exit(providers))
    leaving.before_the_end(file_sd.remove_all)
    for provider in providers:
        leaving.before_the_end(partial(_flush, provider))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=leaving.await_children)


def _is_shut_down(provider: Any) -> bool:
    """Whether the application has shut a provider down, or keeps the SDK from doing so at exit."""
    # The SDK logs a warning for a second shutdown. A provider without the flag has removed its exit function.
    exit_functions = (getattr(provider, name, True) for name in ("_atexit_handler", "_at_exit_handler"))
    return bool(getattr(provider, "_shutdown", False)) or None in exit_functions


class _Exit:
    """The exit function: it shuts the providers down, each in a thread of its own, and waits for all of them together.

    The threads start at once and wait, since from 3.12 on Python starts none once the interpreter is ending. A forked
    child has none of its parent's threads and starts its own.
    """

    def __init__(self, providers: Sequence[Any]) -> None:
        self._providers = providers
        self._arm()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._arm)

    def _arm(self) -> None:
        self._begin = begin = threading.Event()
        self._threads = [leaving.start(partial(_shut_down_after, begin, each)) for each in self._providers]

    def __call__(self) -> None:
        # A second Ctrl-C ends the wait.
        with suppress(KeyboardInterrupt):
            self._begin.set()
            leaving.wait(EXIT_SECONDS, self._threads)
            for provider, thread in zip(self._providers, self._threads, strict=True):
                if thread is None:
                    _shut_down(provider)


def _shut_down_after(event: threading.Event, provider: Any) -> None:
    event.wait()
    _shut_down(provider)


def _shut_down(provider: Any) -> None:
    if not _is_shut_down(provider):
        with suppress(Exception):
            provider.shutdown()


def _flush(provider: Any) -> None:
    if not _is_shut_down(provider):
        with suppress(Exception):
            provider.force_flush(int(leaving.SECONDS * 1000))
