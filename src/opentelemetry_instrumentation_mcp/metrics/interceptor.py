"""The cells of interceptors, and of messages that just pass a sequence of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import sub
from typing import TYPE_CHECKING

from ..core.fail_open import report
from . import catalogue
from .handover import Cell, Part
from .vocabulary import Action, Phase

if TYPE_CHECKING:
    from .recorder import Recorder


class Interceptor:
    """The cells of one interceptor.

    Args:
        recorder: Where it is recorded.
        name: Its class or function name, bounded.
    """

    __slots__ = ("_actions", "_recorder", "_request", "_response", "continued", "name", "passed")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self.name = name
        self._request = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.REQUEST.value)
        self._response = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.RESPONSE.value)
        self._actions: dict[Action, Cell] = {}
        self.passed: Cell | None = None
        """That of :meth:`looked`, as soon as there is one."""
        self.continued: Cell | None = None
        """That of :meth:`let_through`."""

    def acted(self, action: Action, error: str | None = None) -> None:
        """It dealt with a message.

        Args:
            action: What it did.
            error: With :attr:`Action.ERROR`, the class name of the exception it raised.
        """
        cell = self._actions.get(action)
        if cell is None:
            cell = self._recorder.shared_cell(catalogue.INTERCEPTOR_ACTIONS, self.name, action.value)
            self._actions[action] = cell
        cell.add(1)
        if action is Action.ERROR:
            error = self._recorder.exception_name(error)
            self._recorder.shared_cell(catalogue.INTERCEPTOR_ERRORS, self.name, error).add(1)

    def let_through(self) -> Cell:
        """The cell for messages it let pass; a 1 is one of them."""
        cell = self._recorder.shared_cell(catalogue.INTERCEPTOR_ACTIONS, self.name, Action.CONTINUE.value)
        self.continued = cell
        return cell

    def looked(self) -> Cell:
        """The cell for messages it looked at and let pass, by the seconds it took."""
        of = {catalogue.INTERCEPTOR: self.name}
        self.passed = cell = self._recorder.cell(
            (catalogue.INTERCEPTOR_DURATION, {**of, catalogue.PHASE: Phase.REQUEST.value}),
            (catalogue.INTERCEPTOR_ACTIONS, {**of, catalogue.ACTION: Action.CONTINUE.value}),
        )
        return cell

    def dealt(self, request: float, response: float | None, action: Action, error: str | None = None) -> None:
        """It is done with a message: what it took before and after what it wraps, if that answered, and what it did."""
        try:
            self._request.add(request)
            if response is not None:
                self._response.add(response)
            cell = self._actions.get(action)
            if cell is None or error is not None:
                self.acted(action, error)
            else:
                cell.add(1)
        except Exception as failure:
            report("Interceptor.dealt", failure)


class Passages:
    """Messages that went straight through a sequence of interceptors, each of which passed them on as they were.

    All that is kept of one are the times at which it crossed the boundaries between them, on its way in and out. How
    long each interceptor took is computed when a reader collects.

    Args:
        recorder: Where they are recorded.
        names: The bounded names of the interceptors, the outermost first.
    """

    __slots__ = ("cell",)

    def __init__(self, recorder: Recorder, names: Sequence[str]) -> None:
        last = 2 * len(names) + 1
        parts: list[tuple[Part, catalogue.Metric, dict[str, str | int | None]]] = []
        for place, name in enumerate(names):
            of = {catalogue.INTERCEPTOR: name}
            request, response = {catalogue.PHASE: Phase.REQUEST.value}, {catalogue.PHASE: Phase.RESPONSE.value}
            before, after = partial(_between, place, place + 1), partial(_between, last - place - 1, last - place)
            parts.append((before, catalogue.INTERCEPTOR_DURATION, {**of, **request}))
            parts.append((after, catalogue.INTERCEPTOR_DURATION, {**of, **response}))
            parts.append((_once, catalogue.INTERCEPTOR_ACTIONS, {**of, catalogue.ACTION: Action.CONTINUE.value}))
        self.cell = recorder.rows(last + 1, *parts)
        """A row for each message: when it crossed the boundaries (``perf_counter`` seconds)."""


def _between(earlier: int, later: int, columns: Sequence[Sequence[float]]) -> Iterable[float]:
    return map(sub, columns[later], columns[earlier])


def _once(columns: Sequence[Sequence[float]]) -> Iterable[float]:
    """One event for each row."""
    return columns[0]
