"""The cells of interceptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..safety import report
from . import catalogue
from .handover import Cell
from .vocabulary import Action, Phase

if TYPE_CHECKING:
    from .recorder import Recorder


class Interceptor:
    """The cells of one interceptor.

    Args:
        recorder: Where it is recorded.
        name: Its class or function name, bounded.
    """

    __slots__ = ("_actions", "_name", "_recorder", "_request", "_response")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._request = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.REQUEST.value)
        self._response = recorder.shared_cell(catalogue.INTERCEPTOR_DURATION, name, Phase.RESPONSE.value)
        self._actions: dict[Action, Cell] = {}

    def acted(self, action: Action, error: str | None = None) -> None:
        """It dealt with a message.

        Args:
            action: What it did.
            error: With :attr:`Action.ERROR`, the class name of the exception it raised.
        """
        cell = self._actions.get(action)
        if cell is None:
            cell = self._recorder.shared_cell(catalogue.INTERCEPTOR_ACTIONS, self._name, action.value)
            self._actions[action] = cell
        cell.add(1)
        if action is Action.ERROR:
            error = self._recorder.exception_name(error)
            self._recorder.shared_cell(catalogue.INTERCEPTOR_ERRORS, self._name, error).add(1)

    def took(self, phase: Phase, seconds: float) -> None:
        """It took that long, by itself, before (request) or after (response) what it wraps."""
        (self._request if phase is Phase.REQUEST else self._response).add(seconds)

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
