"""Streamable HTTP of 2026-07-28: each POST is an exchange of its own, without dispatcher, streams or session.

The exchange is a connection; the request in it is seen where the handler chain is entered (``serve_one``). A request
that is refused before that (its envelope, its headers) is known only by the bytes that came in and went out, so both
are kept until the handler is reached, and read when it never was.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

from ...metrics.connection import Connection, Request
from ...metrics.inbound import Inbound
from ...metrics.labels import LISTINGS
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, End, Outcome, error_reply, http_error
from ...metrics.recorder import Recorder
from ...metrics.series import Calls
from ...metrics.vocabulary import Direction, Mode, Role, Transport
from ...safety import contained, report
from ...wire import fields
from .. import ending
from ..adapter import Adapter
from ..http_edge import ANSWER, Answer, Edge, answer_to, streamable, watch
from . import messages
from .server import ServerNames

_CRASH_CODE: Final = -32603
_CRASH_CODE_NAME: Final = str(_CRASH_CODE)
_VERSION_HEADER: Final = b"mcp-protocol-version"
_EVENT: Final = b"event: message\r\ndata: "
_FRAME_BYTES: Final = len(_EVENT + b"\r\n\r\n")
"""What ``_sse_event`` puts around a message."""
_CLOSED: Final = (End.CLOSED, None)

_LONGEST_REFUSAL: Final = 65_536
"""Bytes of an error response that are kept to read its code; a JSON-RPC error is a few hundred."""

_BRACE: Final = ord("{")
_Key = tuple[int, str | None, bytes]
_KINDS: Final = "_otel_mcp_exchanges"
"""Attribute left on a server object (not on its class): what stands for exchanges with it, by its identity, its name
and their revision."""
_MOST_KINDS: Final = 16


class _Kind(NamedTuple):
    """What stands for the exchanges with one server by one revision: a connection, and the requests open on it."""

    connection: Connection
    inbound: Inbound


class _Exchange:
    """One POST. What runs for every one of them contains itself."""

    _refusal: list[bytes] | None = None
    _answered: tuple[Any, Calls] | Request | None = None
    _unsettled: tuple[Request, BaseException] | None = None
    _reply_bytes = 0
    handled = False
    listing = False
    disconnected = False
    _has_lost = False

    connection: Connection
    inbound: Inbound
    opened: float
    arguments: tuple[Any, ...]
    """What the SDK's handler gets."""

    def __init__(self, adapter: Adapter, answer: Answer, answers_in_json: bool) -> None:
        self._adapter = adapter
        self._answer = answer
        self._answers_in_json = answers_in_json
        self._body: list[bytes] = []

    def receiving(self, receive: Any) -> Any:
        """The ASGI ``receive``, watched until the message is there: what comes after it ends the exchange anyway."""

        async def receive_watched() -> Any:
            message = await receive()
            try:
                if message["type"] == "http.disconnect":
                    self.disconnected = True
                else:
                    self._body.append(message.get("body", b""))
            except Exception as error:
                report("exchange.receive", error)
            return message

        return lambda: receive() if self.handled else receive_watched()

    def goes_out(self, body: bytes, message: Any) -> None:
        """A part of the response is sent; contains itself."""
        try:
            # A reply in JSON, and not the name of an event's field.
            if body[0] == _BRACE or self._reply_bytes:
                self._reply_bytes += len(body)
                if not self.handled and self._answer.status >= 400:
                    kept = self._refusal = self._refusal or []
                    if sum(map(len, kept)) < _LONGEST_REFUSAL:
                        kept.append(body)
            elif not message.get("more_body") and body.startswith(_EVENT):
                # What comes before it are notifications.
                self._reply_bytes = len(body) - _FRAME_BYTES
        except Exception as error:
            report("exchange.send", error)

    def begin(self, method: str, params: Any) -> None:
        """The handler chain is entered."""
        self.handled = True
        try:
            body = self._body
            size = len(body[0]) if len(body) == 1 else sum(map(len, body))
            body.clear()
            self._answer.is_request = True
            # There is one request to an exchange.
            self.inbound.begin(self, {"method": method, "params": params}, size)
            recorder = self._adapter.recorder
            if recorder is not None and (not self._answers_in_json or method == "subscriptions/listen"):
                recorder.task_spawned(Role.SERVER)
        except Exception as error:
            report("exchange.begin", error)

    def answered(self, result: Any) -> None:
        """The handler chain has returned."""
        try:
            answered = self._answered = self.inbound.answer(self, result)
            if isinstance(answered, Request):
                messages.answered(answered, answered.hint, result)
        except Exception as error:
            report("exchange.answered", error)

    @contained
    def raised(self, error: BaseException) -> None:
        """The handler chain raised."""
        request = self._answered = self.inbound.take(self)
        if request is None:
            return
        if self.disconnected or not _is_cut():
            self._raised(request, CANCELLED if self.disconnected else messages.outcome_of(error, _CRASH_CODE))
        else:
            self._unsettled = request, error

    def _raised(self, request: Request, outcome: Outcome) -> None:
        self._has_lost = outcome is CONNECTION_LOST
        request.end(outcome)

    def _sized(self, size: int) -> None:
        """The reply took ``size`` bytes."""
        answered = self._answered
        if isinstance(answered, Request):
            answered.measured(size, response=True)
        elif answered is not None:
            calls = answered[1]
            (calls.response_sizes or calls.sized(response=True)).add(size)

    def over(self, error: BaseException | None = None) -> None:
        """The response is sent, or an exception came out."""
        end: tuple[End, str | None] = _CLOSED
        try:
            if not self.handled:
                if self._body:
                    self._unhandled()
            elif self._reply_bytes:
                self._sized(self._reply_bytes)
            # Whatever outlives it may still have the scope.
            answer = self._answer
            answer.listener = None
            if not answer.entry:
                answer.scope.pop(ANSWER, None)
            if self._unsettled is not None:
                # Only its own end, which is the client's, lets the SDK return from it.
                request, raised = self._unsettled
                self._raised(request, CANCELLED if error is None else messages.outcome_of(raised, _CRASH_CODE))
                self._unsettled = None
            if error is not None or self._has_lost:
                end = self._how(error)
        except Exception as failure:
            report("exchange.over", failure)
        self.connection.over(self.opened, *end)

    def _how(self, error: BaseException | None) -> tuple[End, str | None]:
        """How the exchange ended; as :mod:`..ending` has it for connections."""
        if error is not None:
            if ending.is_cancellation(error):
                return (End.SHUTDOWN if self._has_lost else End.CLOSED), None
            # A client that leaves while its request is read is no crash, though the framework raises for it.
            if not self.disconnected:
                return End.ERROR, ending.leaf_name(error)
        return (End.PEER_LOST if self._has_lost else End.CLOSED), None

    @contained
    def _unhandled(self) -> None:
        try:
            decoded: Any = json.loads(b"".join(self._body))
        except (ValueError, RecursionError):
            return
        message = fields(decoded)
        method: Any = message.get("method")
        params: Any = message.get("params")
        if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
            return
        if params is not None and not isinstance(params, Mapping):
            return
        if "id" not in message:
            if self._answer.status == 202:
                # Acknowledged and dropped by the SDK; it came all the same.
                self.connection.notified(Direction.INBOUND, method)
        elif isinstance(message["id"], (int, str)) and not isinstance(message["id"], bool):
            self._refused(method, cast("Any", params))

    def _refused(self, method: str, params: Any) -> None:
        request = self.connection.begin(Direction.INBOUND, method, params, started=self.opened)
        if request is not None:
            # Its outcome tells what went wrong; the line is not to blame.
            self._answer.is_request = True
            request.measured(sum(map(len, self._body)), response=False)
            if self._reply_bytes:
                request.measured(self._reply_bytes, response=True)
            request.end(self._refusal_outcome())

    def _refusal_outcome(self) -> Any:
        try:
            error = json.loads(b"".join(self._refusal or ()))["error"]
            return error_reply(error["code"], error.get("message"))
        except Exception:
            return http_error(self._answer.status)


