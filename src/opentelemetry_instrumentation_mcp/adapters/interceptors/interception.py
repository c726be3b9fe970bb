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

from ...metrics.interceptor import Interceptor
from ...metrics.vocabulary import Action, Phase
from ...safety import contained, report
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


_NOTHING: Final[Any] = object()


class Interception:
    """One message and one interceptor. Its methods run for every message, so they contain themselves.

    Args:
        interceptor: Where it is recorded.
        judge: What it means that the interceptor returned; gets this and the result.
        context: What the interceptor was given to pass on.
    """

    # Defaults of the class: most interceptors call what they wrap once, and it returns.
    _rewritten = False
    _answered = False
    _running = 0
    _request = -1.0
    _response = 0.0
    _result: Any = _NOTHING
    _results: tuple[Any, ...] = ()
    _raised: tuple[BaseException, ...] = ()

    def __init__(
        self, interceptor: Interceptor, judge: Callable[[Interception, Any], Action], context: Any = None
    ) -> None:
        self._interceptor = interceptor
        self._judge = judge
        self._context = context
        self._since = perf_counter()

    def hand_over(self, context: Any) -> None:
        """It calls what it wraps."""
        if not self._running:
            self._count()
        self._running += 1
        if context is not self._context:
            self._rewritten = True

    def given(self, result: Any) -> None:
        """What it wraps returned."""
        if self._result is not _NOTHING:
            self._results += (self._result,)
        self._result = result
        self._take_back()

    def thrown(self, error: BaseException) -> None:
        """What it wraps raised."""
        self._raised += (error,)
        self._take_back()

    def returned(self, result: Any) -> None:
        """It returned."""
        try:
            self._finish(self._judge(self, result))
        except Exception as error:
            report("Interception.returned", error)

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
        if result is not self._result and not any(result is each for each in self._results):
            if type(result).__name__ == "ErrorData":
                # Not documented, but the 2.x runner makes an error reply of it.
                return Action.REJECT
            return Action.SHORT_CIRCUIT if self._request < 0 else Action.MODIFY
        return Action.MODIFY if self._rewritten else Action.CONTINUE

    def _passes(self, error: BaseException) -> bool:
        """Whether an exception only passed through, be it in a group."""
        if any(error is each for each in self._raised):
            return True
        if inner := getattr(error, "exceptions", None):
            return all(self._passes(each) for each in inner)
        return ending.is_cancellation(error)

    def _count(self) -> None:
        own = perf_counter() - self._since
        if self._request < 0:
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
        self._raised = self._results = ()
        self._result = None
        interceptor = self._interceptor
        interceptor.took(Phase.REQUEST, max(self._request, 0.0))
        if self._answered:
            interceptor.took(Phase.RESPONSE, self._response)
        interceptor.acted(action, error)


def begin(
    adapter: Adapter,
    interceptor: Any,
    context: Any = None,
    judge: Callable[[Interception, Any], Action] = Interception.action,
) -> Interception | None:
    """An interceptor gets a message."""
    recorder = adapter.recorder
    if recorder is None:
        return None
    try:
        return Interception(recorder.interceptor(name_of(interceptor)), judge, context)
    except Exception as error:
        report("interception.begin", error)
        return None


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
