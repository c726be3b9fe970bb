"""How a connection ended, from what was seen of it. The same rules for both SDK generations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.fail_open import contained
from ..metrics.events import Connection, InboundRequests, Request
from ..metrics.outcome import CANCELLED, End, Outcome
from ..metrics.vocabulary import Mode, Role

if TYPE_CHECKING:
    from .streams import StreamPair


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation (of asyncio or trio) or the interpreter's own stop."""
    # Groups are told by their attribute: Python 3.10 has no builtin class for them.
    if inner := getattr(error, "exceptions", None):
        return all(is_cancellation(each) for each in inner)
    return not isinstance(error, Exception)


def leaf(error: BaseException) -> BaseException:
    """An exception; of a group, the first leaf that is no cancellation."""
    while inner := getattr(error, "exceptions", None):
        error = next((each for each in inner if not is_cancellation(each)), inner[0])
    return error


def leaf_name(error: BaseException) -> str:
    """The class name of :func:`leaf`."""
    return type(leaf(error)).__name__


def idle_expired(transport: Any) -> bool:
    """Whether the idle timeout of a streamable HTTP server session has fired (mcp >= 1.27)."""
    scope = getattr(transport, "idle_scope", None)
    return scope is not None and bool(scope.cancel_called)


def give_up(inbound: InboundRequests, outbound: dict[Any, Request]) -> None:
    """End the requests of a connection whose event loop is closed: nobody waits for a reply, and nobody sends one."""
    for request, outcome in inbound.take_all():
        _give_up(request, outcome)
    for each in tuple(outbound.values()):
        waiting: Request | None = each
        while waiting is not None:
            _give_up(waiting, CANCELLED)
            waiting = waiting.shadowed
    outbound.clear()


def _give_up(request: Request, outcome: Outcome) -> None:
    request.end(outcome)
    if request.span is not None:
        request.span.end(outcome)


def close(connection: Connection, pair: StreamPair, role: Role, error: BaseException | None) -> None:
    """Close a connection whose message loop is over.

    Args:
        connection: The connection.
        pair: What its transport knows.
        role: What this process is in it.
        error: What came out of the message loop; None if it saw the end of the stream.
    """
    # Whatever goes wrong here, what is open is closed.
    end, name = _end(connection, pair, role, error) or (End.CLOSED, None)
    connection.close(end, name)


@contained
def _end(
    connection: Connection, pair: StreamPair, role: Role, error: BaseException | None
) -> tuple[End, str | int | None]:
    if error is not None and not is_cancellation(error):
        return End.ERROR, leaf_name(error)
    if pair.failure is not None:
        return pair.failure
    if role is Role.CLIENT:
        # The end of the stream is the peer's, unless this process has left the transport under its session.
        return (End.PEER_LOST if error is None and not pair.exited_before(connection) else End.CLOSED), None
    if pair.end is not None:
        return pair.end, None
    if pair.http_transport is not None and idle_expired(pair.http_transport):
        return End.EVICTED, None
    if error is None:
        if not connection.lost_requests:
            return End.CLOSED, None
        return (End.SHUTDOWN if pair.exited_before(connection) else End.PEER_LOST), None
    return (End.CLOSED if pair.mode is Mode.STATELESS and not connection.lost_requests else End.SHUTDOWN), None