@contained
def _is_cut() -> bool:
    """Whether the scope that the current task runs in is cancelled: by the client's end, or from further out."""
    # Imported by now: the SDK stands on it.
    import anyio  # noqa: PLC0415

    return anyio.current_effective_deadline() == -math.inf


def _exchange_of(request: Any) -> _Exchange | None:
    """The exchange that a Starlette request is made in."""
    try:
        answer: Any = answer_to(request.scope)
        return answer.listener if answer is not None else None
    except Exception as error:
        report("exchange.of", error)
        return None


def _exchange_around(dctx: Any) -> _Exchange | None:
    """The exchange of a ``_SingleExchangeDispatchContext``."""
    try:
        answer: Any = answer_to(dctx.message_metadata.request_context.scope)
        return answer.listener if answer is not None else None
    except Exception as error:
        report("exchange.around", error)
        return None


def _patch_manager(adapter: Adapter, module: ModuleType) -> None:
    if hasattr(module, "handle_modern_request"):  # 2.x
        adapter.patches.replace(module, "handle_modern_request", lambda o: _handle_modern_request(adapter, o))


def _handle_modern_request(adapter: Adapter, original: Any) -> Any:
    edge = Edge(adapter, streamable)

    @functools.wraps(original)
    async def handle_modern_request(app: Any, *args: Any) -> None:
        exchange = _open(edge, app, args) if adapter.recorder is not None else None
        if exchange is None:
            await original(app, *args)
            return
        try:
            await original(app, *exchange.arguments)
        except BaseException as error:
            exchange.over(error)
            raise
        exchange.over()

    return handle_modern_request


