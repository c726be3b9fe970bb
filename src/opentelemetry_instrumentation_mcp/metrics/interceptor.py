"""The cells of interceptors, and of messages that just pass a sequence of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import sub
from typing import TYPE_CHECKING

from ..safety import report
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

    __slots__ = ("_actions", "_continued", "_passed", "_recorder", "_request", "_response", "name")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self.name = name
        self._request = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.REQUEST.value)
        self._response = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.RESPONSE.value)
        self._actions: dict[Action, Cell] = {}
        self._passed: Cell | None = None
        self._continued: Cell | None = None

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

    def continued(self) -> None:
        """It let a message pass."""
        cell = self._continued
        if cell is None:
            cell = self._recorder.shared_cell(catalogue.INTERCEPTOR_ACTIONS, self.name, Action.CONTINUE.value)
            self._continued = cell
        cell.add(1)

    def passed(self, seconds: float) -> None:
        """It looked at a message for so long, and let it pass."""
        try:
            cell = self._passed
            if cell is None:
                of = {catalogue.INTERCEPTOR: self.name}
                cell = self._passed = self._recorder.cell(
                    (catalogue.INTERCEPTOR_DURATION, {**of, catalogue.PHASE: Phase.REQUEST.value}),
                    (catalogue.INTERCEPTOR_ACTIONS, {**of, catalogue.ACTION: Action.CONTINUE.value}),
                )
            cell.add(seconds)
        except Exception as failure:
            report("Interceptor.passed", failure)

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
