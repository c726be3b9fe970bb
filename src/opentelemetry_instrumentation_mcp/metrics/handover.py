"""The hand-over: what the hot path appended goes to OpenTelemetry's instruments, in bulk, when somebody collects.

A :class:`Cell` is a list of numbers that share their attribute sets, and the sinks they are for. Appending to it is all
a request pays for (one ``list.append``, atomic under the GIL). A drain takes a copy and deletes exactly what it copied,
so values appended meanwhile wait for the next one. :class:`Ledger` drains every cell.

This module uses only the public ``add`` and ``record`` of the instruments.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from opentelemetry.metrics import Counter, Histogram, UpDownCounter

from ..safety import contained

Attributes = dict[str, str | int]

CAP: Final = 256
"""A cell that nobody collects is drained at this length: it bounds memory and keeps one drain below a few ms."""


class Sink(Protocol):
    """Where a cell's values go."""

    def take(self, values: Sequence[float]) -> None:
        """Hand ``values`` to the instrument."""
        ...


class CountOf:
    """Adds how many values there are: one event each."""

    __slots__ = ("_attributes", "_instrument")

    def __init__(self, instrument: Counter, attributes: Attributes) -> None:
        self._instrument = instrument
        self._attributes = attributes

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(len(values), self._attributes)


class SumOf:
    """Adds the sum of the values: steps up and down."""

    __slots__ = ("_attributes", "_instrument")

    def __init__(self, instrument: UpDownCounter, attributes: Attributes) -> None:
        self._instrument = instrument
        self._attributes = attributes

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(sum(values), self._attributes)


class Distribution:
    """Records every value."""

    __slots__ = ("_attributes", "_instrument")

    def __init__(self, instrument: Histogram, attributes: Attributes) -> None:
        self._instrument = instrument
        self._attributes = attributes

    def take(self, values: Sequence[float]) -> None:
        record, attributes = self._instrument.record, self._attributes
        for value in values:
            record(value, attributes)


class Cell:
    """Values waiting for their sinks."""

    __slots__ = ("_cap", "_lock", "_started", "_touched", "sinks", "values")

    def __init__(self, sinks: Sequence[Sink], cap: int) -> None:
        self.sinks = sinks
        self._cap = cap
        self.values: list[float] = []
        # Held through the hand-over. Two drains would delete what only one of them copied, and a collection that met
        # a drain half done would miss values that had already left the cell. Re-entrant, since a garbage collection
        # in there may end a request of its own.
        self._lock = threading.RLock()
        self._started = False
        self._touched = False

    def add(self, value: float) -> None:
        """Keep a value until the next collection.

        The very first one goes through at once: it makes the SDK create the series with this moment as its start.
        """
        values = self.values
        values.append(value)
        if not self._started or len(values) >= self._cap:
            self._started = True
            self.drain()

    def touch(self) -> None:
        """Make a counter's series exist at 0, so that its first event is an increase.

        Histograms are not touched: theirs still begin with the first value.
        """
        if not self._touched and not self._started:
            self._touched = True
            for sink in self.sinks:
                sink.take(())

    def pass_through(self) -> None:
        """Keep nothing from now on: nobody will collect."""
        self._cap = 1
        self.drain()

    def drain(self) -> None:
        """Hand over what the cell holds."""
        with self._lock:
            values = self.values
            count = len(values)
            if not count:
                return
            taken = values[:count]
            del values[:count]
            for sink in self.sinks:
                sink.take(taken)


class Ledger:
    """All cells of one recorder. Cells live as long as it does, since their series do."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []
        self._cap = CAP

    def cell(self, *sinks: Sink) -> Cell:
        """A new cell for these sinks."""
        cell = Cell(sinks, self._cap)
        self._cells.append(cell)
        return cell

    def drain(self) -> None:
        """Hand over what every cell holds. Called at collection, never by a request."""
        for cell in tuple(self._cells):
            _drain(cell)

    def pass_through(self) -> None:
        """Hand over what every cell holds, and from now on every value at once.

        What was open when the recorder was retired still ends, and its updowns have to come back to where they were.
        """
        self._cap = 1
        for cell in tuple(self._cells):
            _pass_through(cell)


@contained
def _drain(cell: Cell) -> None:
    # Contained one by one: a sink that raises costs its own cell, not the ones after it.
    cell.drain()


@contained
def _pass_through(cell: Cell) -> None:
    cell.pass_through()