def _open(edge: Edge, app: Any, args: Any) -> _Exchange | None:
    recorder = edge.adapter.recorder
    if recorder is None:
        return None
    try:
        # security_settings, json_response, lifespan_state, then what every ASGI application gets
        _, answers_in_json, *_, scope, receive, send = args
        name = app.name if isinstance(app.name, str) else None
        # A copy of a server has what was left on it, and has registered something else.
        key = id(app), name, dict(scope["headers"]).get(_VERSION_HEADER, b"")
        # Nobody watches a copy of the scope that the SDK was given.
        answer = answer_to(scope) or watch(edge, None, scope, send)
        if answer is None:
            return None
        exchange = _Exchange(edge.adapter, answer, bool(answers_in_json))
        exchange.arguments = (*args[:-2], exchange.receiving(receive), send if answer.entry else answer.send)
        kinds = getattr(app, _KINDS, None)
        kind: _Kind | None = kinds.get(key) if kinds is not None else None
        if kind is not None and kind.connection.series.recorder is recorder:
            opened = kind.connection.another()
        else:
            kind = _first(recorder, app, key)
            if kind is None:
                return None
            opened = kind.connection.opened
        exchange.connection, exchange.inbound = kind
        exchange.opened = opened
        answer.listener = exchange
        return exchange
    except Exception as error:
        report("exchange.open", error)
        return None


def _first(recorder: Recorder, app: Any, key: _Key) -> _Kind | None:
    """The first exchange of its kind."""
    _, name, header = key
    version = header.decode("latin-1") or None
    connection = recorder.open(
        Role.SERVER,
        Transport.STREAMABLE_HTTP,
        Mode.STATELESS,
        server_name=name,
        protocol_version=version,
        registry=ServerNames(app),
        crash_code=_CRASH_CODE_NAME,
    )
    if connection is None:
        return None
    kind = _Kind(connection, Inbound(connection))
    # Only what is bounded is remembered (the revision is what the peer says), and what learns nothing any more.
    if connection.is_identified and connection.protocol_version == version:
        _remember(app, key, kind)
    return kind


@contained
def _remember(app: Any, key: _Key, kind: _Kind) -> None:
    # Apart from the opening: what is open has to be closed, whatever a server object does.
    kinds: dict[_Key, _Kind] = getattr(app, _KINDS, {})
    recorder = kind.connection.series.recorder
    kept = {each: known for each, known in kinds.items() if known.connection.series.recorder is recorder}
    setattr(app, _KINDS, {**(kept if len(kept) < _MOST_KINDS else {}), key: kind})


def _patch_modern(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module, "serve_one", lambda original: _serve_one(adapter, original))
    adapter.patches.replace(module, "_tool_input_schema", lambda original: _tool_input_schema(original))
    context = module._SingleExchangeDispatchContext
    adapter.patches.replace(context, "notify", lambda original: _notify(adapter, original))


def _serve_one(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def serve_one(app: Any, dctx: Any, method: str, params: Any, **kwargs: Any) -> Any:
        exchange = _exchange_around(dctx) if adapter.recorder is not None else None
        if exchange is None:
            return await original(app, dctx, method, params, **kwargs)
        if exchange.listing:
            # The SDK asks itself: not a request, but what it lists is registered.
            result = await original(app, dctx, method, params, **kwargs)
            _listed(exchange, method, result)
            return result
        exchange.begin(method, params)
        try:
            result = await original(app, dctx, method, params, **kwargs)
        except BaseException as error:
            # Closing the response stream is how a 2026-07-28 client cancels.
            exchange.raised(error)
            raise
        exchange.answered(result)
        return result

    return serve_one


@contained
def _listed(exchange: _Exchange, method: str, result: Any) -> None:
    if method in LISTINGS:
        exchange.connection.listed(Direction.INBOUND, method, result)


def _tool_input_schema(original: Any) -> Any:
    @functools.wraps(original)
    async def _tool_input_schema(app: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = _exchange_of(request)
        if exchange is None:
            return await original(app, request, *args, **kwargs)
        exchange.listing = True
        try:
            return await original(app, request, *args, **kwargs)
        finally:
            exchange.listing = False

    return _tool_input_schema


def _notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def notify(self: Any, method: str, params: Any, opts: Any = None) -> None:
        # Without a sink (a JSON response) the SDK drops it.
        exchange = _exchange_around(self) if adapter.recorder is not None and self.sink is not None else None
        if exchange is None:
            await original(self, method, params, opts)
            return
        since = perf_counter()
        await original(self, method, params, opts)
        exchange.connection.notified(Direction.OUTBOUND, method, perf_counter() - since)

    return notify


PATCHES: Final = (
    ("mcp.server.streamable_http_manager", _patch_manager),
    ("mcp.server._streamable_http_modern", _patch_modern),
)
