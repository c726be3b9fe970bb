"""A message on its way through a whole chain of middleware: timed at every boundary, understood when it is through.

Where one interceptor ends the next one begins, so that what lies between two of them is watched once, by one coroutine.
Nearly every message goes straight in and straight out, and everybody passes on the context and the result he was given.
Then the times of the boundaries are all there is to keep, and their number tells whether a message went straight.
As soon as one does not, what crosses the boundaries is noted as well (:class:`_Log`), and what that says about each
interceptor is found out as :func:`.interception.through` would have.

The outermost middleware of the SDK's own servers is that for spans. Where there are none to make it passes a message
on, and does nothing else: that is done here in its place, by two coroutines less (:class:`UntracedMiddleware`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol

from ...core.fail_open import contained
from ...metrics.events import Interceptor, InterceptorSequence
from ...metrics.vocabulary import Action
from .interception import through, what_it_made_up, what_it_raised

CallNext = Callable[[Any], Awaitable[Any]]

MOST_LEVELS: Final = 20
"""Middleware in a chain that is watched as one."""


class UntracedMiddleware(Protocol):
    """The SDK's middleware for spans while there are none to make: it passes messages on (:mod:`..v2.untraced`)."""

    restore: Callable[..., None]
    """Called when a message is through, with the context it had and the exception, if there was one."""

    def stands_for(self, middleware: Any) -> bool | None:
        """Whether this is the middleware, and does what we know."""
        ...

    def idle_context(self, message: Any) -> Any:
        """The current context, where a message needs no span; None where the middleware has something to do."""
        ...


class SpanBypass:
    """What the SDK's middleware for spans does while there are none to make.

    Attributes:
        middleware: It, once the SDK's module is patched, where it can be done in its place.
    """

    def __init__(self) -> None:
        self.middleware: UntracedMiddleware | None = None


class _Note(NamedTuple):
    """Something crossed a boundary.

    Attributes:
        boundary: Its place on the straight way: ``level`` in front of an interceptor (behind the last one stands the
            handler), ``2 * depth + 1 - level`` on the way back, and ``~`` of that for an exception.
        time: When (``perf_counter`` seconds).
        thing: The context on the way in, the result or the exception on the way back.
        again: Whether it is part of a call of its own, which started off the straight way: with another context, or
            once more, since an interceptor may call the rest of its chain twice.
    """

    boundary: int
    time: float
    thing: Any
    again: bool = False


class _Log:
    """What is noted of a message that does not go straight."""

    __slots__ = ("is_finished", "notes")

    def __init__(self, notes: list[_Note]) -> None:
        self.notes = notes
        self.is_finished = False
        """Whether the outermost interceptor is done. What it has called may still be at work."""


class Chain:
    """A sequence of middleware, none of which has changed since it was looked at.

    Args:
        middleware: As the server has them, the outermost first; at least one, :data:`MOST_LEVELS` at most.
        interceptors: Where each is recorded.
        passages: Where messages are recorded that went straight through all of them.
        untraced: What the first of them does while there are no spans to make, if it is the SDK's for spans.
    """

    __slots__ = ("_depth", "_interceptors", "compose", "middleware")

    def __init__(
        self,
        middleware: Sequence[Any],
        interceptors: Sequence[Interceptor],
        passages: InterceptorSequence,
        untraced: UntracedMiddleware | None = None,
    ) -> None:
        self.middleware = list(middleware)
        self._interceptors = interceptors
        self._depth = len(self.middleware)
        self.compose: Callable[[CallNext], CallNext] = _composer(self._depth)(self, *middleware, passages.passed)
        """Makes of the handler for one message what the SDK makes of it and the middleware, watched: a function that
        takes a context and calls the outermost middleware with it and with another such function."""
        if untraced is not None:
            bind = _composer(self._depth, is_untraced=True)
            self.compose = bind(self, *middleware, passages.passed, self.compose, untraced)

    @contained
    def log(self, times: Sequence[float], crossed: int, context: Any, result: Any) -> _Log:
        """Begin to take notes of a message that went straight up to now.

        None, if that fails, costs the message its place in the metrics and nothing else.

        Args:
            times: When it crossed the boundaries.
            crossed: How many of them it has crossed.
            context: What it came with.
            result: What the handler answered, if it is on its way back.
        """
        depth = self._depth
        return _Log([_Note(place, times[place], context if place <= depth else result) for place in range(crossed)])

    @contained
    def crossed(self, log: _Log | None, boundary: int, thing: Any, again: bool = False) -> None:
        """A boundary was crossed off the straight way."""
        if log is None:
            return
        log.notes.append(_Note(boundary, perf_counter(), thing, again))
        level = 2 * self._depth + 1 - max(boundary, ~boundary)
        if again or level >= self._depth:
            return
        if level == 0:
            self._finished(log)
        elif log.is_finished:
            # What the outermost interceptor has left alone is done now.
            self._record(log, level)

    async def again(self, log: _Log | None, level: int, inner: CallNext, ctx: Any) -> Any:
        """A boundary is crossed off the straight way: what is behind it is watched each by itself."""
        out = 2 * self._depth + 1 - level
        following = self._apart(level, inner)
        self.crossed(log, level, ctx, True)
        try:
            result = await following(ctx)
        except BaseException as error:
            self.crossed(log, ~out, error, True)
            raise
        self.crossed(log, out, result, True)
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

    def _finished(self, log: _Log) -> None:
        """The outermost interceptor is done with the message."""
        log.is_finished = True
        for level in range(self._depth):
            self._record(log, level)
        ways_in = range(self._depth + 1)
        if not sum(1 if note.boundary in ways_in else -1 for note in log.notes):
            # Nothing is at work any more. An exception refers to the frames it went through, and these to the log.
            log.notes.clear()

    def _record(self, log: _Log, level: int) -> None:
        """What one interceptor did, if the log says that it is done."""
        out = 2 * self._depth + 1 - level
        request, response, running, is_rewritten = -1.0, 0.0, 0, False
        since, context = 0.0, None
        returned: list[Any] = []
        thrown: list[BaseException] = []
        for boundary, time, thing, again in log.notes:
            if boundary == level and not again:
                since, context = time, thing
            elif boundary == level + 1:
                if not running:
                    request, response = (time - since, 0.0) if request < 0 else (request, response + time - since)
                running += 1
                is_rewritten = is_rewritten or thing is not context
            elif boundary in (out - 1, ~(out - 1)):
                (thrown if boundary < 0 else returned).append(thing)
                running -= 1
                since = time
            elif boundary in (out, ~out) and not again:
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


