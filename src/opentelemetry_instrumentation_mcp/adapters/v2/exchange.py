"""Streamable HTTP of 2026-07-28: each POST is an exchange of its own, without dispatcher, streams or session.

The exchange is a connection; the request in it is seen where the handler chain is entered (``serve_one``). A request
that is refused before that (its envelope, its headers) is known only by the bytes that came in and went out, so both
are kept until the handler is reached, and read when it never was.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from contextvars import ContextVar
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

from ...metrics.connection import Connection, Request
from ...metrics.inbound import Inbound
from ...metrics.labels import LISTINGS
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, End, error_reply, http_error
from ...metrics.recorder import Recorder
from ...metrics.series import Calls
from ...metrics.vocabulary import Direction, Mode, Role, Transport
from ...safety import contained, report
from ...wire import fields
from .. import ending
from ..adapter import Adapter
from ..http_edge import Answer, Edge, answer_to, streamable
from ..outbound import leave
from . import messages
from .server import ServerNames

_CRASH_CODE: Final = -32603
_CRASH_CODE_NAME: Final = str(_CRASH_CODE)
_VERSION_HEADER: Final = b"mcp-protocol-version"
_FRAME_BYTES: Final = len(b"event: message\r\ndata: \r\n\r\n")
_CLOSED: Final = (End.CLOSED, None)

_REPLIES: Final = ("JSONRPCResponse", "JSONRPCError")

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
    _json_bytes = 0
    handled = False
    listing = False
    disconnected = False
    _has_lost = False

    def __init__(self, adapter: Adapter, kind: _Kind, opened: float, answers_in_json: bool) -> None:
        self.connection, self._inbound = kind
        self._opened = opened
        self._adapter = adapter
        self._answers_in_json = answers_in_json
        self._body: list[bytes] = []
        self._answer: Answer | None = None

    def watched(self, scope: Any, receive: Any, send: Any) -> tuple[Any, Any, Any]:
        """What an ASGI application gets, watched; ``send`` by who watches the HTTP answer, if somebody does."""

        async def receive_watched() -> Any:
            message = await receive()
            try:
                if message["type"] == "http.disconnect":
                    self.disconnected = True
                elif not self.handled:
                    self._body.append(message.get("body", b""))
            except Exception as error:
                report("exchange.receive", error)
            return message

        try:
            answer = answer_to(scope)
            if answer is None or answer.listener is not None:
                # For the exchange alone.
                answer = Answer()
                answer.edge, answer.entry, answer.scope = Edge(self._adapter, streamable), None, scope
                answer.sends, send = send, answer.send
            self._answer = answer
            answer.listener = self._goes_out
        except Exception as error:
            report("exchange.watched", error)
        return scope, receive_watched, send

    def _goes_out(self, body: bytes) -> None:
        try:
            # A reply in JSON, and not the name of an event's field.
            if body[0] == _BRACE or self._json_bytes:
                self._json_bytes += len(body)
                if not self.handled and self._status >= 400:
                    kept = self._refusal = self._refusal or []
                    if sum(map(len, kept)) < _LONGEST_REFUSAL:
                        kept.append(body)
        except Exception as error:
            report("exchange.send", error)

    @property
    def _status(self) -> int:
        return self._answer.status if self._answer is not None else 0

    @contained
    def event(self, message: Any, frame: bytes) -> None:
        """A message was framed as an SSE event; the answer is the one that is a reply."""
        if type(message).__name__ in _REPLIES:
            self._sized(len(frame) - _FRAME_BYTES)

    def begin(self, method: str, params: Any) -> None:
        """The handler chain is entered."""
        self.handled = True
        try:
            size = sum(map(len, self._body))
            self._body.clear()
            answer, recorder = self._answer, self._adapter.recorder
            if answer is not None:
                answer.is_request = True
            # There is one request to an exchange.
            self._inbound.begin(self, {"method": method, "params": params}, size)
            if recorder is not None and (not self._answers_in_json or method == "subscriptions/listen"):
                recorder.task_spawned(Role.SERVER)
        except Exception as error:
            report("exchange.begin", error)

    def answered(self, result: Any) -> None:
        """The handler chain has returned."""
        try:
            answered = self._answered = self._inbound.answer(self, result)
            if isinstance(answered, Request):
                messages.answered(answered, answered.hint, result)
        except Exception as error:
            report("exchange.answered", error)

    @contained
    def raised(self, error: BaseException) -> None:
        """The handler chain raised."""
        request = self._answered = self._inbound.take(self)
        if request is not None:
            outcome = CANCELLED if self.disconnected else messages.outcome_of(error, _CRASH_CODE)
            self._has_lost = outcome is CONNECTION_LOST
            request.end(outcome)

    def _sized(self, size: int) -> None:
        """The reply took ``size`` bytes."""
        answered, self._answered = self._answered, None
        if isinstance(answered, Request):
            answered.measured(size, response=True)
        elif answered is not None:
            _, calls = answered
            (calls.response_sizes or calls.sized(response=True)).add(size)

    def over(self, error: BaseException | None = None) -> None:
        """The response is sent, or an exception came out."""
        self._account()
        end: tuple[End, str | None] = _CLOSED
        try:
            if error is not None or self._has_lost:
                end = self._how(error)
        except Exception as failure:
            report("exchange.over", failure)
        self.connection.over(self._opened, *end)

    def _how(self, error: BaseException | None) -> tuple[End, str | None]:
        """How the exchange ended; as :mod:`..ending` has it for connections."""
        if error is not None:
            if ending.is_cancellation(error):
                return (End.SHUTDOWN if self._has_lost else End.CLOSED), None
            # A client that leaves while its request is read is no crash, though the framework raises for it.
            if not self.disconnected:
                return End.ERROR, ending.leaf_name(error)
        return (End.PEER_LOST if self._has_lost else End.CLOSED), None

    def _account(self) -> None:
        """Account for the bytes of the response, or for a message no handler saw."""
        try:
            if not self.handled:
                if self._body:
                    self._unhandled()
            elif self._json_bytes:
                self._sized(self._json_bytes)
            # Contexts outlive the exchange, and this is in them.
            self._answered = None
            self._body.clear()
            answer, self._answer = self._answer, None
            if answer is not None:
                answer.listener = None
        except Exception as error:
            report("exchange.account", error)

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
            if self._status == 202:
                # Acknowledged and dropped by the SDK; it came all the same.
                self.connection.notified(Direction.INBOUND, method)
        elif isinstance(message["id"], (int, str)) and not isinstance(message["id"], bool):
            self._refused(method, cast("Any", params))

    def _refused(self, method: str, params: Any) -> None:
        request = self.connection.begin(Direction.INBOUND, method, params, started=self._opened)
        if request is not None:
            # Its outcome tells what went wrong; the line is not to blame.
            if self._answer is not None:
                self._answer.is_request = True
            request.measured(sum(map(len, self._body)), response=False)
            if self._json_bytes:
                request.measured(self._json_bytes, response=True)
            request.end(self._refusal_outcome())

    def _refusal_outcome(self) -> Any:
        try:
            error = json.loads(b"".join(self._refusal or ()))["error"]
            return error_reply(error["code"], error.get("message"))
        except Exception:
            return http_error(self._status)


_exchange: ContextVar[_Exchange | None] = ContextVar("opentelemetry_instrumentation_mcp_exchange", default=None)


def _patch_manager(adapter: Adapter, module: ModuleType) -> None:
    if hasattr(module, "handle_modern_request"):  # 2.x
        adapter.patches.replace(module, "handle_modern_request", lambda o: _handle_modern_request(adapter, o))


def _handle_modern_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def handle_modern_request(app: Any, *args: Any) -> None:
        exchange = _open(adapter, app, args) if adapter.recorder is not None else None
        if exchange is None:
            await original(app, *args)
            return
        token = _exchange.set(exchange)
        try:
            await original(app, *args[:-3], *exchange.watched(*args[-3:]))
        except BaseException as error:
            exchange.over(error)
            raise
        finally:
            leave(_exchange, token)
        exchange.over()

    return handle_modern_request


def _open(adapter: Adapter, app: Any, args: Any) -> _Exchange | None:
    recorder = adapter.recorder
    if recorder is None:
        return None
    try:
        # security_settings, json_response, lifespan_state, then what every ASGI application gets
        _, answers_in_json, *_, scope, _, _ = args
        name = app.name if isinstance(app.name, str) else None
        # A copy of a server has what was left on it, and has registered something else.
        key = id(app), name, dict(scope["headers"]).get(_VERSION_HEADER, b"")
        kinds = getattr(app, _KINDS, None)
        kind: _Kind | None = kinds.get(key) if kinds is not None else None
        if kind is not None and kind.connection.series.recorder is recorder:
            return _Exchange(adapter, kind, recorder.another(kind.connection), bool(answers_in_json))
        kind = _first(recorder, app, key)
        return _Exchange(adapter, kind, kind.connection.opened, bool(answers_in_json)) if kind is not None else None
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
    adapter.patches.replace(module, "_sse_event", lambda original: _sse_event(original))
    context = module._SingleExchangeDispatchContext
    adapter.patches.replace(context, "notify", lambda original: _notify(adapter, original))


def _serve_one(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def serve_one(app: Any, dctx: Any, method: str, params: Any, **kwargs: Any) -> Any:
        exchange = _exchange.get()
        if exchange is None or adapter.recorder is None:
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
    async def _tool_input_schema(*args: Any, **kwargs: Any) -> Any:
        exchange = _exchange.get()
        if exchange is None:
            return await original(*args, **kwargs)
        exchange.listing = True
        try:
            return await original(*args, **kwargs)
        finally:
            exchange.listing = False

    return _tool_input_schema


def _sse_event(original: Any) -> Any:
    @functools.wraps(original)
    def _sse_event(message: Any) -> bytes:
        frame: bytes = original(message)
        exchange = _exchange.get()
        if exchange is not None:
            exchange.event(message, frame)
        return frame

    return _sse_event


def _notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def notify(self: Any, method: str, params: Any, opts: Any = None) -> None:
        exchange = _exchange.get()
        # Without a sink (a JSON response) the SDK drops it.
        if exchange is None or adapter.recorder is None or self.sink is None:
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
