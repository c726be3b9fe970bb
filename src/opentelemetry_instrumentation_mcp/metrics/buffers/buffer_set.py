"""All buffers of one recorder: they are drained together when a reader collects, and unlocked together after a fork."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar
from weakref import WeakSet

from ...core.fail_open import contained
from . import self_check
from .drain_policy import Allowance
from .sink import Sink
from .value_buffer import Cell, Part, Rows, forget_threads, handing_over

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
        self_check.check()
        with handing_over():
            for cell in tuple(self._cells):
                _drain(cell)

    def pass_through(self) -> None:
        """Hand over what every cell holds, and from now on every value at once.

        What was open when the recorder was retired still ends, and its updowns have to come back to where they were.
        """
        self._passes_through = True
        with handing_over():
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
    forget_threads()
    for ledger in tuple(_ledgers):
        ledger.unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)


@contained
def _drain(cell: Cell) -> None:
    # Contained one by one: a sink that raises costs its own cell, not the ones after it.
    cell.drain()


@contained
def _pass_through(cell: Cell) -> None:
    cell.pass_through()
