"""All buffers of one recorder: they are drained together when a reader collects, and unlocked together after a fork."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar
from weakref import WeakSet

from ...core.fail_open import contained
from . import self_check
from .drain_policy import BufferBudget
from .sink import Sink
from .value_buffer import Part, RowBuffer, ValueBuffer, forget_threads, handing_over

_C = TypeVar("_C", bound=ValueBuffer)


class BufferSet:
    """All buffers of one recorder. Buffers live as long as it does, since their series do."""

    def __init__(self) -> None:
        self._buffers: list[ValueBuffer] = []
        self._budget = BufferBudget()
        self._keeps_nothing = False
        _buffer_sets.add(self)

    def buffer(self, *sinks: Sink) -> ValueBuffer:
        """A new buffer for these sinks."""
        return self._with(ValueBuffer(sinks, self._budget))

    def rows(self, width: int, parts: Sequence[tuple[Part, Sink]]) -> RowBuffer:
        """A new buffer for rows of ``width`` numbers."""
        return self._with(RowBuffer(width, parts, self._budget))

    def _with(self, buffer: _C) -> _C:
        self._buffers.append(buffer)
        if self._keeps_nothing:
            buffer.keep_nothing()
        return buffer

    def drain(self) -> None:
        """Hand over what every buffer holds. Called at collection, never by a request."""
        self_check.check()
        with handing_over():
            for buffer in tuple(self._buffers):
                _drain(buffer)

    def keep_nothing(self) -> None:
        """Hand over what every buffer holds, and from now on every value at once.

        What was open when the recorder was retired still ends, and its updowns have to come back to where they were.
        """
        self._keeps_nothing = True
        with handing_over():
            for buffer in tuple(self._buffers):
                _keep_nothing(buffer)

    def abandon(self) -> None:
        """Hand over nothing, now or later: in a forked child, what these buffers hold is its parent's."""
        for buffer in self._buffers:
            buffer.abandon()

    def unlock(self) -> None:
        """Forget what was going on in threads which a fork has left behind."""
        self._budget.unlock()
        for buffer in self._buffers:
            buffer.unlock()


_buffer_sets: WeakSet[BufferSet] = WeakSet()


def _unlock_all() -> None:
    forget_threads()
    for buffer_set in tuple(_buffer_sets):
        buffer_set.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)


@contained
def _drain(buffer: ValueBuffer) -> None:
    # Contained one by one: a sink that raises costs its own buffer, not the ones after it.
    buffer.drain()


@contained
def _keep_nothing(buffer: ValueBuffer) -> None:
    buffer.keep_nothing()
