"""The requests that a peer waits for, by their JSON-RPC ids: from their arrival to their answer.

What runs for every request of a server stands here, for both generations of the SDK. One that is open is a tuple of
four. It becomes a :class:`~.connection.Request` only if there is more to remember: it says something about its server,
it ends in another way than with a result, or its id is in use already.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, Protocol

from ...core.json_shapes import fields
from ..outcome import CANCELLED, CONNECTION_LOST, Outcome
from ..vocabulary import Direction
from .connection import Connection, Request
from .method_metrics import MethodMetrics

Opened = tuple[MethodMetrics, Any, int, float] | Request
"""A request that is open: its route, the tool or prompt it names, its bytes or -1, and when it came (``perf_counter``
seconds)."""


class Answered(Protocol):
    """What is left to say about a request that was answered and counted."""

    def measure_response(self, size: int) -> None:
        """The response took ``size`` bytes."""
        ...


class InboundRequests:
    """The open requests of one connection. Nothing here contains itself: whoever calls it does."""

    __slots__ = ("_connection", "opened")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.opened: dict[Any, Opened] = {}

    def begin(self, request_id: Any, values: Mapping[str, Any], size: int) -> None:
        """A request came.

        Args:
            request_id: Its JSON-RPC id.
            values: The attributes of its model: ``method`` and ``params`` are looked at.
            size: Its bytes on the wire, or -1.
        """
        route = self._connection.series.inbound.get(values["method"])
        if route is None or route.describes_server or request_id in self.opened:
            self.begin_request(request_id, values, size)
            return
        name = None
        if route.names_target:
            # Nothing else comes from the parser of JSON.
            params: dict[str, object] | None = values["params"]
            name = params.get("name") if params is not None else None
            if type(name) is not str:
                name = None
        # Its step down looks after the buffer.
        route.active.append(1)
        self.opened[request_id] = (route, name, size, perf_counter())

    def begin_request(self, request_id: Any, values: Mapping[str, Any], size: int) -> Request | None:
        """Likewise, of one that there is more to remember of; ``hint`` is its ``params``."""
        params = values["params"]
        request = self._connection.begin(Direction.INBOUND, values["method"], params)
        if request is not None:
            request.id = request_id
            request.request_bytes = size
            request.hint = params
            # The peer's fault, but each of them is answered.
            request.shadowed = self.take(request_id)
            self.opened[request_id] = request
        return request

    def answer(self, request_id: Any, result: Any) -> tuple[Any, Answered] | Request | None:
        """A request gets a result, which ends it.

        Returns:
            The id, and what takes the size of the response: nothing else is left to be done. Or the request, which has
            not ended yet, since its result may say something; None if there is none of this id.
        """
        opened = self.opened.pop(request_id, None)
        if type(opened) is not tuple:
            return None if opened is None else self._reopened(request_id, opened)
        route, name, size, started = opened
        elapsed = perf_counter() - started
        calls = route.by_name.get(name)
        if (
            calls is None
            or calls.succeeded is None
            or route.series is not self._connection.series
            or route.is_ping
            or (
                route.is_tool_call
                # A dictionary, but for a handler of the application's own: then fields() is asked.
                and (result if type(result) is dict else fields(result)).get("isError") is True  # pyright: ignore[reportUnknownMemberType]
            )
        ):
            return self._reopened(request_id, opened)
        # As Request.end() has it, without the request.
        route.active.add(-1)
        calls.succeeded.add(elapsed)
        if size >= 0:
            (calls.request_sizes or calls.sized(response=False)).add(size)
        return request_id, calls

    def take(self, request_id: Any) -> Request | None:
        """A request, to be ended by whoever takes it; None if there is none of this id."""
        opened = self.opened.pop(request_id, None)
        return None if opened is None else self._reopened(request_id, opened)

    def take_cancelled(self, request_id: Any) -> Request | None:
        """Likewise, where several have the id: the one that was cancelled first, of those that wait behind another."""
        newer = self.opened.get(request_id)
        while isinstance(newer, Request) and newer.hint is not CANCELLED and newer.shadowed is not None:
            older = newer.shadowed
            if older.hint is CANCELLED:
                newer.shadowed = older.shadowed
                return older
            newer = older
        return None

    def cancel(self, request_id: Any) -> None:
        """The peer cancels a request: should the stream end before that is done, it was cancelled all the same.

        Args:
            request_id: What the peer says.
        """
        if not isinstance(request_id, (int, str)):
            return
        opened = self.opened.get(request_id)
        if opened is not None:
            request = opened if isinstance(opened, Request) else self._reopened(request_id, opened)
            request.hint = CANCELLED
            self.opened[request_id] = request

    def known(self, request_id: Any) -> Any:
        """The id as it is known here, should it have come back as a string."""
        return as_known(self.opened, request_id)

    def take_all(self) -> list[tuple[Request, Outcome]]:
        """Take all that is open, the newest of one id first, and how each ends that nobody will answer any more."""
        taken: list[tuple[Request, Outcome]] = []
        while self.opened:
            request = self.take(next(iter(self.opened)))
            if request is not None:
                taken.append((request, CANCELLED if request.hint is CANCELLED else CONNECTION_LOST))
        return taken

    def _reopened(self, request_id: Any, opened: Opened) -> Request:
        """The request that was open; one that waits behind it has its id now."""
        if isinstance(opened, Request):
            if opened.shadowed is not None:
                self.opened[request_id] = opened.shadowed
            return opened
        route, name, size, started = opened
        request = self._connection.begin_counted(route, name, started)
        request.id = request_id
        request.request_bytes = size
        return request


def as_known(table: Mapping[Any, Any], request_id: Any) -> Any:
    """The id under which a table has what a peer means by ``request_id``.

    Both generations take an id that comes back as a string for the number it reads as
    (``BaseSession._normalize_request_id``, ``dispatcher.coerce_request_id``).
    """
    # A peer may say anything, and not all of that can be looked up.
    if isinstance(request_id, str) and request_id not in table:
        with suppress(ValueError):
            return int(request_id)
    return request_id
