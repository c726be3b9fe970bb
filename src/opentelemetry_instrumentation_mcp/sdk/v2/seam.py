"""The wrappers every 2.x dispatcher shares, whatever carries its messages.

A :class:`DispatcherSide` is one side of one connection: that of the recorder, what the transport knows, and how the
dispatcher tells that it is closed.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any, Final

from ...core.fail_open import contained, report
from ...metrics.events import Connection, InboundRequests, Request
from ...metrics.transports import TRANSPORTS
from ...metrics.vocabulary import Direction, Role
from ...patching.arguments import Parameter
from ..outbound import CURRENT, reset
from ..state import State
from ..streams import StreamPair
from . import messages

SIDE: Final = "_otel_mcp_side"
"""Attribute left on a dispatcher object (not on its class)."""

CLIENT: Final = "_otel_mcp_client"
"""Attribute left on the dispatcher of a ``ClientSession``: a weak reference to it."""


class DispatcherSide:
    """One side of a connection, as its dispatcher sees it.

    Args:
        connection: The recorder's connection.
        pair: What the transport knows.
        role: What this process is in it.
        dispatcher: The dispatcher.
        peer: Whether there is a peer in this process, without streams: the handler runs in the caller's task, so that
            a cancellation can only be the caller's, and a call fails when either side is closed.
    """

    __slots__ = (
        "answering",
        "arrived",
        "connection",
        "dispatcher",
        "has_peer",
        "inbound",
        "is_finished",
        "is_retired",
        "outbound",
        "pair",
        "role",
        "sees_replies",
        "spawn",
        "state",
    )

    def __init__(
        self,
        state: State,
        connection: Connection,
        pair: StreamPair,
        role: Role,
        dispatcher: Any,
        *,
        has_peer: bool = False,
    ) -> None:
        self.state = state
        self.connection = connection
        self.pair = pair
        self.role = role
        self.dispatcher = dispatcher
        self.has_peer = has_peer
        self.is_finished = False
        """Whether the dispatcher has stopped to run."""
        self.sees_replies = False
        """Whether a request is marked when its reply comes, so that this is told from the SDK's own errors."""
        self.inbound = InboundRequests(connection)
        """Requests from their arrival to their answer, where the dispatcher answers as we know it."""
        self.answering: Request | None = None
        """Where it does not, the request whose handler is done, until its reply is written; that follows at once."""
        self.spawn: Any = None
        """What starts the tasks of the dispatcher, watched, where that is not put on it for good."""
        self.outbound: dict[Any, Request] = {}
        """Requests by id from their write until their caller is told."""
        self.arrived: dict[Any, int] = {}
        """Likewise, bytes of requests that the dispatcher has taken and not handed on yet."""
        self.is_retired = False
        """Whether this is from before an ``uninstrument()``, and only goes on until what was open has ended."""
        pair.outbound = self.outbound.get
        pair.is_closed = self.closed

    def closed(self) -> bool | None:
        """Whether no reply can come or go any more; None if the dispatcher does not say."""
        try:
            # Where it is called something else by now it is closed at the end anyway.
            return getattr(self.dispatcher, "_closed", self.is_finished or None)
        except Exception as error:
            report("DispatcherSide.closed", error)
            return None

    @contained
    def is_cut(self) -> bool | None:
        """Likewise of either side."""
        closed = self.closed()
        if closed or not self.has_peer:
            return closed
        return getattr(getattr(self.dispatcher, "_peer", None), "_closed", None)


def side_of(state: State, dispatcher: Any) -> DispatcherSide | None:
    """The side of a dispatcher; None once retired. One from before an ``uninstrument()`` is not ours."""
    try:
        side: DispatcherSide | None = getattr(dispatcher, SIDE, None)
        return side if side is not None and side.state is state and state.recorder is not None else None
    except Exception as error:
        report("seam.side_of", error)
        return None


def client_session(dispatcher: Any, on_request: Any = None) -> Any:
    """The ``ClientSession`` a dispatcher belongs to; None on a server."""
    reference = getattr(dispatcher, CLIENT, None)
    if reference is not None:
        return reference()
    # Not marked, should the constructor have moved: a session runs its dispatcher with a method of its own.
    owner = getattr(on_request, "__self__", None)
    return owner if hasattr(owner, "adopt") else None


