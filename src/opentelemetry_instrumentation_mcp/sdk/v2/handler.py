"""How a request ends that a dispatcher of 2.x has handed to its handler.

Where a dispatcher answers as we know it (:mod:`.dispatcher`), an open request is found by its id: a result ends it
there, everything else here. Where it does not, the handler is wrapped, and what comes out of it tells.
"""

from __future__ import annotations

import sys
from typing import Any

from ...core.fail_open import contained, report
from ...metrics.events import Request
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, Outcome, error_reply
from ...metrics.vocabulary import Direction
from .. import ending
from ..adapter import Adapter
from . import messages
from .seam import DCTX, METHOD, PARAMS, Line

# Found by its id.


def refused(line: Line, request_id: Any, reply: Any) -> Request | None:
    """An error reply is written; the request it ends."""
    request = line.inbound.take(request_id)
    if request is None:
        request, line.answering = line.answering, None
        return request if request is not None and request.id == request_id else None
    # It is written where the handler's exception is handled.
    error = sys.exc_info()[1]
    if line.closed() or (error is not None and ending.is_cancellation(error)):
        request.end(CONNECTION_LOST)
    elif error is not None:
        request.end(messages.outcome_of(error, line.connection.crash_code))
    else:
        request.end(error_reply(reply.code, reply.message))
    return request


@contained
def settled(line: Line, dctx: Any) -> None:
    """A request is done without an answer: its peer has cancelled it."""
    if dctx is None:
        return
    request = line.inbound.take_cancelled(dctx.request_id) or line.inbound.take(dctx.request_id)
    if request is not None:
        request.end(_unanswered(dctx))


@contained
def end_all(line: Line) -> None:
    """The dispatcher has stopped; nobody will answer what is still open."""
    for request, outcome in line.inbound.take_all():
        request.end(outcome)


def _unanswered(dctx: Any) -> Outcome:
    """Why no reply is written to a request whose handler is done: cancelled, or the stream has ended under it."""
    return CANCELLED if dctx.cancel_requested.is_set() else CONNECTION_LOST


# Wrapped.


@contained
def watched(adapter: Adapter, line: Line, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with."""
    take = line.arrived.pop
    begin = line.connection.begin

    async def on_request_seen(*args: Any, **kwargs: Any) -> Any:
        dctx, method, params = DCTX.of(args, kwargs), METHOD.of(args, kwargs), PARAMS.of(args, kwargs)
        request = begin(Direction.INBOUND, method, params) if adapter.recorder is not None else None
        if request is None:
            return await on_request(*args, **kwargs)
        try:
            request.id = request_id = dctx.request_id
            request.request_bytes = take(request_id, -1)
        except Exception as error:
            report("handler.begin", error)
        try:
            result = await on_request(*args, **kwargs)
        except BaseException as error:
            _raised(line, request, dctx, error)
            raise
        try:
            if dctx.cancel_requested.is_set() or line.closed():
                request.end(_unanswered(dctx))
            else:
                line.answering = request
                messages.answered(request, params, result)
        except Exception as error:
            report("handler.returned", error)
        return result

    return on_request_seen


@contained
def _raised(line: Line, request: Request, dctx: Any, error: BaseException) -> None:
    if dctx.cancel_requested.is_set() or line.closed():
        request.end(_unanswered(dctx))
    else:
        line.answering = request
        request.end(messages.outcome_of(error, line.connection.crash_code))
