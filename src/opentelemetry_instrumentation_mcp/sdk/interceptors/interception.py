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

from ...core.fail_open import contained, report
from ...metrics.events import Interceptor
from ...metrics.vocabulary import Action
from .. import ending
from ..lifecycle import Lifecycle
from ..state import State

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

Judge = Callable[[Any], Action]
"""What it means that an interceptor returned what it did."""


_MOST_CLASSES: Final = 200
_NAMED_THEMSELVES: Final = (FunctionType, MethodType, functools.partial, type)


class Interceptors:
    """Where the interceptors of one ``instrument()`` are recorded.

    Attributes:
        of_class: For the first classes there are, those that are called after their class.
    """

    def __init__(self, state: State, lifecycle: Lifecycle) -> None:
        self.of_class: dict[type, Interceptor] = {}
        self._state = state
        lifecycle.at_fork(self.of_class.clear)
        lifecycle.at_end(self.of_class.clear)

    def of(self, interceptor: object) -> Interceptor | None:
        """Where an interceptor is recorded."""
        recorder = self._state.recorder
        if recorder is None:
            return None
        try:
            known = self.of_class.get(type(interceptor))
            if known is None:
                known = recorder.interceptor(name_of(interceptor))
                if not isinstance(interceptor, _NAMED_THEMSELVES) and len(self.of_class) < _MOST_CLASSES:
                    self.of_class[type(interceptor)] = known
            return known
        except Exception as error:
            report("Interceptors.of", error)
            return None


async def through(
    interceptor: Interceptor,
    call_next: Any,
    run: Callable[[Any], Awaitable[Any]],
    context: Any = None,
    judge: Judge | None = None,
) -> Any:
    """Await ``run(call_next)``, an interceptor, with a ``call_next`` that is watched. All in the caller's task.

    Every message comes this way, through every interceptor: what is counted is counted in place.

    Args:
        interceptor: Where it is recorded.
        call_next: The rest of the chain.
        run: Calls the interceptor with the ``call_next`` it is given.
        context: What the interceptor was given to pass on.
        judge: By default one of a chain is judged by what it passed on and returned.
    """
    request, response, running = -1.0, 0.0, 0
    is_rewritten = False
    answer: Any = _NOTHING
    others: tuple[Any, ...] = ()
    thrown: tuple[BaseException, ...] = ()
    since = perf_counter()

    async def call_next_seen(*args: Any, **kwargs: Any) -> Any:
        nonlocal request, response, running, is_rewritten, answer, others, thrown, since
        if not running:
            own = perf_counter() - since
            if request < 0:
                request = own
            else:
                response += own
        running += 1
        if (args[0] if args else next(iter(kwargs.values()), None)) is not context:
            is_rewritten = True
        try:
            result = await call_next(*args, **kwargs)
        except BaseException as error:
            thrown += (error,)
            running -= 1
            since = perf_counter()
            raise
        if answer is _NOTHING:
            answer = result
        else:
            others += (result,)
        running -= 1
        since = perf_counter()
        return result

    result: Any = None
    failure: BaseException | None = None
    try:
        result = await run(call_next_seen)
        return result
    except BaseException as error:
        failure = error
        raise
    finally:
        try:
            own = 0.0 if running else perf_counter() - since
            name = None
            if failure is not None:
                action, name = what_it_raised(failure, thrown) or (Action.ERROR, None)
            elif judge is not None:
                action = judge(result)
            elif result is answer or any(result is each for each in others):
                action = Action.MODIFY if is_rewritten else Action.CONTINUE
            else:
                action = what_it_made_up(result, request < 0)
            if request < 0:
                interceptor.dealt(own, None, action, name)
            else:
                interceptor.dealt(request, response + own if answer is not _NOTHING or thrown else None, action, name)
        except Exception as error:
            report("interception.through", error)
        # An exception refers to the frames it went through, and these to what it is kept in.
        failure = None
        answer = others = thrown = ()


def what_it_made_up(result: Any, is_alone: bool) -> Action:
    """What an interceptor did whose result is its own; ``is_alone`` if it called nothing."""
    if type(result).__name__ == "ErrorData":
        # Not documented, but the 2.x runner makes an error reply of it.
        return Action.REJECT
    return Action.SHORT_CIRCUIT if is_alone else Action.MODIFY


@contained
def what_it_raised(error: BaseException, thrown: tuple[BaseException, ...]) -> tuple[Action, str | None]:
    """What an interceptor did that raised ``error`` after what it called had ``thrown`` these."""
    if _passed(error, thrown):
        return Action.CONTINUE, None
    if is_refusal(error):
        return Action.REJECT, None
    return Action.ERROR, ending.leaf_name(error)


def _passed(error: BaseException, thrown: tuple[BaseException, ...]) -> bool:
    """Whether an exception only passed through, be it in a group."""
    if any(error is each for each in thrown):
        return True
    if inner := getattr(error, "exceptions", None):
        return all(_passed(each, thrown) for each in inner)
    return ending.is_cancellation(error)


def is_refusal(error: BaseException) -> bool:
    """Whether an exception is a way of saying no."""
    return any(f"{each.__module__}.{each.__qualname__}" in _REFUSALS for each in type(error).__mro__)


def name_of(interceptor: Any) -> str:
    """What an interceptor is called: the class of an object, or the function's name, with its class if it has one."""
    if not isinstance(interceptor, _NAMED_THEMSELVES):
        return type(interceptor).__name__
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
