"""Streamable HTTP of 2026-07-28: each POST is an exchange of its own, without dispatcher, streams or session.

The exchange is a connection; the request in it is seen where the handler chain is entered (``serve_one``). A request
that is refused before that (its envelope, its headers) is known only by the bytes that came in, which Starlette keeps,
and by those of the error that went out.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple, cast

from ...core.fail_open import contained, report
from ...core.json_shapes import fields
from ...metrics.events import Answered, Connection, InboundRequests, Recorder, Request
from ...metrics.labels import LISTINGS
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, End, Outcome, error_reply, http_error
from ...metrics.vocabulary import Direction, Mode, Role, Transport
from ...patching.arguments import Parameter
from .. import ending
from ..http_edge import ANSWER, Answer, Edge, answer_to, answering, streamable
from ..state import ModulePatch, State
from . import messages
from .server import ServerNames

_CRASH_CODE: Final = -32603
_CRASH_CODE_NAME: Final = str(_CRASH_CODE)
_VERSION_HEADER: Final = b"mcp-protocol-version"
_EVENT: Final = b"event: message\r\ndata: "
_FRAME_BYTES: Final = len(_EVENT + b"\r\n\r\n")
"""What ``_sse_event`` puts around a message."""
_BODY: Final = "_body"
"""Where Starlette keeps the body of a request that was read."""
_HAS_LEFT: Final = "_is_disconnected"
"""Where it remembers that the client was seen to be gone."""
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
    """What stands for the exchanges with one server by one revision.

    Attributes:
        connection: Their connection.
        inbound: The requests open on it.
    """

    connection: Connection
    inbound: InboundRequests


class _Exchange:
    """One POST. What runs for every one of them contains itself.

    Attributes:
        kind: What stands for it.
        answer: The HTTP answer.
        opened: When it was (``perf_counter`` seconds).
        has_task: Whether the SDK starts a task for its handler.
        send: The ASGI ``send``, where nobody further out watches it and the answer is this exchange's own; else None.
        request: The Starlette request, as soon as the SDK has looked at its headers.
        listing: Whether the SDK asks the server itself for its tools.
        is_handled: Whether the handler chain was entered.
        answered: What :meth:`~.InboundRequests.answer` has returned for its result.
    """

    # No __init__, as Answer has none: whoever makes one sets the first four.
    kind: _Kind
    answer: Answer
    opened: float
    has_task: bool
    send: Any = None
    request: Any = None
    listing = False
    is_handled = False
    answered: tuple[Any, Answered] | Request | None = None
    _displaced: Answer | None = None
    _unsettled: tuple[Request, Outcome] | None = None
    _has_lost = False
    _reply_bytes = 0
    _refusal: list[bytes] | None = None

    def enter(self, edge: Edge, scope: Any, send: Any, displaced: Answer | None) -> None:
        """Have an answer of its own: that of its scope is another exchange's, or another scope's, or there is none."""
        self._displaced = displaced
        self.answer = answering(edge, None, scope, send)
        self.send = self.answer.send

    @contained
    def restore_scope(self) -> None:
        """Leave the scope as it was."""
        if self.send is not None:
            scope = self.answer.scope
            if self._displaced is None:
                scope.pop(ANSWER, None)
            else:
                scope[ANSWER] = self._displaced

    def goes_out(self, body: bytes, message: Any) -> None:
        """A part of the response is sent; contains itself."""
        try:
            # A reply in JSON, and not the name of an event's field.
            if body[0] == _BRACE or self._reply_bytes:
                self._reply_bytes += len(body)
                if not self.is_handled and self.answer.status >= 400:
                    kept = self._refusal = self._refusal or []
                    if sum(map(len, kept)) < _LONGEST_REFUSAL:
                        kept.append(body)
            elif not message.get("more_body") and body.startswith(_EVENT):
                # What comes before it are notifications.
                self._reply_bytes = len(body) - _FRAME_BYTES
        except Exception as error:
            report("exchange.goes_out", error)

    @contained
    def raised(self, error: BaseException) -> None:
        """The handler chain raised."""
        request = self.answered = self.kind.inbound.take(self)
        if request is None:
            return
        outcome = messages.outcome_of(error, _CRASH_CODE)
        if getattr(self.request, _HAS_LEFT, False):
            self._settle(request, CANCELLED)
        elif self.has_task and not isinstance(error, GeneratorExit) and _is_cut():
            # By whom is known when the SDK is through with it.
            self._unsettled = request, outcome
        else:
            self._settle(request, outcome)

    def _settle(self, request: Request, outcome: Outcome) -> None:
        self._has_lost = outcome is CONNECTION_LOST
        request.end(outcome)

    def finished(self, error: BaseException | None = None) -> None:
        """The response is sent, or an exception came out."""
        end, error_type = _CLOSED
        try:
            # Whatever outlives it may still have the scope.
            self.answer.exchange = None
            if self.send is not None:
                self.restore_scope()
            # Its id is the exchange itself: kept, that would be work for the collector.
            answered, self.answered = self.answered, None
            if error is None and type(answered) is tuple:
                if self._reply_bytes:
                    answered[1].measure_response(self._reply_bytes)
            else:
                end, error_type = self._how(error, answered)
        except Exception as failure:
            report("exchange.finished", failure)
        self.kind.connection.close_exchange(self.opened, end, error_type)

    def _how(
        self, error: BaseException | None, answered: tuple[Any, Answered] | Request | None
    ) -> tuple[End, str | None]:
        """How it ended that was not just answered with a result; as :mod:`..ending` has it for connections."""
        if not self.is_handled:
            self._unhandled()
        elif self._reply_bytes:
            _sized(answered, self._reply_bytes)
        # No crash, though somebody raises for it: Starlette while the request is read, the server while it is answered
        # (ASGI 2.4). Handlers' exceptions do not come out.
        has_left = getattr(self.request, _HAS_LEFT, False) or isinstance(error and ending.leaf(error), OSError)
        if self._unsettled is not None:
            # The SDK watches for the client's end, and returns from that as if nothing had happened.
            request, outcome = self._unsettled
            self._settle(request, CANCELLED if error is None or has_left else outcome)
        if error is not None:
            if ending.is_cancellation(error):
                return (End.SHUTDOWN if self._has_lost or self._is_handled_unseen else End.CLOSED), None
            if not has_left:
                return End.ERROR, ending.leaf_name(error)
        if not self._has_lost:
            return _CLOSED
        self.kind.connection.exchange_lost()
        return End.PEER_LOST, None

    @property
    def _is_handled_unseen(self) -> bool:
        """Whether its request was read and not answered, and its handler is not one that is seen."""
        return not self.is_handled and not self.answer.status and getattr(self.request, _BODY, None) is not None

    @contained
    def _unhandled(self) -> None:
        body = getattr(self.request, _BODY, None)
        if body is None:
            return
        try:
            decoded: Any = json.loads(body)
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
            if self.answer.status == 202:
                # Acknowledged and dropped by the SDK; it came all the same.
                self.kind.connection.notified(Direction.INBOUND, method)
        elif self.answer.status < 400:
            # No refusal: it was handled where that is not seen.
            return
        elif isinstance(message["id"], (int, str)) and not isinstance(message["id"], bool):
            self._refused(method, cast("Any", params), len(body))

    def _refused(self, method: str, params: Any, size: int) -> None:
        request = self.kind.connection.begin(Direction.INBOUND, method, params, started=self.opened)
        if request is not None:
            # Its outcome tells what went wrong; the connection is not to blame.
            self.answer.is_request = True
            request.measured(size, response=False)
            if self._reply_bytes:
                request.measured(self._reply_bytes, response=True)
            request.end(self._refusal_outcome())

    def _refusal_outcome(self) -> Any:
        try:
            error = json.loads(b"".join(self._refusal or ()))["error"]
            return error_reply(error["code"], error.get("message"))
        except Exception:
            return http_error(self.answer.status)


def _sized(answered: tuple[Any, Answered] | Request | None, size: int) -> None:
    """The reply to what was answered took ``size`` bytes."""
    if isinstance(answered, Request):
        answered.measured(size, response=True)
    elif answered is not None:
        answered[1].measure_response(size)


@contained
def _is_cut() -> bool:
    """Whether the scope that the current task runs in is cancelled: by the client's end, or from further out."""
    # Imported by now: the SDK stands on it.
    import anyio  # noqa: PLC0415

    return anyio.current_effective_deadline() == -math.inf


