"""What ends a process past its exit functions, and what is done before it does, in bounded time.

Three ways of ending in good order do without exit functions, and each has its answer here:

- SIGTERM where nobody handles it. There is a handler for that one signal; it lets the signal take its course
  afterwards, so the exit status is the one there would have been.
- A server that handles its signals, stops in peace and then raises the one it got once more, for the default action:
  uvicorn does so, alone and as gunicorn's worker, and trio. ``signal.raise_signal`` does first what is to be done, if
  the process is about to end by it. Whoever took that function before has the original.
- A child that ``multiprocessing`` has forked ends by ``os._exit``, after finalizers of its own. One of them is ours.

What this module does not do: anything while the main thread is in a long call outside Python, for Python runs handlers
between two of its own instructions; the process ends when that call returns. SIGKILL cannot be helped.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
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


def before_the_end(action: Callable[[], object], *, first: bool = False) -> None:
    """Do something before this process ends past its exit functions, and before its forked children do.

    Exit functions are another matter: this does not take their place.

    Args:
        action: Does no harm when it is called again. It runs in a thread of its own.
        first: Whether it comes before the other actions, because it waits for nobody.
    """
    if action not in _actions:
        _actions.insert(0 if first else len(_actions), action)
    global _sees_raised_signals
    if not _sees_raised_signals:
        _sees_raised_signals = True
        signal.raise_signal = _acting_first(signal.raise_signal)
    # Signal handlers can be set by the main thread alone, and whoever has set one already keeps it.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def before_a_forked_child_ends() -> None:
    """In a child of ``multiprocessing``: act among the finalizers that it runs instead of its exit functions."""
    global _finalized_in
    finalize = getattr(sys.modules.get("multiprocessing.util"), "Finalize", None)
    if finalize is not None and _finalized_in != os.getpid():
        _finalized_in = os.getpid()
        # After those of the application.
        finalize(None, _act, exitpriority=-1000)


def await_children() -> None:
    """After a fork, in the child. One of ``multiprocessing``'s forgets its parent's finalizers first and calls then."""
    global _awaits_children
    register = getattr(sys.modules.get("multiprocessing.util"), "register_after_fork", None)
    if register is not None and not _awaits_children:
        _awaits_children = True
        register(before_a_forked_child_ends, _call)


def _call(function: Callable[[], None]) -> None:
    function()


def _acting_first(raise_signal: Callable[..., None]) -> Callable[..., None]:
    """``signal.raise_signal`` for a process that may end by it."""

    @functools.wraps(raise_signal)
    def raise_after_acting(*args: Any, **kwargs: Any) -> None:
        if args and args[0] in _ENDING and signal.getsignal(args[0]) is signal.SIG_DFL:
            _act()
        raise_signal(*args, **kwargs)

    return raise_after_acting


def _terminate(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM: act, then end as if there were no handler."""
    _act()
    # A handler that the application has set since may call the one before it: for that there was none to end the
    # process.
    if signal.getsignal(number) is _terminate:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _act() -> None:
    """Act in a thread: the main one may have been interrupted with a lock in its hands."""
    global _acting_in
    # Not twice for the impatient.
    if _acting_in == os.getpid():
        return
    _acting_in = os.getpid()
    thread = threading.Thread(target=_act_here, name="otel-mcp-leaving", daemon=True)
    # Python starts no threads any more once it is shutting down.
    with suppress(RuntimeError):
        thread.start()
        thread.join(SECONDS)
    _acting_in = 0


def _act_here() -> None:
    for action in tuple(_actions):
        with guard("what was to be done before this process ends was not done"):
            action()
