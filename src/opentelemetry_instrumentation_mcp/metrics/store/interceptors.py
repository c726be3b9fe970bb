"""The buffers of interceptors, and of messages that just pass a sequence of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import sub
from typing import Final

from ...core.fail_open import report
from .. import catalogue
from ..buffers.value_buffer import Part, ValueBuffer
from ..vocabulary import Action, Phase
from .bounds import BoundedTable
from .metric_buffers import MetricBuffers, Values
from .shared import Shared

_MOST_PASSAGES: Final = 50
"""Sequences of interceptors that messages can pass: as many as servers are told apart."""


class Interceptor:
    """The buffers of one interceptor.

    Args:
        shared: Where it is recorded.
        name: Its class or function name, bounded.
    """

    __slots__ = ("_actions", "_continued", "_passed", "_request", "_response", "_shared", "name")

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared = shared
        self.name = name
        self._request = shared.buffers.shared_buffer(catalogue.INTERCEPTOR_DURATION, name, Phase.REQUEST.value)
        self._response = shared.buffers.shared_buffer(catalogue.INTERCEPTOR_DURATION, name, Phase.RESPONSE.value)
        self._actions: dict[Action, ValueBuffer] = {}
        # Those of passed() and let_through(), as soon as they are needed.
        self._passed: ValueBuffer | None = None
        self._continued: ValueBuffer | None = None

    def acted(self, action: Action, error: str | None = None) -> None:
        """It dealt with a message.

        Args:
            action: What it did.
            error: With :attr:`Action.ERROR`, the class name of the exception it raised.
        """
        buffer = self._actions.get(action)
        if buffer is None:
            buffer = self._shared.buffers.shared_buffer(catalogue.INTERCEPTOR_ACTIONS, self.name, action.value)
            self._actions[action] = buffer
        buffer.add(1)
        if action is Action.ERROR:
            error = self._shared.bounds.exception_name(error)
            self._shared.buffers.shared_buffer(catalogue.INTERCEPTOR_ERRORS, self.name, error).add(1)

    def let_through(self) -> None:
        """It let a message pass."""
        buffer = self._continued
        if buffer is None:
            buffer = self._shared.buffers.shared_buffer(catalogue.INTERCEPTOR_ACTIONS, self.name, Action.CONTINUE.value)
            self._continued = buffer
        buffer.add(1)

    def passed(self, seconds: float) -> None:
        """It looked at a message and let it pass, which took so long."""
        buffer = self._passed
        if buffer is None:
            of = {catalogue.INTERCEPTOR: self.name}
            self._passed = buffer = self._shared.buffers.buffer(
                (catalogue.INTERCEPTOR_DURATION, {**of, catalogue.PHASE: Phase.REQUEST.value}),
                (catalogue.INTERCEPTOR_ACTIONS, {**of, catalogue.ACTION: Action.CONTINUE.value}),
            )
        buffer.add(seconds)

    def dealt(self, request: float, response: float | None, action: Action, error: str | None = None) -> None:
        """It is done with a message: what it took before and after what it wraps, if that answered, and what it did."""
        try:
            self._request.add(request)
            if response is not None:
                self._response.add(response)
            buffer = self._actions.get(action)
            if buffer is None or error is not None:
                self.acted(action, error)
            else:
                buffer.add(1)
        except Exception as failure:
            report("Interceptor.dealt", failure)


class InterceptorSequence:
    """Messages that went straight through a sequence of interceptors, each of which passed them on as they were.

    All that is kept of one are the times at which it crossed the boundaries between them, on its way in and out. How
    long each interceptor took is computed when a reader collects.

    Args:
        buffers: Where they are recorded.
        names: The bounded names of the interceptors, the outermost first.
    """

    __slots__ = ("passed",)

    def __init__(self, buffers: MetricBuffers, names: Sequence[str]) -> None:
        last = 2 * len(names) + 1
        parts: list[tuple[Part, catalogue.Metric, Values]] = []
        for place, name in enumerate(names):
            of = {catalogue.INTERCEPTOR: name}
            request, response = {catalogue.PHASE: Phase.REQUEST.value}, {catalogue.PHASE: Phase.RESPONSE.value}
            before, after = partial(_between, place, place + 1), partial(_between, last - place - 1, last - place)
            parts.append((before, catalogue.INTERCEPTOR_DURATION, {**of, **request}))
            parts.append((after, catalogue.INTERCEPTOR_DURATION, {**of, **response}))
            parts.append((_once, catalogue.INTERCEPTOR_ACTIONS, {**of, catalogue.ACTION: Action.CONTINUE.value}))
        self.passed: Callable[[Sequence[float]], None] = buffers.rows(last + 1, *parts).keep
        """A message went through: when it crossed the boundaries (``perf_counter`` seconds). Never raises."""


class Interceptors:
    """Finds interceptors and sequences of them.

    Args:
        shared: Where they are recorded.
        limit: How many are told apart.
    """

    def __init__(self, shared: Shared, limit: int) -> None:
        self._shared = shared
        self._names = BoundedTable(limit)
        self._known: dict[str, Interceptor] = {}
        self._sequences: dict[tuple[str, ...], InterceptorSequence] = {}

    def named(self, name: str) -> Interceptor:
        """The interceptor of a class or function name."""
        known = self._known.get(name)
        if known is None:
            name = self._names.admit(name)
            known = self._known.setdefault(name, Interceptor(self._shared, name))
        return known

    def interceptor_sequence(self, interceptors: Sequence[Interceptor]) -> InterceptorSequence | None:
        """Messages that go straight through these interceptors; None where too many sequences are told apart."""
        names = tuple(each.name for each in interceptors)
        known = self._sequences.get(names)
        if known is None and len(self._sequences) < _MOST_PASSAGES:
            known = self._sequences.setdefault(names, InterceptorSequence(self._shared.buffers, names))
        return known


def _between(earlier: int, later: int, columns: Sequence[Sequence[float]]) -> Iterable[float]:
    return map(sub, columns[later], columns[earlier])


def _once(columns: Sequence[Sequence[float]]) -> Iterable[float]:
    """One event for each row."""
    return columns[0]