_COMPOSER: Final = """
def bind(chain, {all_middleware}, passed{others}):{bound}

    def compose(inner):
        times = {times}
        at = 0
        context = result = None
{functions}
        return call_0
    return compose
"""
"""``at`` is how many boundaries were crossed straight. Less than 0: notes are taken, and ``context`` is the log."""

_FUNCTION: Final = """
        async def call_{level}(ctx):
            nonlocal at, context{shared}
            if {is_off}:{notes}
                return await chain.again(context, {level}, inner, ctx)
            {enter}at = {level} + 1
            times[{level}] = perf_counter()
            try:
                {answer} = await {following}
            except BaseException as error:{notes}
                chain.crossed(context, ~{out}, error)
                raise
            if {is_straight}:
                at = {out} + 1
                times[{out}] = perf_counter(){leave}
            else:{notes}
                chain.crossed(context, {out}, {answer})
            return {answer}
"""
"""One boundary. The parameter has the name that the SDK's own functions have."""

_UNTRACED: Final = """
        async def call_0(ctx):
            nonlocal at, context{shared}
            if at:{notes}
                return await chain.again(context, 0, inner, ctx)
            times[0] = perf_counter()
            here = idle_context(ctx)
            if here is None:
                return await compose_watched(inner)(ctx)
            context = ctx
            at = 2
            times[1] = perf_counter()
            try:
                {answer} = await {following}
            except BaseException as error:
                restore(here, error){notes}
                chain.crossed(context, ~{inner_out}, error)
                chain.crossed(context, ~{out}, error)
                raise
            restore(here)
            if {is_straight}:
                times[{inner_out}] = perf_counter()
                at = {out} + 1
                times[{out}] = perf_counter(){leave}
            else:{notes}
                chain.crossed(context, {inner_out}, {answer})
                chain.crossed(context, {out}, {answer})
            return {answer}
"""
"""The outermost two boundaries, with nothing between them."""

_NOTES: Final = """
                if at >= 0:
                    context, at = chain.log(times, at, context, result), -1"""
"""What begins to take notes, once."""

_LEAVE: Final = """
                passed(times)"""
"""What ends the straight way."""


@cache
def _composer(depth: int, *, is_untraced: bool = False) -> Callable[..., Callable[[CallNext], CallNext]]:
    """The function that watches chains of this depth, given the chain, its middleware and what records a passage.

    With ``is_untraced`` also what it composes otherwise, and the :class:`UntracedMiddleware` that knows when.

    It is written by a program, since the functions for one message share what they know best when they stand in one
    function: made level by level, by a function of its own, they would cost a message half as much again.
    """
    names = [f"middleware_{level}" for level in range(depth)]
    functions: list[str] = []
    for level in range(depth, 1 if is_untraced else -1, -1):
        functions.append(_function(_FUNCTION, names, level))
    if is_untraced:
        functions.append(_function(_UNTRACED, names, 0, skipped=1))
    source = _COMPOSER.format(
        all_middleware=", ".join(names),
        others=", compose_watched, untraced" if is_untraced else "",
        bound="\n    idle_context, restore = untraced.idle_context, untraced.restore" if is_untraced else "",
        times=[0.0] * (2 * depth + 2),
        functions="".join(functions),
    )
    scope: dict[str, Any] = {"perf_counter": perf_counter}
    kind = "untraced " if is_untraced else ""
    exec(compile(source, f"<{__name__}: {depth} {kind}levels>", "exec"), scope)
    return scope["bind"]


def _function(template: str, names: Sequence[str], level: int, skipped: int = 0) -> str:
    """The function for the boundary in front of a level, and for so many boundaries behind it."""
    depth = len(names)
    out, last = 2 * depth + 1 - level, level + skipped
    answer = "result" if last == depth else "answer"
    return template.format(
        level=level,
        out=out,
        inner_out=out - skipped,
        answer=answer,
        following=f"{names[last]}(ctx, call_{last + 1})" if last < depth else "inner(ctx)",
        shared=", result" if last == depth else "",
        is_off="at" if level == 0 else f"at != {level} or ctx is not context",
        enter="" if level else "context = ctx\n            ",
        notes=_NOTES,
        is_straight=f"at == {out - skipped}" + ("" if last == depth else " and answer is result"),
        leave="" if level else _LEAVE,
    )