def patches(state: State) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.streamable_http_manager", functools.partial(_patch_manager, state)),
        ("mcp.server._streamable_http_modern", functools.partial(_patch_modern, state)),
    )


def _patch_manager(state: State, module: ModuleType) -> None:
    if hasattr(module, "handle_modern_request"):  # 2.x
        state.patches.replace(module, "handle_modern_request", lambda original: _handle_modern_request(state, original))


def _handle_modern_request(state: State, original: Any) -> Any:
    edge, called = Edge(state, streamable), _Called(original)

    @functools.wraps(original)
    async def handle_modern_request(*args: Any, **kwargs: Any) -> Any:
        exchange = _open(edge, called, args, kwargs) if state.recorder is not None else None
        if exchange is None:
            return await original(*args, **kwargs)
        if exchange.send is not None:
            args, kwargs = called.send.put(args, kwargs, exchange.send)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            exchange.finished(error)
            raise
        exchange.finished()
        return result

    return handle_modern_request


class _Called:
    """What ``handle_modern_request`` is called with."""

    __slots__ = ("answers_in_json", "app", "scope", "send")

    def __init__(self, original: Any) -> None:
        self.app = Parameter(original, "app", 0)
        self.answers_in_json = Parameter(original, "json_response", 2)
        self.scope = Parameter(original, "scope", 4)
        self.send = Parameter(original, "send", 6)


