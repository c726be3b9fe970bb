"""The hand-over: what the hot path appended goes to OpenTelemetry's instruments, in bulk, when somebody collects.

A :class:`Cell` is a list of numbers that share their attribute sets, and the sinks they are for. Appending to it is all
a request pays for (one ``list.append``, atomic under the GIL). A drain takes a copy and deletes exactly what it copied,
so values appended meanwhile wait for the next one. :class:`Ledger` drains every cell when a reader collects.

Now and then a request pays for more, while it is *due*: for the first value of a cell, which goes through at once so
that its series begins with it; for a value with a sampled span around it, one after each drain, which becomes an
exemplar; for a cell that is full. That happens on an event loop, so it waits for no other drain, and hands over no
more than takes a fraction of a millisecond; the rest stays for the next. Where nobody reads the instruments nothing is
kept.

A cell begins small and gets more room whenever it was full before a reader came, so that room is where the traffic is.
All grow alike, by powers of two: those that a request fills evenly are full at once, and one request in :data:`CAP` or
so pays for all of them. Were each full at a time of its own, one in two hundred would be late, which is more than a
99th percentile takes.

**Threads.** These are all the operations on shared objects that rely on being atomic. The interpreter's lock makes them
so, and on a free-threaded build the lock of each list, dictionary or set does (PEP 703):

* ``values.append(number)`` and ``values.extend(row)``, where the row is a tuple or a list: no lock of ours is held.
* ``values[:count]``, then ``del values[:count]``: only whoever holds the lock of the cell deletes, and only from the
  front, so the values that others append in between stay.
* ``len(values)`` against ``due``: if either is out of date, a drain is early or late by a few values.
* ``values.clear()`` where nobody reads or the cell is abandoned: it drops what nobody is to get.
* ``dict.get`` and ``dict.setdefault`` where cells are found (:mod:`.series`, :mod:`.recorder`). Two threads may make
  two cells for one attribute set; both are drained, since a ledger keeps every cell that it has made.
* ``set.add`` and ``set.discard`` on the numbers of threads at work; each thread looks for its own number only.

A connection and its requests belong to one event loop, so their own attributes need nothing. Attribute sets are
admitted under a lock (:class:`~.instruments.Bound`). Numbers that several threads count by ``x += 1`` are bounds, not
metrics: a lost one admits one cell more. ``tests/unit/test_threads.py`` holds all of this with a million values.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar
from weakref import WeakSet

from opentelemetry import trace

from ..core.fail_open import contained, report
from . import bulk
from .bulk import Batch
from .sinks import SLICE, Sink

CAP: Final = 1024
"""The most values that a cell keeps for a reader: it bounds memory and the time of one drain."""

BUDGET: Final = 90_000
"""Values that all cells of a ledger may keep, besides :data:`SLICE` of each."""

FIRST: Final = 32
"""The most values that a new cell keeps for a reader, as long as half of the budget is left for those that grow."""

DRAIN_SECONDS: Final = 5.0
"""The most a collection waits for one drain, which takes milliseconds."""

_MOST_AT_ONCE: Final = 6 * CAP
"""The most values for all sinks of a cell together, in one drain on an event loop."""

_at_work: set[int] = set()
"""Threads that are handing over. A garbage collection in there may end a request of its own; its values must wait,
since the thread may hold locks of the SDK that are not re-entrant."""


Part = Callable[[Sequence[Sequence[float]]], Iterable[float]]
"""Values for a sink, one for each row, made from the columns of all rows."""


class Allowance:
    """Room that the cells of one ledger share, in values."""

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
        """Room for a new cell, in rows of ``width`` values, of which it may ever have ``most``."""
        rows = max(min(FIRST, most), SLICE)
        return rows if self._left > BUDGET // 2 and self.take((rows - SLICE) * width) else SLICE

    def unlock(self) -> None:
        """Make it usable in a forked child."""
        self._lock = threading.Lock()


class Cell:
    """Values waiting for their sinks.

    Args:
        sinks: Where they go.
        allowance: Where more room comes from.
        width: Values that belong together.
    """

    __slots__ = (
        "_allowance",
        "_full",
        "_is_abandoned",
        "_is_sated",
        "_is_unread",
        "_lock",
        "_most",
        "_passes_through",
        "_room",
        "_seeks_span",
        "_started",
        "_touched",
        "_was_full",
        "due",
        "sinks",
        "values",
    )

    def __init__(self, sinks: Sequence[Sink], allowance: Allowance, width: int = 1) -> None:
        self.sinks = sinks
        self.values: list[float] = []
        """Always the same list: what runs for every message appends to it, and asks :attr:`due` by itself."""
        self._allowance = allowance
        most = min(CAP, _power_of_two(_MOST_AT_ONCE // len(sinks)))
        self._most = most * width
        self._room = allowance.first(width, most) * width
        self._was_full = False
        self._passes_through = False
        self.due = 1
        """The length at which whoever appends has to call :meth:`look_after`."""
        # The length at which it has to drain the cell.
        self._full = 1
        # Held through the hand-over. Two drains would delete what only one of them copied, and a collection that met
        # a drain half done would miss values that had already left the cell.
        self._lock = threading.Lock()
        self._started = False
        self._touched = False
        self._seeks_span = False
        # Whether it seeks none for this collection any more.
        self._is_sated = False
        self._is_unread = False
        self._is_abandoned = False

    def add(self, value: float) -> None:
        """Keep a value until the next collection."""
        values = self.values
        values.append(value)
        if len(values) >= self.due:
            self.look_after(value)

    def touch(self) -> None:
        """Make a counter's series exist at 0, so that its first event is an increase.

        Histograms are not touched: theirs still begin with the first value.
        """
        if not self._touched and not self._started and not self._is_abandoned and self._is_read():
            self._touched = True
            with _working():
                for sink in self.sinks:
                    sink.take(())

    def pass_through(self) -> None:
        """Keep nothing from now on: nobody will collect."""
        self._passes_through = True
        self.due = self._full = 1
        self.drain()

    def abandon(self) -> None:
        """Take nothing from now on, and hand nothing over."""
        self._is_abandoned = True
        self.due = 1
        self.values.clear()

    def unlock(self) -> None:
        """Make the cell usable in a forked child, whatever the parent's threads were at."""
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Hand over what the cell holds, after whoever is at it now.

        Raises:
            TimeoutError: If that one does not come to an end. It may be the one that waits: a handler of a signal that
                came in the middle of it and makes readers collect. The values stay for the next time.
        """
        if not self._lock.acquire(timeout=DRAIN_SECONDS):
            raise TimeoutError("an earlier drain has not come to its end")
        try:
            self._drain()
        finally:
            self._lock.release()

    def _drain(self) -> None:
        count = len(self.values)
        if self._is_abandoned:
            return
        if not count:
            if self._is_sated:
                # It was full just now; the next collection is to have an exemplar as well.
                self._rest(seek_span=True)
            return
        if not self._is_read():
            self._drop()
            return
        self._is_unread = False
        self._hand_over(count)
        self._rest(seek_span=True)

    def look_after(self, value: float) -> None:
        """Do what is due now that this thread has added ``value``."""
        if self._is_abandoned or (self._is_unread and not self.sinks[0].has_changed()):
            # Readers come and go for all instruments of a meter at once.
            self.values.clear()
            return
        self._is_unread = False
        held = len(self.values)
        if self._seeks_span and held < self._full:
            span = trace.get_current_span().get_span_context()
            if not span.trace_flags.sampled:
                # Where spans are, the next one may be sampled. Where there are none, a few looks are enough.
                self.due = min(self._full, held + 1 if span.is_valid else max(2 * held, 1))
                return
        # A cell that somebody drains is in good hands, and the next value sees to the rest. Only where nothing is to be
        # kept there may be no next one.
        if threading.get_ident() not in _at_work and self._lock.acquire(blocking=self._passes_through):
            try:
                with _working():
                    self._serve(value)
            finally:
                self._lock.release()

    def _serve(self, value: float) -> None:
        if not self._is_read():
            self._drop()
        elif not self._started:
            self._started = True
            self._hand_over_here(value)
            # Only now the SDK knows whether a View drops the instrument.
            if self._is_read():
                self._rest(seek_span=True)
            else:
                self._drop()
        elif self._passes_through:
            self._hand_over(len(self.values))
        elif self._seeks_span and trace.get_current_span().get_span_context().trace_flags.sampled:
            self._hand_over_here(value)
            self._rest(seek_span=False)
        else:
            self._hand_over(self._portion())
            self._grow()
            self._rest(seek_span=self._seeks_span)

    def _grow(self) -> None:
        """Have more room from now on: what there was is not enough for what comes between two collections."""
        # Not at the first time: then all that was handed over is as much as there is room for, each time, and who got
        # the most sooner is full when the others are.
        if not self._was_full:
            self._was_full = True
            return
        room = min(2 * self._room, self._most)
        if room > self._room and self._is_quick() and self._allowance.take(room - self._room):
            self._room = room

    def _hand_over(self, count: int) -> None:
        taken = self.values[:count]
        del self.values[:count]
        self._feed(taken)

    def _feed(self, values: list[float]) -> None:
        batch = Batch(values)
        for sink in self.sinks:
            sink.take(batch)

    def _hand_over_here(self, value: float) -> None:
        """Hand over ``value``, which this thread has just added, in its context; and before it what came before it."""
        held = self.values[:]
        if value not in held:
            # Drained by another thread meanwhile.
            return
        before, room = len(held) - 1 - held[::-1].index(value), self._portion()
        if before:
            self._hand_over(min(before, room))
        if before <= room:
            del self.values[:1]
            for sink in self.sinks:
                sink.take_here(value)

    def _rest(self, *, seek_span: bool) -> None:
        """Let requests just append, until the cell is full or one has a span to offer."""
        if self._passes_through:
            return
        self._is_sated = not seek_span
        self._seeks_span = seek_span and any(sink.takes_exemplars() for sink in self.sinks)
        self._full = self._portion()
        self.due = 1 if self._seeks_span else self._full

    def _portion(self) -> int:
        """How many values to keep, and to hand over on an event loop at once."""
        return self._room if self._is_quick() else self._slow_portion()

    def _slow_portion(self) -> int:
        """The same where values are recorded one by one."""
        return SLICE

    def _is_quick(self) -> bool:
        return all(sink.is_quick() for sink in self.sinks)

    def _is_read(self) -> bool:
        return any(sink.is_read() for sink in self.sinks)

    def _drop(self) -> None:
        """Keep nothing as long as nobody reads."""
        count = len(self.values)
        residues = [sink.residue(self.values[:count]) for sink in self.sinks]
        del self.values[:count]
        self._started = self._touched = self._seeks_span = self._is_sated = False
        self.due = 1
        kept = [residue for residue in residues if residue is not None]
        if kept:
            self.values.insert(0, kept[0])
            self.due = len(self.values) + SLICE
        else:
            self._is_unread = True


class Rows(Cell):
    """Rows of as many numbers each, one behind the other, of which every sink takes what it makes of them.

    A row is kept by one call, ``values.extend``, and stays whole; what runs for every message does as :meth:`keep`
    does. No span is sought for it.

    Args:
        width: Numbers in a row.
        parts: What goes where: a function from the columns to values, one for each row, and the sink for these.
        allowance: Where more room comes from.
    """

    __slots__ = ("_parts", "_width")

    def __init__(self, width: int, parts: Sequence[tuple[Part, Sink]], allowance: Allowance) -> None:
        super().__init__([sink for _, sink in parts], allowance, width)
        self._width = width
        self._parts = parts

    def keep(self, row: Sequence[float]) -> None:
        """Keep a row until the next collection."""
        self.values.extend(row)
        if len(self.values) >= self.due:
            self.look_after_rows()

    def look_after_rows(self) -> None:
        """Do what is due now that this thread has added a row. Never raises."""
        try:
            self.look_after(0.0)
        except Exception as error:
            report("Rows.look_after_rows", error)

    def _feed(self, values: list[float]) -> None:
        width = self._width
        columns = [values[column::width] for column in range(width)]
        for part, sink in self._parts:
            sink.take(Batch(part(columns)))

    def _hand_over_here(self, value: float) -> None:
        self._hand_over(self._portion())

    def _rest(self, *, seek_span: bool) -> None:
        super()._rest(seek_span=False)

    def _slow_portion(self) -> int:
        return max(2 * SLICE // len(self.sinks), 1) * self._width


def _power_of_two(limit: int) -> int:
    """The greatest one that is not above the limit; 1 at least."""
    return 1 << max(limit.bit_length() - 1, 0)


_C = TypeVar("_C", bound=Cell)


class Ledger:
    """All cells of one recorder. Cells live as long as it does, since their series do."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []
        self._allowance = Allowance()
        self._passes_through = False
        _ledgers.add(self)

    def cell(self, *sinks: Sink) -> Cell:
        """A new cell for these sinks."""
        return self._with(Cell(sinks, self._allowance))

    def rows(self, width: int, parts: Sequence[tuple[Part, Sink]]) -> Rows:
        """A new cell for rows of ``width`` numbers."""
        return self._with(Rows(width, parts, self._allowance))

    def _with(self, cell: _C) -> _C:
        self._cells.append(cell)
        if self._passes_through:
            cell.pass_through()
        return cell

    def drain(self) -> None:
        """Hand over what every cell holds. Called at collection, never by a request."""
        bulk.check()
        with _working():
            for cell in tuple(self._cells):
                _drain(cell)

    def pass_through(self) -> None:
        """Hand over what every cell holds, and from now on every value at once.

        What was open when the recorder was retired still ends, and its updowns have to come back to where they were.
        """
        self._passes_through = True
        with _working():
            for cell in tuple(self._cells):
                _pass_through(cell)

    def abandon(self) -> None:
        """Hand over nothing, now or later: in a forked child, what these cells hold is its parent's."""
        for cell in self._cells:
            cell.abandon()

    def unlock(self) -> None:
        """Forget what was going on in threads which a fork has left behind."""
        self._allowance.unlock()
        for cell in self._cells:
            cell.unlock()


_ledgers: WeakSet[Ledger] = WeakSet()


def _unlock_all() -> None:
    _at_work.clear()
    for ledger in tuple(_ledgers):
        ledger.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)


@contextmanager
def _working() -> Generator[None]:
    thread = threading.get_ident()
    if thread in _at_work:
        yield
        return
    _at_work.add(thread)
    try:
        yield
    finally:
        _at_work.discard(thread)


@contained
def _drain(cell: Cell) -> None:
    # Contained one by one: a sink that raises costs its own cell, not the ones after it.
    cell.drain()


@contained
def _pass_through(cell: Cell) -> None:
    cell.pass_through()
