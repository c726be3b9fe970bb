"""How a request ends that a dispatcher of 2.x has handed to its handler.

Where a dispatcher answers as we know it (:mod:`.dispatcher`), an open request is found by its id: a result ends it
there, everything else here. Where it does not, the handler is wrapped, and what comes out of it tells.
"""

from __future__ import annotations

import sys
from typing import Any

from ...core.fail_open import contained
from ...metrics.events import Request
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, Outcome, error_reply
from ...metrics.vocabulary import Direction
from .. import ending
from ..state import State
from . import messages
from .seam import DCTX, METHOD, PARAMS, DispatcherSide

# Found by its id.


def refused(side: DispatcherSide, request_id: Any, reply: Any) -> Request | None:
    """An error reply is written; the request it ends."""
    request = side.inbound.take(request_id)
    if request is None:
        request, side.answering = side.answering, None
        return request if request is not None and request.id == request_id else None
    # It is written where the handler's exception is handled.
    error = sys.exc_info()[1]
    if side.closed() or (error is not None and ending.is_cancellation(error)):
        request.end(CONNECTION_LOST)
    elif error is not None:
        request.end(messages.outcome_of(error, side.connection.crash_code))
    else:
        request.end(error_reply(reply.code, reply.message))
    return request


@contained
def settled(side: DispatcherSide, dctx: Any) -> None:
    """A request is done without an answer: its peer has cancelled it."""
    if dctx is None:
        return
    request = side.inbound.take_cancelled(dctx.request_id) or side.inbound.take(dctx.request_id)
    if request is not None:
        request.end(_unanswered(dctx))


@contained
def end_all(side: DispatcherSide) -> None:
    """The dispatcher has stopped; nobody will answer what is still open."""
    for request, outcome in side.inbound.take_all():
        request.end(outcome)


def _unanswered(dctx: Any) -> Outcome:
    """Why no reply is written to a request whose handler is done: cancelled, or the stream has ended under it."""
    return CANCELLED if dctx.cancel_requested.is_set() else CONNECTION_LOST


# Wrapped.


@contained
def watched(state: State, side: DispatcherSide, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with."""
    begin = side.connection.begin

    async def on_request_seen(*args: Any, **kwargs: Any) -> Any:
        dctx, method, params = DCTX.of(args, kwargs), METHOD.of(args, kwargs), PARAMS.of(args, kwargs)
        request = begin(Direction.INBOUND, method, params) if state.recorder is not None else None
        if request is None:
            return await on_request(*args, **kwargs)
        _begun(side, request, dctx)
        try:
            result = await on_request(*args, **kwargs)
        except BaseException as error:
            _raised(side, request, dctx, error)
            raise
        _returned(side, request, dctx, params, result)
        return result

    return on_request_seen


@contained
def _begun(side: DispatcherSide, request: Request, dctx: Any) -> None:
    request.id = request_id = dctx.request_id
    request.request_bytes = side.arrived.pop(request_id, -1)


@contained
def _returned(side: DispatcherSide, request: Request, dctx: Any, params: Any, result: Any) -> None:
    if dctx.cancel_requested.is_set() or side.closed():
        request.end(_unanswered(dctx))
    else:
        side.answering = request
        messages.answered(request, params, result)


@contained
def _raised(side: DispatcherSide, request: Request, dctx: Any, error: BaseException) -> None:
    if dctx.cancel_requested.is_set() or side.closed():
        request.end(_unanswered(dctx))
    else:
        side.answering = request
        request.end(messages.outcome_of(error, side.connection.crash_code))