def _open(edge: Edge, called: _Called, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Exchange | None:
    recorder = edge.state.recorder
    if recorder is None:
        return None
    exchange = None
    try:
        app, scope, send = called.app.of(args, kwargs), called.scope.of(args, kwargs), called.send.of(args, kwargs)
        name = app.name if isinstance(app.name, str) else None
        # A copy of a server has what was left on it, and has registered something else.
        key = id(app), name, dict(scope["headers"]).get(_VERSION_HEADER, b"")
        kinds = getattr(app, _KINDS, None)
        kind: _Kind | None = kinds.get(key) if kinds is not None else None
        exchange = _Exchange()
        exchange.has_task = not called.answers_in_json.of(args, kwargs)
        answer = scope.get(ANSWER)
        if answer is not None and answer.scope is scope and answer.exchange is None:
            exchange.answer = answer
        else:
            exchange.enter(edge, scope, send, answer)
        is_first = kind is None or not recorder.has_opened(kind.connection)
        # What is open has to be closed: nothing that can fail comes after this.
        if is_first:
            kind = _first(recorder, app, key)
        if kind is not None:
            exchange.kind = kind
            exchange.opened = kind.connection.opened if is_first else kind.connection.open_exchange()
            exchange.answer.exchange = exchange
            return exchange
    except Exception as error:
        report("exchange.open", error)
    if exchange is not None:
        exchange.restore_scope()
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
    kind = _Kind(connection, InboundRequests(connection))
    # Only what is bounded is remembered (the revision is what the peer says), and what learns nothing any more.
    if connection.is_identified and connection.protocol_version == version:
        _remember(recorder, app, key, kind)
    return kind


@contained
def _remember(recorder: Recorder, app: Any, key: _Key, kind: _Kind) -> None:
    # Apart from the opening: what is open has to be closed, whatever a server object does.
    kinds: dict[_Key, _Kind] = getattr(app, _KINDS, {})
    kept = {each: known for each, known in kinds.items() if recorder.has_opened(known.connection)}
    setattr(app, _KINDS, {**(kept if len(kept) < _MOST_KINDS else {}), key: kind})


def _patch_modern(state: State, module: ModuleType) -> None:
    state.patches.replace(module, "serve_one", lambda original: _serve_one(state, original))
    state.patches.replace(module, "check_accept_headers", lambda original: _check_accept_headers(original))
    state.patches.replace(module, "_tool_input_schema", lambda original: _tool_input_schema(original))
    context = module._SingleExchangeDispatchContext
    state.patches.replace(context, "notify", lambda original: _notify(state, original))


@contained
def _exchange(request: Any) -> _Exchange | None:
    """The exchange that a Starlette request is made in."""
    answer: Any = answer_to(request.scope)
    return answer.exchange if answer is not None else None


@contained
def _around(dctx: Any) -> _Exchange | None:
    """The exchange of a ``_SingleExchangeDispatchContext``."""
    return _exchange(dctx.message_metadata.request_context)


def _check_accept_headers(original: Any) -> Any:
    @functools.wraps(original)
    def check_accept_headers(*args: Any, **kwargs: Any) -> Any:
        try:
            request = args[0] if args else kwargs["request"]
            # As _exchange() has it, without the calls.
            answer = request.scope.get(ANSWER)
            if answer is not None and answer.exchange is not None:
                answer.exchange.request = request
        except Exception as error:
            report("exchange.request", error)
        return original(*args, **kwargs)

    return check_accept_headers


def _serve_one(state: State, original: Any) -> Any:
    dctx, method_of, params_of = (
        Parameter(original, name, place) for name, place in (("dctx", 1), ("method", 2), ("params", 3))
    )

    @functools.wraps(original)
    async def serve_one(*args: Any, **kwargs: Any) -> Any:
        exchange = None
        if state.recorder is not None:
            try:
                # As _around() has it, without the calls.
                answer = dctx.of(args, kwargs).message_metadata.request_context.scope.get(ANSWER)
                exchange = answer.exchange if answer is not None else None
            except Exception as error:
                report("exchange.serve_one", error)
        if exchange is None:
            return await original(*args, **kwargs)
        method, params = method_of.of(args, kwargs), params_of.of(args, kwargs)
        if exchange.listing:
            # The SDK asks itself: not a request, but what it lists is registered.
            result = await original(*args, **kwargs)
            _listed(exchange, method, result)
            return result
        exchange.is_handled = True
        try:
            exchange.answer.is_request = True
            connection, inbound = exchange.kind
            body = getattr(exchange.request, _BODY, None)
            # There is one request to an exchange.
            inbound.begin(exchange, {"method": method, "params": params}, -1 if body is None else len(body))
            if method == "subscriptions/listen":
                exchange.has_task = True
            if exchange.has_task:
                connection.task_started()
        except Exception as error:
            report("exchange.begin", error)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            # Closing the response stream is how a 2026-07-28 client cancels.
            exchange.raised(error)
            raise
        try:
            answered = exchange.answered = exchange.kind.inbound.answer(exchange, result)
            if isinstance(answered, Request):
                messages.answered(answered, answered.hint, result)
        except Exception as error:
            report("exchange.answered", error)
        return result

    return serve_one


@contained
def _listed(exchange: _Exchange, method: str, result: Any) -> None:
    if method in LISTINGS:
        exchange.kind.connection.listed(Direction.INBOUND, method, result)


def _tool_input_schema(original: Any) -> Any:
    request = Parameter(original, "request", 1)

    @functools.wraps(original)
    async def _tool_input_schema(*args: Any, **kwargs: Any) -> Any:
        exchange = _exchange(request.of(args, kwargs))
        if exchange is None:
            return await original(*args, **kwargs)
        exchange.listing = True
        try:
            return await original(*args, **kwargs)
        finally:
            exchange.listing = False

    return _tool_input_schema


def _notify(state: State, original: Any) -> Any:
    method = Parameter(original, "method", 0)

    @functools.wraps(original)
    async def notify(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Without a sink (a JSON response) the SDK drops it.
        exchange = None
        if state.recorder is not None and getattr(self, "sink", None) is not None:
            exchange = _around(self)
        if exchange is None:
            return await original(self, *args, **kwargs)
        since = perf_counter()
        result = await original(self, *args, **kwargs)
        exchange.kind.connection.notified(Direction.OUTBOUND, method.of(args, kwargs), perf_counter() - since)
        return result

    return notify
