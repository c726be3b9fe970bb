"""One message in the hands of one interceptor: its own time, and what it did.

Own time is the time in which nothing the interceptor called is at work. An interceptor may call the rest of the chain
more than once (a retry) or several times at once (a hedge): what passes before the first call is its request phase, and
every later moment in which no call is running is its response phase, the pauses between retries included. What it does
while a call is running cannot be told from what it waits for, and is not counted.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from time import perf_counter
from types import FunctionType, MethodType
from typing import Any, Final

import wrapt

from ...metrics.recorder import Recorder
from ...metrics.vocabulary import Action, Phase
from ...safety import contained
from .. import ending
from ..adapter import Adapter

_REFUSALS: Final = frozenset(
    {
        "mcp.shared.exceptions.MCPError",
        "mcp.shared.exceptions.McpError",
        "starlette.authentication.AuthenticationError",
        # The errors fastmcp's own middleware refuses with are no subclasses of the SDK's.
        "fastmcp.exceptions.FastMCPError",
        "fastmcp.exceptions.NotFoundError",
        "fastmcp.exceptions.DisabledError",
    }
)
"""Exceptions an interceptor raises to say no, by name: importing their modules is not ours to do."""


class Interception:
    """One message and one interceptor.

    Args:
        recorder: Where it is recorded.
        name: The interceptor.
        judge: What it means that the interceptor returned; gets this and the result.
        context: What the interceptor was given to pass on.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_judge",
        "_name",
        "_raised",
        "_recorder",
        "_request",
        "_response",
        "_results",
        "_rewritten",
        "_running",
        "_since",
    )

    def __init__(
        self, recorder: Recorder, name: str, judge: Callable[[Interception, Any], Action], context: Any = None
    ) -> None:
        self._recorder = recorder
        self._name = name
        self._judge = judge
        self._context = context
        self._rewritten = False
        self._answered = False
        self._running = 0
        self._request: float | None = None
        self._response = 0.0
        self._results: list[Any] = []
        self._raised: list[BaseException] = []
        self._since = perf_counter()

    @contained
    def hand_over(self, context: Any) -> None:
        """It calls what it wraps."""
        if not self._running:
            self._count()
        self._running += 1
        if context is not self._context:
            self._rewritten = True

    @contained
    def given(self, result: Any) -> None:
        """What it wraps returned."""
        self._results.append(result)
        self._take_back()

    @contained
    def thrown(self, error: BaseException) -> None:
        """What it wraps raised."""
        self._raised.append(error)
        self._take_back()

    @contained
    def returned(self, result: Any) -> None:
        """It returned."""
        self._finish(self._judge(self, result))

    @contained
    def raised(self, error: BaseException) -> None:
        """An exception came out of it."""
        if self._passes(error):
            self._finish(Action.CONTINUE)
        elif is_refusal(error):
            self._finish(Action.REJECT)
        else:
            self._finish(Action.ERROR, ending.leaf_name(error))

    def action(self, result: Any) -> Action:
        """What an interceptor of a chain did that returned ``result``."""
        own = not any(result is each for each in self._results)
        if own and type(result).__name__ == "ErrorData":
            # Not documented, but the 2.x runner makes an error reply of it.
            return Action.REJECT
        if self._request is None:
            return Action.SHORT_CIRCUIT
        return Action.MODIFY if own or self._rewritten else Action.CONTINUE

    def _passes(self, error: BaseException) -> bool:
        """Whether an exception only passed through, be it in a group."""
        if any(error is each for each in self._raised):
            return True
        if inner := getattr(error, "exceptions", None):
            return all(self._passes(each) for each in inner)
        return ending.is_cancellation(error)

    def _count(self) -> None:
        own = perf_counter() - self._since
        if self._request is None:
            self._request = own
        else:
            self._response += own

    def _take_back(self) -> None:
        self._answered = True
        self._running -= 1
        self._since = perf_counter()

    def _finish(self, action: Action, error: str | None = None) -> None:
        if not self._running:
            self._count()
        # An exception refers to the frames it went through, and these to this object.
        self._raised.clear()
        self._results.clear()
        self._recorder.intercepting(self._name, Phase.REQUEST, self._request or 0.0)
        if self._answered:
            self._recorder.intercepting(self._name, Phase.RESPONSE, self._response)
        self._recorder.intercepted(self._name, action, error)


@contained
def begin(
    adapter: Adapter,
    interceptor: Any,
    context: Any = None,
    judge: Callable[[Interception, Any], Action] = Interception.action,
) -> Interception | None:
    """An interceptor gets a message."""
    if adapter.recorder is None:
        return None
    return Interception(adapter.recorder, name_of(interceptor), judge, context)


async def through(interception: Interception, call_next: Any, run: Callable[[Any], Awaitable[Any]]) -> Any:
    """Await ``run(call_next)``, the interceptor, with a ``call_next`` that is watched. All in the caller's task."""

    async def call_next_seen(*args: Any, **kwargs: Any) -> Any:
        interception.hand_over(args[0] if args else next(iter(kwargs.values()), None))
        try:
            result = await call_next(*args, **kwargs)
        except BaseException as error:
            interception.thrown(error)
            raise
        interception.given(result)
        return result

    try:
        result = await run(call_next_seen)
    except BaseException as error:
        interception.raised(error)
        raise
    interception.returned(result)
    return result


def is_refusal(error: BaseException) -> bool:
    """Whether an exception is a way of saying no."""
    return any(f"{each.__module__}.{each.__qualname__}" in _REFUSALS for each in type(error).__mro__)


def name_of(interceptor: Any) -> str:
    """What an interceptor is called: the class of an object, or the function's name, with its class if it has one."""
    while isinstance(interceptor, functools.partial):
        interceptor = interceptor.func
    if isinstance(interceptor, MethodType):
        owner = interceptor.__self__
        return f"{(owner if isinstance(owner, type) else type(owner)).__name__}.{interceptor.__name__}"
    if isinstance(interceptor, (FunctionType, type)):
        return interceptor.__name__
    return type(interceptor).__name__


ObjectProxy: Any = wrapt.ObjectProxy
"""Typed as Any: not every release of wrapt has types."""


class Instead(ObjectProxy):
    """An object as it is but for one attribute. Nothing is changed on the object, which is the application's.

    Given as ``self`` to a method of the SDK, it lets the method meet a watched collaborator.
    """

    def __init__(self, wrapped: Any, name: str, value: Any) -> None:
        ObjectProxy.__init__(self, wrapped)
        self._self_name = name
        self._self_value = value

    def __getattr__(self, name: str) -> Any:
        # Only asked for what the proxy itself does not have.
        return self._self_value if name == self._self_name else getattr(self.__wrapped__, name)
