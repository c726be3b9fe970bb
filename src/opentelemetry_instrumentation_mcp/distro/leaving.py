"""Runs actions before a process ends without its exit functions, in bounded time.

A process can end in good order without its exit functions in three ways, and each of them is handled here:

- SIGTERM that the application does not handle. There is a handler for this one signal. It sends the signal again with
  the default action afterwards, so the exit status is the same as without the handler.
- A server that handles its signals, stops, and then raises the signal again for the default action: uvicorn does so,
  alone and as gunicorn's worker, and trio. ``signal.raise_signal`` is replaced: it runs the actions first if the
  process is about to end by the signal. Code that has imported the function before that keeps the original.
- A child that ``multiprocessing`` has forked. It ends by ``os._exit``, after its own finalizers. One of them is ours.

This module does nothing while the main thread is in a long call outside Python, since Python runs handlers between two
of its own instructions; the process ends when that call returns. The same holds for a signal that comes in the instant
between an instruction and a call that sleeps. It cannot do anything about SIGKILL.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from ..core.fail_open import guard

SECONDS: Final = 1.5
"""The most an ending waits. The MCP SDK's stdio client kills a server 2 seconds after it has sent SIGTERM."""

_ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM") if hasattr(signal, name)
)
"""The signals that servers stop for; by default each of them ends the process."""

_actions: list[Callable[[], object]] = []

# The first two are inherited by a fork and stay true there; the others are the number of the process it holds for.
_sees_raised_signals = False
_awaits_children = False
_finalized_in = 0
_acting_in = 0


def before_the_end(action: Callable[[], object]) -> None:
    """Run an action before this process, or a forked child of it, ends without its exit functions.

    All actions run at the same time, each in a thread of its own, so one that waits takes no time from the others. This
    does not take the place of an exit function.

    Args:
        action: Does no harm when it is called again.
    """
    if action not in _actions:
        _actions.append(action)
    global _sees_raised_signals
    if not _sees_raised_signals:
        _sees_raised_signals = True
        signal.raise_signal = _acting_first(signal.raise_signal)
    # Only the main thread can set a signal handler. One that is set already stays.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def before_a_forked_child_ends() -> None:
    """Run the actions with the finalizers of this process, a child of ``multiprocessing`` without exit functions."""
    global _finalized_in
    finalize = getattr(sys.modules.get("multiprocessing.util"), "Finalize", None)
    if finalize is not None and _finalized_in != os.getpid():
        _finalized_in = os.getpid()
        # After the application's finalizers.
        finalize(None, _act, exitpriority=-1000)


def await_children() -> None:
    """To be called in a child after a fork. A child of ``multiprocessing`` first drops its parent's finalizers."""
    global _awaits_children
    register = getattr(sys.modules.get("multiprocessing.util"), "register_after_fork", None)
    if register is not None and not _awaits_children:
        _awaits_children = True
        register(before_a_forked_child_ends, _call)


def _call(function: Callable[[], None]) -> None:
    function()


def start(function: Callable[[], object]) -> threading.Thread | None:
    """Run a function in a thread that does not keep the process alive; None if no thread can be started."""
    thread = threading.Thread(target=function, name="otel-mcp-leaving", daemon=True)
    # From 3.12 on Python starts no threads once the interpreter is ending, and the system may have no more of them.
    with suppress(RuntimeError):
        thread.start()
        return thread
    return None


def wait(seconds: float, threads: Sequence[threading.Thread | None]) -> None:
    """Wait until all threads have ended, for no longer than one bound for all of them."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))


def _acting_first(raise_signal: Callable[..., None]) -> Callable[..., None]:
    """``signal.raise_signal`` that runs the actions first if the process is about to end by the signal."""

    @functools.wraps(raise_signal)
    def raise_after_acting(*args: Any, **kwargs: Any) -> None:
        if args and args[0] in _ENDING and signal.getsignal(args[0]) is signal.SIG_DFL:
            _act()
        raise_signal(*args, **kwargs)

    return raise_after_acting


def _terminate(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM: run the actions, then end as if there were no handler."""
    _act()
    # A handler that the application has set since may call this one, and goes on afterwards.
    if signal.getsignal(number) is _terminate:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _act() -> None:
    """Run the actions, in threads: the main thread may hold a lock that they need."""
    global _acting_in
    # Once, if the signal comes again meanwhile.
    if _acting_in == os.getpid():
        return
    _acting_in = os.getpid()
    guarded = guard("what was to be done before this process ends was not done")
    wait(SECONDS, [start(guarded(action)) for action in tuple(_actions)])
    _acting_in = 0