def establish_adopted(side: DispatcherSide, session: Any) -> None:
    """A session that was adopted before it was entered had no connection to be established on."""
    if session is not None and getattr(session, "protocol_version", None) is not None:
        side.connection.establish(getattr(session.server_info, "name", None), session.protocol_version)


async def call(
    side: DispatcherSide | None, original: Any, dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Await ``original(dispatcher, *args, **kwargs)``, which sends a request, as one outbound request."""
    request = params = None
    if side is not None:
        # As the protocol of dispatchers has it: method, params, opts.
        method: Any = args[0] if args else kwargs.get("method")
        params = args[1] if len(args) > 1 else kwargs.get("params")
        request = side.connection.begin(Direction.OUTBOUND, method, params)
    if request is None or side is None:
        return await original(dispatcher, *args, **kwargs)
    token = CURRENT.set(request)
    try:
        result = await original(dispatcher, *args, **kwargs)
    except BaseException as error:
        messages.call_raised(side, request, error)
        raise
    finally:
        reset(CURRENT, token)
        side.outbound.pop(request.id, None)
        # Contexts outlive it, and this may be a whole HTTP response.
        request.hint = None
    messages.answered(request, params, result)
    return result


async def notify(
    side: DispatcherSide | None, original: Any, dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Await ``original(dispatcher, *args, **kwargs)``, which sends a notification."""
    method: Any = args[0] if args else kwargs.get("method")
    if side is None or side.closed() or _stays_here(side, method):
        return await original(dispatcher, *args, **kwargs)
    since = perf_counter()
    result = await original(dispatcher, *args, **kwargs)
    side.connection.notified(Direction.OUTBOUND, method, perf_counter() - since)
    return result


@contained
def _stays_here(side: DispatcherSide, method: object) -> bool:
    """Over HTTP a 2026-07-28 client cancels by closing its stream; the notification is for its own transport.

    So it may be where the transport is not known.
    """
    return (
        method == "notifications/cancelled"
        and TRANSPORTS[side.pair.transport].may_be_exchanges
        and side.role is Role.CLIENT
        and side.connection.protocol_version == "2026-07-28"
    )


# What the callbacks of a dispatcher are called with. No look at the callbacks: a stateless server makes new ones for
# every request.
DCTX: Final = Parameter(None, "dctx", 0)
METHOD: Final = Parameter(None, "method", 1)
PARAMS: Final = Parameter(None, "params", 2)
_INTERCEPTED: Final = Parameter(None, "method", 0)


class RunWith:
    """The callbacks that the ``run`` of a dispatcher is called with."""

    __slots__ = ("_on_notify", "_on_notify_intercept", "on_request")

    def __init__(self, original: Any) -> None:
        self.on_request = Parameter(original, "on_request", 0)
        self._on_notify = Parameter(original, "on_notify", 1)
        self._on_notify_intercept = Parameter(original, "on_notify_intercept", 2)

    def watched_notifications(
        self, state: State, side: DispatcherSide, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the two callbacks for notifications watched."""
        try:
            given, named = self._on_notify.change(args, kwargs, partial(handle_notifications, state, side))
            return self._on_notify_intercept.change(given, named, partial(intercept_notifications, state, side))
        except Exception as error:
            report("seam.watched_notifications", error)
            return args, kwargs


@contained
def handle_notifications(state: State, side: DispatcherSide, on_notify: Any) -> Any:
    """Wrap the ``on_notify`` callback a dispatcher is run with."""

    async def on_notify_seen(*args: Any, **kwargs: Any) -> Any:
        if state.recorder is None:
            return await on_notify(*args, **kwargs)
        since = perf_counter()
        try:
            return await on_notify(*args, **kwargs)
        finally:
            side.connection.notified(Direction.INBOUND, METHOD.of(args, kwargs), perf_counter() - since)

    return on_notify_seen


@contained
def intercept_notifications(state: State, side: DispatcherSide, intercept: Any) -> Any:
    """Wrap ``on_notify_intercept``: a notification it consumes never reaches ``on_notify``."""

    def intercept_seen(*args: Any, **kwargs: Any) -> Any:
        consumed: Any = intercept(*args, **kwargs)
        if consumed and state.recorder is not None:
            side.connection.notified(Direction.INBOUND, _INTERCEPTED.of(args, kwargs))
        return consumed

    return intercept_seen
