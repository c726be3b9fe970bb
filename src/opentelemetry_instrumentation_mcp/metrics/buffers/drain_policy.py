"""How many values a buffer keeps, and at which of them whoever appends has to drain it.

A buffer begins small and gets more room whenever it was full before a reader came, so that room is where the traffic
is. All grow alike, by powers of two: those that a request fills evenly are full at once, and one request in
:data:`CAP` or so pays for all of them. Were each full at a time of its own, one in two hundred would be late, which is
more than a 99th percentile takes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from .sink import SLICE, Sink, SpanHere

CAP: Final = 1024
"""The most values that a buffer keeps for a reader: it bounds memory and the time of one drain."""

BUDGET: Final = 90_000
"""Values that all buffers of a set may keep, besides :data:`~.sink.SLICE` of each."""

FIRST: Final = 32
"""The most values that a new buffer keeps for a reader, as long as half of the budget is left for those that grow."""

_MOST_AT_ONCE: Final = 6 * CAP
"""The most values for all sinks of a buffer together, in one drain on an event loop."""


class BufferBudget:
    """Room that the buffers of one set share, in values."""

    def __init__(self) -> None:
        self._left = BUDGET
        self._lock = threading.Lock()

    def take(self, values: int) -> bool:
        """Take room for so many more; False if there is none, or if another thread is at it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            is_enough = values <= self._left
            if is_enough:
                self._left -= values
            return is_enough
        finally:
            self._lock.release()

    def first(self, width: int, most: int) -> int:
        """Room for a new buffer, in rows of ``width`` values, of which it may ever have ``most``."""
        rows = max(min(FIRST, most), SLICE)
        return rows if self._left > BUDGET // 2 and self.take((rows - SLICE) * width) else SLICE

    def unlock(self) -> None:
        """Make it usable in a forked child."""
        self._lock = threading.Lock()


class DrainPolicy:
    """The room of one buffer.

    Args:
        sinks: Where its values go; how quickly they take them decides how many are kept.
        budget: Where more room comes from.
        width: Values that belong together.
    """

    __slots__ = ("_budget", "_most", "_room", "_sinks", "_was_full", "full", "is_sated", "seeks_span")

    def __init__(self, sinks: Sequence[Sink], budget: BufferBudget, width: int = 1) -> None:
        self._sinks = sinks
        self._budget = budget
        most = min(CAP, _power_of_two(_MOST_AT_ONCE // len(sinks)))
        self._most = most * width
        self._room = budget.first(width, most) * width
        self._was_full = False
        self.full = 1
        """The length at which the buffer has to be drained."""
        self.seeks_span = False
        """Whether the next value with a sampled span around it becomes an exemplar."""
        self.is_sated = False
        """Whether it seeks none for this collection any more."""

    def portion(self) -> int:
        """How many values to keep, and to hand over on an event loop at once."""
        return self._room if self._is_quick() else self._slow_portion()

    def grow(self) -> None:
        """Have more room from now on: what there was is not enough for what comes between two collections."""
        # Not at the first time: then all that was handed over is as much as there is room for, each time, and who got
        # the most sooner is full when the others are.
        if not self._was_full:
            self._was_full = True
            return
        room = min(2 * self._room, self._most)
        if room > self._room and self._is_quick() and self._budget.take(room - self._room):
            self._room = room

    def due_after_drain(self, *, seek_span: bool) -> int:
        """The length at which something is due next: let requests just append, until the buffer is full or one has a
        span to offer."""
        self.is_sated = not seek_span
        self.seeks_span = seek_span and any(sink.takes_exemplars() for sink in self._sinks)
        self.full = self.portion()
        return 1 if self.seeks_span else self.full

    def due_without_sample(self, held: int, span: SpanHere) -> int:
        """The same after a value whose span is not sampled, in a buffer that holds so many."""
        # Where spans are, the next one may be sampled. Where there are none, a few looks are enough.
        return min(self.full, max(2 * held, 1) if span is SpanHere.NONE else held + 1)

    def begin_again(self) -> None:
        """Nothing was handed over yet, as far as whoever reads now is concerned."""
        self.seeks_span = self.is_sated = False

    def _slow_portion(self) -> int:
        """The portion where values are recorded one by one."""
        return SLICE

    def _is_quick(self) -> bool:
        return all(sink.is_quick() for sink in self._sinks)


class RowDrainPolicy(DrainPolicy):
    """The room of a buffer of rows, for which no span is sought."""

    __slots__ = ("_width",)

    def __init__(self, sinks: Sequence[Sink], budget: BufferBudget, width: int) -> None:
        super().__init__(sinks, budget, width)
        self._width = width

    def due_after_drain(self, *, seek_span: bool) -> int:
        return super().due_after_drain(seek_span=False)

    def _slow_portion(self) -> int:
        return max(2 * SLICE // len(self._sinks), 1) * self._width


def _power_of_two(limit: int) -> int:
    """The greatest one that is not above the limit; 1 at least."""
    return 1 << max(limit.bit_length() - 1, 0)
