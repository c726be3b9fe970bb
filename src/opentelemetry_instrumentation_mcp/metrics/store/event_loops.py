"""The event loops that connections live on: what is open when its loop is closed has no other end.

A task of a closed loop never runs again, so nothing that waits in it sees an end. Applications have one loop for each
question, and leave a session open on it. Who lives on which loop is noted when a connection opens; closed loops are
looked for when a reader collects, and when another loop appears.
"""

from __future__ import annotations

import inspect
import sys
import weakref
from typing import Any, Protocol

from ...core.fail_open import contained


class EndsWithLoop(Protocol):
    """What lives on an event loop."""

    def event_loop_closed(self) -> None:
        """The loop was closed."""
        ...


class EventLoops:
    """Open connections by the event loop they were opened on."""

    def __init__(self) -> None:
        # Nothing here keeps a loop alive.
        self._open: dict[weakref.ref[Any], set[EndsWithLoop]] = {}

    @contained
    def enter(self, connection: EndsWithLoop) -> set[EndsWithLoop] | None:
        """A connection opens on the loop that runs now.

        Returns:
            All that are open on that loop, as long as they are. Whoever ends takes itself out.
        """
        loop = _running()
        if loop is None:
            return None
        key = weakref.ref(loop)
        on_same_loop = self._open.get(key)
        if on_same_loop is None:
            # Where nobody collects, this is the bound: no more than the loops that are open, and one.
            self.settle()
            on_same_loop = self._open.setdefault(key, set())
        on_same_loop.add(connection)
        return on_same_loop

    @contained
    def settle(self) -> None:
        """End what is still open on loops that are closed."""
        for key in tuple(self._open):
            if _is_closed(key()):
                for connection in tuple(self._open.pop(key, ())):
                    connection.event_loop_closed()


def _running() -> Any:
    """The event loop of asyncio that runs in this thread, or what stands for a run of trio."""
    # Not imported here: whoever runs a loop has done so.
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            pass
    trio = sys.modules.get("trio")
    try:
        return trio.lowlevel.current_root_task() if trio is not None else None
    except RuntimeError:
        return None


def _is_closed(loop: Any) -> bool:
    if loop is None:
        return True
    closed = getattr(loop, "is_closed", None)
    # trio has no loop; its first task ends with the run.
    return bool(closed()) if closed is not None else inspect.getcoroutinestate(loop.coro) == inspect.CORO_CLOSED
