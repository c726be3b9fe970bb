"""How a request ends that a dispatcher of 2.x has handed to its handler.

Where a dispatcher answers as we know it (:mod:`.dispatcher`), an open request is found by its id: a result ends it
there, everything else here. Where it does not, the handler is wrapped, and what comes out of it tells.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from ...metrics.connection import Request
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, Outcome, error_reply
from ...metrics.vocabulary import Direction
from ...safety import contained, report
from ...wire import fields
from .. import ending
from ..adapter import Adapter
from . import messages
from .seam import Line, Opened

# Found by its id.


def reopened(line: Line, request_id: Any, opened: Opened) -> Request:
    """The request that was open; one that waits behind it has its id now."""
    if isinstance(opened, Request):
        if opened.shadowed is not None:
            line.inbound[request_id] = opened.shadowed
        return opened
    route, name, size, started = opened
    request = line.connection.begun(route, name, started)
    request.id = request_id
    request.request_bytes = size
    return request


def take(line: Line, request_id: Any) -> Request | None:
    """Likewise by its id, if there is one."""
    opened = line.inbound.pop(request_id, None)
    return None if opened is None else reopened(line, request_id, opened)


def refused(line: Line, dispatcher: Any, request_id: Any, reply: Any) -> Request | None:
    """An error reply is written; the request it ends."""
    request = take(line, request_id)
    if request is None:
        request, line.answering = line.answering, None
        return request if request is not None and request.id == request_id else None
    # It is written where the handler's exception is handled.
    error = sys.exc_info()[1]
    if dispatcher._closed or (error is not None and ending.is_cancellation(error)):
        request.end(CONNECTION_LOST)
    elif error is not None:
        request.end(messages.outcome_of(error, line.connection.crash_code))
    else:
        request.end(error_reply(reply.code, reply.message))
    return request


@contained
def settled(line: Line, dctx: Any) -> None:
    """A request is done without an answer: its peer has cancelled it."""
    request = _shadowed(line, dctx.request_id) or take(line, dctx.request_id)
    if request is not None:
        request.end(_unanswered(dctx))


def _shadowed(line: Line, request_id: Any) -> Request | None:
    """A request that was cancelled, and whose id is another's by now; it waits no longer."""
    newer = line.inbound.get(request_id)
    while isinstance(newer, Request) and newer.hint is not CANCELLED and newer.shadowed is not None:
        older = newer.shadowed
        if older.hint is CANCELLED:
            newer.shadowed = older.shadowed
            return older
        newer = older
    return None


def cancelled(line: Line, params: Any) -> None:
    """The peer cancels a request: should the stream end before that is done, it was cancelled all the same."""
    request_id = fields(params).get("requestId")
    if not isinstance(request_id, (int, str)):
        return
    if request_id not in line.inbound and isinstance(request_id, str):
        # As the dispatcher does (dispatcher.coerce_request_id).
        with suppress(ValueError):
            request_id = int(request_id)
    opened = line.inbound.get(request_id)
    if opened is not None:
        request = opened if isinstance(opened, Request) else reopened(line, request_id, opened)
        request.hint = CANCELLED
        line.inbound[request_id] = request


@contained
def end_all(line: Line) -> None:
    """The dispatcher has stopped; nobody will answer what is still open."""
    while line.inbound:
        request = take(line, next(iter(line.inbound)))
        if request is not None:
            request.end(CANCELLED if request.hint is CANCELLED else CONNECTION_LOST)


def _unanswered(dctx: Any) -> Outcome:
    """Why no reply is written to a request whose handler is done: cancelled, or the stream has ended under it."""
    return CANCELLED if dctx.cancel_requested.is_set() else CONNECTION_LOST


# Wrapped.


@contained
def watched(adapter: Adapter, line: Line, dispatcher: Any, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with."""
    take = line.arrived.pop
    begin = line.connection.begin

    async def on_request_seen(dctx: Any, method: str, params: Any) -> Any:
        request = begin(Direction.INBOUND, method, params) if adapter.recorder is not None else None
        if request is None:
            return await on_request(dctx, method, params)
        try:
            request.id = request_id = dctx.request_id
            request.request_bytes = take(request_id, -1)
        except Exception as error:
            report("handler.begin", error)
        try:
            result = await on_request(dctx, method, params)
        except BaseException as error:
            _raised(line, dispatcher, request, dctx, error)
            raise
        try:
            if dctx.cancel_requested.is_set() or dispatcher._closed:
                request.end(_unanswered(dctx))
            else:
                line.answering = request
                messages.answered(request, params, result)
        except Exception as error:
            report("handler.returned", error)
        return result

    return on_request_seen


@contained
def _raised(line: Line, dispatcher: Any, request: Request, dctx: Any, error: BaseException) -> None:
    if dctx.cancel_requested.is_set() or dispatcher._closed:
        request.end(_unanswered(dctx))
    else:
        line.answering = request
        request.end(messages.outcome_of(error, line.connection.crash_code))
