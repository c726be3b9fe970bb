"""The value buffer: what the hot path appended goes to its sinks, in bulk, when somebody collects.

A :class:`ValueBuffer` is a list of numbers that share their attribute sets, and the sinks they are for. To add to it
(:meth:`ValueBuffer.add`) is all a request pays for: one ``list.append``, atomic under the GIL. A drain takes a copy
and deletes exactly what it copied, so values appended meanwhile wait for the next one. :mod:`.buffer_set` drains every
buffer when a reader collects; :mod:`.drain_policy` decides how many values a buffer keeps. Nothing here knows
OpenTelemetry.

Now and then a request pays for more, while it is *due*: for the first value of a buffer, which goes through at once so
that its series begins with it; for a value with a sampled span around it, one after each drain, which becomes an
exemplar; for a buffer that is full. That happens on an event loop, so it waits for no other drain, and hands over no
more than takes a fraction of a millisecond; the rest stays for the next. Where nobody reads the instruments nothing is
kept.

**Threads.** These are all the operations on shared objects that rely on being atomic. The interpreter's lock makes them
so, and on a free-threaded build the lock of each list, dictionary or set does (PEP 703):

* ``values.append(number)`` and ``values.extend(row)``, where the row is a tuple or a list: no lock of ours is held.
* ``values[:count]``, then ``del values[:count]``: only whoever holds the lock of the buffer deletes, and only from the
  front, so the values that others append in between stay.
* ``len(values)`` against ``due``: if either is out of date, a drain is early or late by a few values.
* ``values.clear()`` where nobody reads or the buffer is abandoned: it drops what nobody is to get.
* ``dict.get`` and ``dict.setdefault`` where buffers are found (:mod:`..store`). Two threads may make
  two buffers for one attribute set; both are drained, since a buffer_set keeps every buffer that it has made.
* ``set.add`` and ``set.discard`` on the numbers of threads at work; each thread looks for its own number only.

A connection and its requests belong to one event loop, so their own attributes need nothing. Attribute sets are
admitted under a lock (:mod:`..store.attribute_sets`). Numbers that several threads count by ``x += 1`` are bounds, not
metrics: a lost one admits one buffer more. ``tests/unit/test_threads.py`` holds all of this with a million values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final

from ...core.fail_open import report
from .batch import Batch
from .drain_policy import BufferBudget, DrainPolicy, RowDrainPolicy
from .sink import SLICE, Sink, SpanHere

DRAIN_SECONDS: Final = 5.0
"""The most a collection waits for one drain, which takes milliseconds."""

_at_work: set[int] = set()
"""Threads that are handing over. A garbage collection in there may end a request of its own; its values must wait,
since the thread may hold locks of the SDK that are not re-entrant."""


@contextmanager
def handing_over() -> Generator[None]:
    """What a thread does while it hands values over."""
    thread = threading.get_ident()
    if thread in _at_work:
        yield
        return
    _at_work.add(thread)
    try:
        yield
    finally:
        _at_work.discard(thread)


def forget_threads() -> None:
    """In a forked child: the threads that were handing over are the parent's."""
    _at_work.clear()


Part = Callable[[Sequence[Sequence[float]]], Iterable[float]]
"""Values for a sink, one for each row, made from the columns of all rows."""


