"""What a request or notification of 2.x means once its handler or its reply is through; every seam ends up here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...core.fail_open import contained, report
from ...core.json_shapes import fields
from ...metrics.events import Connection, Request
from ...metrics.labels import LISTINGS
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, OK, TIMEOUT, TOOL_ERROR, Outcome, error_reply
from ...metrics.vocabulary import Direction, Role
from .. import ending
from ..http_client import outcome_of_response

if TYPE_CHECKING:
    from .seam import DispatcherSide

_CONNECTION_CLOSED: Final = -32000
_REQUEST_TIMEOUT: Final = -32001
_INVALID_PARAMS: Final = -32602
_UNWRITABLE: Final = ("BrokenResourceError", "ClosedResourceError")

PROTOCOL_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
"""Where a 2026-07-28 request says which revision it speaks (``_meta``)."""

SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
"""Where a 2026-07-28 result says which server it is from (``_meta``)."""


def answered(request: Request, params: Any, result: Any) -> None:
    """A request with ``params`` got a result: the peer sent it (outbound), or the handler returned it (inbound)."""
    outcome = OK
    try:
        if request.describes_server:
            _learn(request.connection, request.method, request.direction, params, result)
        # Results are plain dictionaries on their way.
        if request.is_tool_call and (result if result.__class__ is dict else fields(result)).get("isError") is True:
            outcome = TOOL_ERROR
    except Exception as error:
        report("messages.answered", error)
    request.end(outcome)


@contained
def _learn(connection: Connection, method: str, direction: Direction, params: Any, result: Any) -> None:
    if connection.protocol_version is None:
        # A 2026-07-28 request says its revision itself; that it was answered makes it the connection's.
        version = fields(fields(params).get("_meta")).get(PROTOCOL_VERSION_KEY)
        if version is not None:
            connection.identify(protocol_version=version)
    answer = fields(result)
    if method == "initialize":
        if direction is Direction.INBOUND:
            connection.establish(protocol_version=answer.get("protocolVersion"))
        else:
            # The session counts when the client adopts the answer; the name is already good for this request.
            connection.identify(fields(answer.get("serverInfo")).get("name"), answer.get("protocolVersion"))
    elif method == "server/discover" or not connection.is_identified:
        # Every 2026-07-28 result says it, and a client that knows the revision beforehand makes no discovery.
        name = fields(fields(answer.get("_meta")).get(SERVER_INFO_KEY)).get("name")
        if name is not None and connection.role is Role.CLIENT:
            connection.identify(name)
    if method in LISTINGS:
        connection.listed(direction, method, result)


def outcome_of(error: BaseException, crash_code: int) -> Outcome:
    """What becomes of a request whose handler raised instead of answering.

    Args:
        error: What came out of the handler.
        crash_code: What the SDK answers when the exception is none of its own.
    """
    return CONNECTION_LOST if ending.is_cancellation(error) else _reply_to(error, crash_code)


def _reply_to(error: BaseException, crash_code: int) -> Outcome:
    # The ladder of jsonrpc_dispatcher.handler_exception_to_error_data, by shape: importing mcp is not ours to do.
    reply: Any = getattr(error, "error", None)
    if hasattr(reply, "code") and hasattr(reply, "message"):
        return error_reply(reply.code, reply.message)
    kind = type(error)
    invalid = kind.__name__ == "ValidationError" and kind.__module__.startswith("pydantic")
    return error_reply(_INVALID_PARAMS if invalid else crash_code)


@contained
def call_raised(side: DispatcherSide, request: Request, error: BaseException) -> None:
    """A request of ours ended without a result; ``error`` is what its caller gets to see."""
    hint, size = request.hint, None
    if side.closed():
        side.connection.is_closing = True
    if side.pair.failure is not None:
        request.end(CONNECTION_LOST)
        return
    # The id is seen when the request is written.
    is_written = request.id is not None or side.has_peer
    if ending.is_cancellation(error):
        if is_written:
            request.end(CANCELLED)
        else:
            request.abandon()
        return
    reply: Any = getattr(error, "error", None)
    code = getattr(reply, "code", None)
    if code is None:
        # An id that is in flight already is refused with a ValueError. Anything else broke on the way.
        if isinstance(error, ValueError) and (request.id is None or side.has_peer):
            request.abandon()
        else:
            request.end(CONNECTION_LOST)
        return
    if hint is not None and not isinstance(hint, Outcome):
        hint, size = outcome_of_response(hint)
    if size is not None:
        request.measured(size, response=True)
    if hint is not None:
        request.end(hint)
        return
    is_own = not request.answered and (side.sees_replies or _is_the_sdks_own(side, error, code))
    if is_own is None:
        # A number that is not there is better than a wrong one.
        request.abandon()
    elif is_own:
        request.end(TIMEOUT if code == _REQUEST_TIMEOUT else CONNECTION_LOST)
    else:
        request.end(error_reply(code, getattr(reply, "message", None)))


def _is_the_sdks_own(side: DispatcherSide, error: BaseException, code: int) -> bool | None:
    """Where no reply is seen, as in process, the SDK's own errors are told by how they are raised; None if not."""
    if code == _REQUEST_TIMEOUT:
        return error.__suppress_context__ and isinstance(error.__context__, TimeoutError)
    if code != _CONNECTION_CLOSED:
        return False
    # Behind it stands what the stream raised when the request was written; or a dispatcher is closed.
    return type(error.__context__).__name__ in _UNWRITABLE or side.is_cut()
