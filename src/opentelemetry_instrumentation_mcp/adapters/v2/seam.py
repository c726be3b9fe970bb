"""The wrappers every 2.x dispatcher shares, whatever carries its messages.

A :class:`Line` is one side of one connection: the recorder's connection, what the transport knows, and how the
dispatcher tells that it is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Final

from ...metrics.connection import Connection, Request
from ...metrics.handover import Cell
from ...metrics.inbound import Inbound
from ...metrics.vocabulary import Direction, Role, Transport
from ...safety import contained, report
from ..adapter import Adapter
from ..outbound import CURRENT, leave
from ..streams import Link
from . import messages

LINE: Final = "_otel_mcp_line"
"""Attribute left on a dispatcher object (not on its class)."""

CLIENT: Final = "_otel_mcp_client"
"""Attribute left on the dispatcher of a ``ClientSession``: a weak reference to it."""


class Line:
    """One side of a connection, as its dispatcher sees it.

    Args:
        connection: The recorder's connection.
        link: What the transport knows.
        role: What this process is in it.
        closed: Whether no reply can come or go any more.
        peer: In process, without streams, the dispatcher on the other side: the handler runs in the caller's task, so
            that a cancellation can only be the caller's, and a call fails when either side is closed.
    """

    __slots__ = (
        "adapter",
        "answering",
        "arrived",
        "closed",
        "connection",
        "inbound",
        "is_retired",
        "link",
        "outbound",
        "peer",
        "role",
        "spawn",
        "tasks",
    )

    def __init__(
        self,
        adapter: Adapter,
        connection: Connection,
        link: Link,
        role: Role,
        closed: Callable[[], bool],
        peer: Callable[[], Any] | None = None,
    ) -> None:
        self.adapter = adapter
        self.connection = connection
        self.link = link
        self.role = role
        self.closed = closed
        self.peer = peer
        self.inbound = Inbound(connection)
        """Requests from their arrival to their answer, where the dispatcher answers as we know it."""
        self.answering: Request | None = None
        """Where it does not, the request whose handler is done, until its reply is written; that follows at once."""
        self.spawn: Any = None
        """What starts the tasks of the dispatcher, watched, where that is not put on it for good."""
        self.tasks: Cell | None = None
        """Tasks started for messages."""
        self.outbound: dict[Any, Request] = {}
        """Requests by id from their write until their caller is told."""
        self.arrived: dict[Any, int] = {}
        """Likewise, bytes of requests that the dispatcher has taken and not handed on yet."""
        self.is_retired = False
        """Whether this is from before an ``uninstrument()``, and only goes on until what was open has ended."""
        link.outbound = self.outbound.get
        link.has_ended = closed

    @property
    def is_cut(self) -> bool:
        """Whether either side is closed, as far as it can be told."""
        return self.closed() or (self.peer is not None and getattr(self.peer(), "_closed", False))


def line_of(adapter: Adapter, dispatcher: Any) -> Line | None:
    """The line of a dispatcher; None once retired. One from before an ``uninstrument()`` is not ours."""
    try:
        line: Line | None = getattr(dispatcher, LINE, None)
        return line if line is not None and line.adapter is adapter and adapter.recorder is not None else None
    except Exception as error:
        report("seam.line_of", error)
        return None


def client_session(dispatcher: Any, on_request: Any = None) -> Any:
    """The ``ClientSession`` a dispatcher belongs to; None on a server."""
    reference = getattr(dispatcher, CLIENT, None)
    if reference is not None:
        return reference()
    # Not marked, should the constructor have moved: a session runs its dispatcher with a method of its own.
    owner = getattr(on_request, "__self__", None)
    return owner if hasattr(owner, "adopt") else None


def establish_adopted(line: Line, session: Any) -> None:
    """A session that was adopted before it was entered had no connection to be established on."""
    if session is not None and getattr(session, "protocol_version", None) is not None:
        line.connection.establish(getattr(session.server_info, "name", None), session.protocol_version)


async def call(
    line: Line | None, original: Any, dispatcher: Any, method: str, params: Any, opts: Any, **options: Any
) -> Any:
    """Await ``original(dispatcher, method, params, opts)``, which sends a request, as one outbound request."""
    request = line.connection.begin(Direction.OUTBOUND, method, params) if line is not None else None
    if request is None or line is None:
        return await original(dispatcher, method, params, opts, **options)
    token = CURRENT.set(request)
    try:
        result = await original(dispatcher, method, params, opts, **options)
    except BaseException as error:
        messages.call_raised(line, request, error)
        raise
    finally:
        leave(CURRENT, token)
        line.outbound.pop(request.id, None)
        # Contexts outlive it, and this may be a whole HTTP response.
        request.hint = None
    messages.answered(request, params, result)
    return result


async def notify(line: Line | None, method: str, send: Callable[[], Awaitable[None]]) -> None:
    """Await ``send()``, which sends a notification."""
    if line is None or line.closed() or _stays_here(line, method):
        await send()
        return
    since = perf_counter()
    await send()
    line.connection.notified(Direction.OUTBOUND, method, perf_counter() - since)


@contained
def _stays_here(line: Line, method: str) -> bool:
    """Over HTTP a 2026-07-28 client cancels by closing its stream; the notification is for its own transport."""
    return (
        method == "notifications/cancelled"
        and line.link.transport is Transport.STREAMABLE_HTTP
        and line.role is Role.CLIENT
        and line.connection.protocol_version == "2026-07-28"
    )


@contained
def handle_notifications(adapter: Adapter, line: Line, on_notify: Any) -> Any:
    """Wrap the ``on_notify`` callback a dispatcher is run with."""

    async def on_notify_seen(dctx: Any, method: str, params: Any) -> None:
        if adapter.recorder is None:
            await on_notify(dctx, method, params)
            return
        since = perf_counter()
        try:
            await on_notify(dctx, method, params)
        finally:
            line.connection.notified(Direction.INBOUND, method, perf_counter() - since)

    return on_notify_seen


@contained
def intercept_notifications(adapter: Adapter, line: Line, intercept: Any) -> Any:
    """Wrap ``on_notify_intercept``: a notification it consumes never reaches ``on_notify``."""
    if intercept is None:
        return None

    def intercept_seen(method: str, params: Any) -> bool:
        consumed: bool = intercept(method, params)
        if consumed and adapter.recorder is not None:
            line.connection.notified(Direction.INBOUND, method)
        return consumed

    return intercept_seen
