"""A message on its way through a whole chain of middleware: noted at every boundary, understood when it is through.

Where one interceptor ends the next one begins, so that what lies between two of them is watched once, by one coroutine.
It notes three things in a log that the message has for itself: which boundary it was (:func:`_into`, :func:`_out_of`),
when, and what crossed it: a context on the way in, a result or an exception on the way out. Nearly every message goes
straight in and straight out with the same context and the same result. Then the times of the boundaries are all there
is to keep. What any other log says about an interceptor is found out as :func:`.interception.through` would have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Final

from ...metrics.interceptor import Interceptor, Passages
from ...metrics.vocabulary import Action
from ...safety import report
from .interception import through, what_it_made_up, what_it_raised

CallNext = Callable[[Any], Awaitable[Any]]

_Log = list[Any]
"""The chain and the handler; then boundary, time, what crossed it; and so on. A log that is not that of a message which
goes straight has :data:`_ODD` in front, so that its length is never again what such a message finds."""

_ODD: Final[Any] = object()
_IS_OVER: Final[Any] = object()
"""Stands at the end of an odd log whose message is through, while something it called is still at work."""

_FIRST: Final = 2
_NOTES: Final = 3

_AGAIN: Final = 1
"""Added to the number of a boundary that is not crossed as by a message that goes straight: with another context, or
once more, since an interceptor may call the rest of its chain twice."""


def _into(level: int) -> int:
    """The boundary in front of an interceptor; behind the last one stands the handler.

    The number of a boundary is the length of the log where a message comes there that goes straight.
    """
    return _FIRST + _NOTES * level


def _out_of(level: int, depth: int) -> int:
    """The same boundary on the way back. An exception crosses ``~`` of it."""
    return _into(2 * depth + 1 - level)


class Chain:
    """A sequence of middleware, none of which has changed since it was looked at.

    Args:
        middleware: As the server has them, the outermost first; at least one.
        interceptors: Where each is recorded.
        passages: Where messages are recorded that went straight through all of them.
    """

    __slots__ = ("_depth", "_inner_links", "_interceptors", "_outermost", "middleware", "passages")

    def __init__(self, middleware: Sequence[Any], interceptors: Sequence[Interceptor], passages: Passages) -> None:
        self.middleware = list(middleware)
        self.passages = passages
        self._interceptors = interceptors
        self._depth = depth = len(self.middleware)
        links = [(each, _into(level), _out_of(level, depth)) for level, each in enumerate(middleware)]
        self._outermost = links[0][0], links[0][2]
        self._inner_links = links[:0:-1]

    def compose(self, inner: CallNext) -> CallNext:
        """What the SDK makes of the middleware and the handler for one message, watched.

        It makes the same: a function that takes a context and calls the outermost middleware with it and with another
        such function.
        """
        log: _Log = [self, inner]
        call_next = _handler(_FIRST + _NOTES * self._depth, inner, log)
        for middleware, into, out in self._inner_links:
            call_next = _link(middleware, into, out, call_next, log)
        middleware, out = self._outermost
        return _outermost(middleware, out, call_next, log)

    def crossed(self, log: _Log, boundary: int, thing: Any) -> None:
        """A boundary was crossed, not where it would have been if the message had gone straight."""
        try:
            if log[0] is not _ODD:
                log.insert(0, _ODD)
            if log[-1] is not _IS_OVER:
                log.extend((boundary, perf_counter(), thing))
                if boundary in (_out_of(0, self._depth), ~_out_of(0, self._depth)):
                    self._over(log)
            else:
                log[-1:] = (boundary, perf_counter(), thing, _IS_OVER)
                # What the outermost interceptor left alone when it was done may be done now.
                way_back, is_again = divmod(max(boundary, ~boundary) - _FIRST, _NOTES)
                level = 2 * self._depth + 1 - way_back
                if 0 < level < self._depth and not is_again:
                    self._tell(log, level)
        except Exception as error:
            report("Chain.crossed", error)

    async def again(self, log: _Log, into: int, ctx: Any) -> Any:
        """A boundary is crossed where a message that goes straight does not: from here on each is watched by itself."""
        level, inner = (into - _FIRST) // _NOTES, log[log[0] is _ODD :][1]
        out = _out_of(level, self._depth) + _AGAIN
        following = self._apart(level, inner)
        self.crossed(log, into + _AGAIN, ctx)
        try:
            result = await following(ctx)
        except BaseException as error:
            self.crossed(log, ~out, error)
            raise
        self.crossed(log, out, result)
        return result

    def _apart(self, level: int, inner: CallNext) -> CallNext:
        """The chain from a level on, each interceptor watched by itself."""
        if level == self._depth:
            return inner
        middleware, interceptor = self.middleware[level], self._interceptors[level]
        call_next = self._apart(level + 1, inner)

        def call(ctx: Any) -> Awaitable[Any]:
            return through(interceptor, call_next, lambda seen: middleware(ctx, seen), ctx)

        return call

    def _over(self, log: _Log) -> None:
        """The outermost interceptor is done with the message."""
        for level in range(self._depth):
            self._tell(log, level)
        if _is_at_work(log, self._depth):
            log.append(_IS_OVER)
        else:
            # An exception refers to the frames it went through, and these to the log.
            log[1 + _FIRST :] = (_IS_OVER,)

    def _tell(self, log: _Log, level: int) -> None:
        """What one interceptor did, if the log says that it is done."""
        into, out = _into(level), _out_of(level, self._depth)
        calls, answers = (_into(level + 1), _into(level + 1) + _AGAIN), (out - _NOTES, out - _NOTES + _AGAIN)
        failures = tuple(~each for each in answers)
        request, response, running, is_rewritten = -1.0, 0.0, 0, False
        since, context = 0.0, None
        returned: list[Any] = []
        thrown: list[BaseException] = []
        for boundary, time, thing in _notes(log):
            if boundary == into:
                since, context = time, thing
            elif boundary in calls:
                if not running:
                    request, response = (time - since, 0.0) if request < 0 else (request, response + time - since)
                running += 1
                is_rewritten = is_rewritten or thing is not context
            elif boundary in answers or boundary in failures:
                (returned if boundary in answers else thrown).append(thing)
                running -= 1
                since = time
            elif boundary in (out, ~out):
                own, name = 0.0 if running else time - since, None
                if boundary < 0:
                    action, name = what_it_raised(thing, tuple(thrown)) or (Action.ERROR, None)
                elif any(thing is each for each in returned):
                    action = Action.MODIFY if is_rewritten else Action.CONTINUE
                else:
                    action = what_it_made_up(thing, request < 0)
                if request < 0:
                    self._interceptors[level].dealt(own, None, action, name)
                else:
                    after = response + own if returned or thrown else None
                    self._interceptors[level].dealt(request, after, action, name)
                return


def _notes(log: _Log) -> Iterator[tuple[int, float, Any]]:
    """What an odd log has noted."""
    for start in range(1 + _FIRST, len(log) - _NOTES + 1, _NOTES):
        boundary, time, thing = log[start : start + _NOTES]
        yield boundary, time, thing


def _is_at_work(log: _Log, depth: int) -> bool:
    ways_in = range(_into(depth) + _AGAIN + 1)
    return sum(1 if boundary in ways_in else -1 for boundary, _, _ in _notes(log)) > 0


# One of these for every boundary of every message. The parameter has the name that the SDK's own have.


def _outermost(middleware: Any, out: int, call_next: CallNext, log: _Log) -> CallNext:
    async def call(ctx: Any) -> Any:
        if len(log) != _FIRST:
            return await _chain(log).again(log, _FIRST, ctx)
        log.extend((_FIRST, perf_counter(), ctx))
        try:
            result = await middleware(ctx, call_next)
        except BaseException as error:
            _chain(log).crossed(log, ~out, error)
            raise
        if len(log) == out and log[-1] is result:
            times = log[_FIRST + 1 :: _NOTES]
            times.append(perf_counter())
            log[0].passages.passed(times)
        else:
            _chain(log).crossed(log, out, result)
        return result

    return call


def _link(middleware: Any, into: int, out: int, call_next: CallNext, log: _Log) -> CallNext:
    async def call(ctx: Any) -> Any:
        if len(log) != into or log[-1] is not ctx:
            return await _chain(log).again(log, into, ctx)
        log.extend((into, perf_counter(), ctx))
        try:
            result = await middleware(ctx, call_next)
        except BaseException as error:
            _chain(log).crossed(log, ~out, error)
            raise
        if len(log) == out and log[-1] is result:
            log.extend((out, perf_counter(), result))
        else:
            _chain(log).crossed(log, out, result)
        return result

    return call


def _handler(into: int, inner: CallNext, log: _Log) -> CallNext:
    async def call(ctx: Any) -> Any:
        if len(log) != into or log[-1] is not ctx:
            return await _chain(log).again(log, into, ctx)
        log.extend((into, perf_counter(), ctx))
        try:
            result = await inner(ctx)
        except BaseException as error:
            _chain(log).crossed(log, ~(into + _NOTES), error)
            raise
        if len(log) == into + _NOTES:
            log.extend((into + _NOTES, perf_counter(), result))
        else:
            _chain(log).crossed(log, into + _NOTES, result)
        return result

    return call


def _chain(log: _Log) -> Chain:
    return log[1] if log[0] is _ODD else log[0]