class ValueBuffer:
    """Values waiting for their sinks.

    Args:
        sinks: Where they go.
        budget: Where more room comes from.
    """

    __slots__ = (
        "_began_at_zero",
        "_is_abandoned",
        "_is_unread",
        "_keeps_nothing",
        "_lock",
        "_policy",
        "_started",
        "append",
        "due",
        "sinks",
        "values",
    )

    def __init__(self, sinks: Sequence[Sink], budget: BufferBudget) -> None:
        self.sinks = sinks
        self.values: list[float] = []
        """Always the same list."""
        self.append: Callable[[float], None] = self.values.append
        """Keep a value, and leave what is due to the next that is added. Two places do so for a request's step up,
        since its step down follows: ``Connection.begin`` and ``InboundRequests.begin``."""
        self.due = 1
        """The length at which whoever appends has to call :meth:`drain_due`."""
        self._policy = self._make_policy(budget)
        self._keeps_nothing = False
        # Held through the hand-over. Two drains would delete what only one of them copied, and a collection that met
        # a drain half done would miss values that had already left the buffer.
        self._lock = threading.Lock()
        self._started = False
        self._began_at_zero = False
        self._is_unread = False
        self._is_abandoned = False

    def _make_policy(self, budget: BufferBudget) -> DrainPolicy:
        return DrainPolicy(self.sinks, budget)

    def add(self, value: float) -> None:
        """Keep a value until the next collection."""
        values = self.values
        values.append(value)
        if len(values) >= self.due:
            self.drain_due(value)

    def begin_at_zero(self) -> None:
        """Make a counter's series exist at 0, so that its first event is an increase.

        Histograms are not touched: theirs still begin with the first value.
        """
        if not self._began_at_zero and not self._started and not self._is_abandoned and self._is_read():
            self._began_at_zero = True
            with handing_over():
                for sink in self.sinks:
                    sink.take(())

    def keep_nothing(self) -> None:
        """Keep nothing from now on: nobody will collect."""
        self._keeps_nothing = True
        self.due = self._policy.full = 1
        self.drain()

    def abandon(self) -> None:
        """Take nothing from now on, and hand nothing over."""
        self._is_abandoned = True
        self.due = 1
        self.values.clear()

    def unlock(self) -> None:
        """Make the buffer usable in a forked child, whatever the parent's threads were at."""
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Hand over what the buffer holds, after whoever is at it now.

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
            if self._policy.is_sated:
                # It was full just now; the next collection is to have an exemplar as well.
                self._rest(seek_span=True)
            return
        if not self._is_read():
            self._drop()
            return
        self._is_unread = False
        self._hand_over(count)
        self._rest(seek_span=True)

    def drain_due(self, value: float) -> None:
        """Do what is due now that this thread has added ``value``."""
        if self._is_abandoned or (self._is_unread and not self.sinks[0].has_changed()):
            # Readers come and go for all instruments of a meter at once.
            self.values.clear()
            return
        self._is_unread = False
        held, policy = len(self.values), self._policy
        if policy.seeks_span and held < policy.full:
            span = self.sinks[0].span_here()
            if span is not SpanHere.SAMPLED:
                self.due = policy.due_without_sample(held, span)
                return
        # A buffer that somebody drains is in good hands, and the next value sees to the rest. Only where nothing is to
        # be kept there may be no next one.
        if threading.get_ident() not in _at_work and self._lock.acquire(blocking=self._keeps_nothing):
            try:
                with handing_over():
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
        elif self._keeps_nothing:
            self._hand_over(len(self.values))
        elif self._policy.seeks_span and self.sinks[0].span_here() is SpanHere.SAMPLED:
            self._hand_over_here(value)
            self._rest(seek_span=False)
        else:
            self._hand_over(self._policy.portion())
            self._policy.grow()
            self._rest(seek_span=self._policy.seeks_span)

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
        before, room = len(held) - 1 - held[::-1].index(value), self._policy.portion()
        if before:
            self._hand_over(min(before, room))
        if before <= room:
            del self.values[:1]
            for sink in self.sinks:
                sink.take_here(value)

    def _rest(self, *, seek_span: bool) -> None:
        """Let requests just append, until something is due."""
        if not self._keeps_nothing:
            self.due = self._policy.due_after_drain(seek_span=seek_span)

    def _is_read(self) -> bool:
        return any(sink.is_read() for sink in self.sinks)

    def _drop(self) -> None:
        """Keep nothing as long as nobody reads."""
        count = len(self.values)
        residues = [sink.residue(self.values[:count]) for sink in self.sinks]
        del self.values[:count]
        self._started = self._began_at_zero = False
        self._policy.begin_again()
        self.due = 1
        kept = [residue for residue in residues if residue is not None]
        if kept:
            self.values.insert(0, kept[0])
            self.due = len(self.values) + SLICE
        else:
            self._is_unread = True


class RowBuffer(ValueBuffer):
    """Rows of as many numbers each, one behind the other, of which every sink takes what it makes of them.

    A row is kept by one call, ``values.extend``, and stays whole. No span is sought for it.

    Args:
        width: Numbers in a row.
        parts: What goes where: a function from the columns to values, one for each row, and the sink for these.
        budget: Where more room comes from.
    """

    __slots__ = ("_parts", "_width")

    def __init__(self, width: int, parts: Sequence[tuple[Part, Sink]], budget: BufferBudget) -> None:
        self._width = width
        self._parts = parts
        super().__init__([sink for _, sink in parts], budget)

    def _make_policy(self, budget: BufferBudget) -> DrainPolicy:
        return RowDrainPolicy(self.sinks, budget, self._width)

    def keep(self, row: Sequence[float]) -> None:
        """Keep a row until the next collection. Never raises."""
        try:
            values = self.values
            values.extend(row)
            if len(values) >= self.due:
                self.drain_due(0.0)
        except Exception as error:
            report("RowBuffer.keep", error)

    def _feed(self, values: list[float]) -> None:
        width = self._width
        columns = [values[column::width] for column in range(width)]
        for part, sink in self._parts:
            sink.take(Batch(part(columns)))

    def _hand_over_here(self, value: float) -> None:
        self._hand_over(self._policy.portion())
