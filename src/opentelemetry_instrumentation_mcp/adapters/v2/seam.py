"""The wrappers every 2.x dispatcher shares, whatever carries its messages.

A :class:`Line` is one side of one connection: the recorder's connection, what the transport knows, and how the
dispatcher tells that it is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ...metrics.outcome import CANCELLED, CONNECTION_LOST
from ...metrics.recorder import Connection, Direction, Role
from ...safety import contained
from ..adapter import Adapter
from ..outbound import CURRENT, current_request
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
        in_process: Whether the handler runs in the caller's task, so that a cancellation can only be the caller's.
    """

    __slots__ = ("closed", "connection", "in_process", "link", "role")

    def __init__(
        self, connection: Connection, link: Link, role: Role, closed: Callable[[], bool], in_process: bool = False
    ) -> None:
        self.connection = connection
        self.link = link
        self.role = role
        self.closed = closed
        self.in_process = in_process
        # The id is minted inside the dispatcher; the context the request is sent in is what the transport shares.
        link.outbound = lambda _: current_request()


async def call(adapter: Adapter, line: Line | None, method: str, params: Any, send: Callable[[], Any]) -> Any:
    """Await ``send()``, which sends a request and returns its result, as one outbound request."""
    request = None
    if line is not None and adapter.recorder is not None:
        request = line.connection.begin(Direction.OUTBOUND, method, params)
    if request is None or line is None:
        return await send()
    token = CURRENT.set(request)
    try:
        result = await send()
    except BaseException as error:
        messages.call_raised(request, line.link, error, closed=line.closed())
        raise
    finally:
        CURRENT.reset(token)
    messages.answered(line.connection, request, Direction.OUTBOUND, params, result)
    return result


async def notify(adapter: Adapter, line: Line | None, method: str, send: Callable[[], Any]) -> None:
    """Await ``send()``, which sends a notification."""
    if line is None or adapter.recorder is None or line.closed():
        await send()
        return
    timer = messages.NotificationTimer(line.connection, Direction.OUTBOUND, method)
    await send()
    timer.done()


def handle_requests(adapter: Adapter, line: Line, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with."""
    connection = line.connection

    async def on_request_seen(dctx: Any, method: str, params: Any) -> Any:
        request = connection.begin(Direction.INBOUND, method, params) if adapter.recorder is not None else None
        if request is None:
            return await on_request(dctx, method, params)
        try:
            result = await on_request(dctx, method, params)
        except BaseException as error:
            _raised(line, request, dctx, error)
            raise
        _returned(line, request, dctx, params, result)
        return result

    return on_request_seen


@contained
def _raised(line: Line, request: Any, dctx: Any, error: BaseException) -> None:
    if not isinstance(error, Exception) and line.in_process:
        request.end(CANCELLED)
        return
    if line.closed() and not line.in_process and not dctx.cancel_requested.is_set():
        # The stream has ended under the handler; what it raised will not be written.
        request.end(CONNECTION_LOST)
        return
    messages.handler_raised(
        line.connection,
        request,
        error,
        cancelled=dctx.cancel_requested.is_set(),
        crash_code=line.connection.crash_code,
    )


@contained
def _returned(line: Line, request: Any, dctx: Any, params: Any, result: Any) -> None:
    if dctx.cancel_requested.is_set():
        request.end(CANCELLED)
    elif line.closed() and not line.in_process:
        request.end(CONNECTION_LOST)
    else:
        messages.answered(line.connection, request, Direction.INBOUND, params, result)


def handle_notifications(adapter: Adapter, line: Line, on_notify: Any) -> Any:
    """Wrap the ``on_notify`` callback a dispatcher is run with."""

    async def on_notify_seen(dctx: Any, method: str, params: Any) -> None:
        if adapter.recorder is None:
            await on_notify(dctx, method, params)
            return
        timer = messages.NotificationTimer(line.connection, Direction.INBOUND, method)
        try:
            await on_notify(dctx, method, params)
        finally:
            timer.done()

    return on_notify_seen


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
