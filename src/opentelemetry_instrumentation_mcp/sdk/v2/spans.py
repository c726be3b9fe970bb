"""The spans mcp 2.x makes by itself: no second one beside them, only what they lack, while they are open.

The SDK opens each span by one function, ``otel_span``, in the dispatcher (CLIENT) and in a middleware (SERVER). It is
replaced where it is used. A span has ended when the metrics of its request are recorded, outside of the SDK's chain; it
stays current until then, and what is around all of it puts back what was.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, TracerProvider

from ...core.fail_open import contained
from ...core.json_shapes import fields
from ...metrics.catalogue import PROTOCOL_VERSION, RPC_STATUS_CODE
from ...metrics.labels import bounded_version
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, TIMEOUT, TOOL_ERROR, Outcome, number_name
from ...metrics.vocabulary import Transport
from ...patching.arguments import Parameter
from ...tracing import propagation
from ...tracing.operations import Attributes, HttpRequest, Operations, is_client_span_of, mark, network
from .. import ending
from ..outbound import reset
from ..state import ModulePatch, State
from ..streams import Streams
from . import messages, seam

_PEER: Final = "_otel_mcp_peer"
"""Attribute left on a dispatcher object: what its spans say about the transport."""

_CALLS: Final = "_otel_mcp_calls"
"""Likewise: the calls that wait for their replies, by their ids as the wire's text."""

_MIDDLEWARE_SCOPE: Final = "mcp-python-sdk"
_FASTMCP: Final = "fastmcp"
_CONNECTION_CLOSED: Final = -32000

_CRASH_CODE: Final = 0
_MODERN_CRASH_CODE: Final = -32603
"""What a dispatcher, and what one without streams or a single exchange, answers when a handler raises."""


class _Call:
    """A request of this process under way."""

    __slots__ = ("dispatcher", "is_answered", "method", "params", "span")

    def __init__(self, dispatcher: Any, method: str, params: Any) -> None:
        self.dispatcher = dispatcher
        self.method = method
        self.params = params
        self.span: Span | None = None
        self.is_answered = False


_CALL: Final[ContextVar[_Call | None]] = ContextVar("opentelemetry_instrumentation_mcp_call", default=None)


class _Served:
    """A message that this process handles.

    Attributes:
        context: Its ``ServerRequestContext``.
        is_described: Whether its SERVER span was found. Further ones that fastmcp opens within are not the message's.
    """

    __slots__ = ("context", "is_described")

    def __init__(self, context: Any) -> None:
        self.context = context
        self.is_described = False


_REQUEST: Final[ContextVar[_Served | None]] = ContextVar("opentelemetry_instrumentation_mcp_served", default=None)
"""The message that is handled in this context."""


class NativeSpans:
    """What one ``instrument()`` does about native spans.

    Args:
        state: What its wrappers hold.
        open_streams: The open stream pairs.
        operations: What knows what a span has to say.
        provider: The tracer provider given to ``instrument()``, if one was: the SDK's spans then go there as well.
    """

    def __init__(
        self, state: State, open_streams: Streams, operations: Operations, provider: TracerProvider | None
    ) -> None:
        self._state = state
        self._open_streams = open_streams
        self._operations = operations
        self._provider = provider

    @property
    def is_retired(self) -> bool:
        """Whether the patches are taken out."""
        return self._state.recorder is None

    def patches(self, enrichment: bool) -> list[ModulePatch]:
        """What is patched, and in which modules.

        Args:
            enrichment: Whether spans are added to.
        """
        found: list[ModulePatch] = []
        if self._provider is not None:
            found.append(("mcp.shared._otel", self._patch_tracer))
        if enrichment:
            found += [
                ("mcp.shared.jsonrpc_dispatcher", self._patch_dispatcher),
                ("mcp.shared.direct_dispatcher", functools.partial(_patch_direct, self._state)),
                ("mcp.server._otel", self._patch_middleware),
                ("mcp.server.runner", functools.partial(_patch_runner, self._state)),
                ("mcp.server._streamable_http_modern", functools.partial(_patch_modern, self._state)),
                ("mcp.client.streamable_http", self._patch_http_client),
            ]
        return found

    def _patch_tracer(self, module: ModuleType) -> None:
        provider = self._provider
        self._state.patches.replace(module, "_tracer", lambda _: trace.get_tracer(_MIDDLEWARE_SCOPE, None, provider))

    def _patch_dispatcher(self, module: ModuleType) -> None:
        patches, dispatcher = self._state.patches, module.JSONRPCDispatcher
        patches.replace(module, "otel_span", self._client_span)
        patches.replace(dispatcher, "send_raw_request", _send_raw_request)
        patches.replace(dispatcher, "_resolve_pending", _resolve_pending)

    def _patch_middleware(self, module: ModuleType) -> None:
        self._state.patches.replace(module, "otel_span", self._server_span)

    def _patch_http_client(self, module: ModuleType) -> None:
        transport = module.StreamableHTTPTransport
        if hasattr(transport, "_resolve_abandoned_request"):  # 2.x
            self._state.patches.replace(transport, "_handle_post_request", self._handle_post)

    def _handle_post(self, original: Any) -> Any:
        native = self

        @functools.wraps(original)
        def handle_post_request(self: Any, *args: Any, **kwargs: Any) -> Any:
            # It runs in the context of whoever sends the request.
            call = _CALL.get()
            if call is not None:
                native.posted(call, self)
            return original(self, *args, **kwargs)

        return handle_post_request

    @contained
    def posted(self, call: _Call, transport: Any) -> None:
        """A call goes out by an HTTP transport."""
        if call.span is not None and call.span.is_recording():
            self._operations.in_session(call.span, getattr(transport, "session_id", None))

    def _client_span(self, original: Any) -> Any:
        @functools.wraps(original)
        def otel_span(*args: Any, **kwargs: Any) -> Any:
            call = _CALL.get()
            if call is None:
                return original(*args, **kwargs)
            outer = _open_in_fastmcp(call)
            # fastmcp may have one open for this very call.
            block = _Outer(outer) if outer is not None else original(*args, **kwargs)
            return _ClientSpan(self, call, block, kwargs)

        return otel_span

    def _server_span(self, original: Any) -> Any:
        @functools.wraps(original)
        def otel_span(*args: Any, **kwargs: Any) -> Any:
            return ServerSpan(self, original(*args, **kwargs))

        return otel_span

    @contained
    def describe_call(self, span: Span, call: _Call, request_id: Any) -> None:
        """Add to a CLIENT span what it lacks."""
        dispatcher = call.dispatcher
        calls: dict[object, _Call] | None = getattr(dispatcher, _CALLS, None)
        if calls is None:
            calls = {}
            setattr(dispatcher, _CALLS, calls)
        call.span = span
        calls[request_id] = call
        if not span.is_recording():
            return
        self._operations.about(span, call.method, call.params, request_id)
        span.set_attributes(self._peer_of(dispatcher))
        session = seam.client_session(dispatcher)
        # A request of 2026-07-28 says its revision itself; `initialize` is before any.
        version: Any = getattr(session, "protocol_version", None)
        if version is None:
            version = fields(fields(call.params).get("_meta")).get(messages.PROTOCOL_VERSION_KEY)
        version = bounded_version(version)
        if version is not None:
            span.set_attribute(PROTOCOL_VERSION, version)

    @contained
    def describe_request(self, span: Span) -> _Served | None:
        """Add to a SERVER span what it lacks.

        Returns:
            The message, if this is its span.
        """
        served = _REQUEST.get()
        if served is None or served.is_described or not span.is_recording():
            return None
        served.is_described = True
        self._describe(span, served.context)
        return served

    def _describe(self, span: Span, context: Any) -> None:
        self._operations.about(span, context.method, context.params, context.request_id)
        scope = getattr(context.request, "scope", None)
        if scope is None:
            dispatcher = getattr(getattr(context.session, "_request_outbound", None), "_dispatcher", None)
            span.set_attributes(self._peer_of(dispatcher))
            return
        headers: Any = context.request.headers
        peer = scope.get("client")
        request = HttpRequest(headers, None, scope.get("http_version"), (str(peer[0]), int(peer[1])) if peer else None)
        span.set_attributes({**network(Transport.STREAMABLE_HTTP), **request.attributes()})
        self._operations.in_session(span, headers.get("mcp-session-id"))

    def _peer_of(self, dispatcher: Any) -> Attributes:
        if not hasattr(dispatcher, "_write_stream"):
            return {}
        peer: Attributes | None = getattr(dispatcher, _PEER, None)
        if peer is None:
            pair = self._open_streams.find(dispatcher._write_stream, dispatcher._read_stream)
            peer = network(pair.transport, pair.address) if pair is not None else {}
            setattr(dispatcher, _PEER, peer)
        return peer


@contained
def _open_in_fastmcp(call: _Call) -> Span | None:
    """The span that fastmcp has open for a call, if it has."""
    outer = trace.get_current_span()
    return outer if is_client_span_of(outer, _FASTMCP, call.method) else None


class _Outer:
    """A span that is open already, as a block of its own that does not end it."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> Span:
        return self._span

    def __exit__(self, *exc_info: Any) -> None:
        pass


class _ClientSpan:
    """The block around the write of a request and the wait for its reply."""

    def __init__(self, native: NativeSpans, call: _Call, block: Any, options: Any) -> None:
        self._native = native
        self._call = call
        self._block = block
        self._id = fields(options.get("attributes")).get("jsonrpc.request.id")

    def __enter__(self) -> Span:
        span: Span = self._block.__enter__()
        self._native.describe_call(span, self._call, self._id)
        return span

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        call = self._call
        if self._native.is_retired:
            # Replies are not seen any more.
            call.is_answered = True
        _settled(call, self._id, error)
        try:
            return self._block.__exit__(kind, error, traceback)
        finally:
            stay(call.span)


@contained
def _settled(call: _Call, request_id: object, error: BaseException | None) -> None:
    calls: dict[object, _Call] = getattr(call.dispatcher, _CALLS, {})
    if calls.get(request_id) is call:
        del calls[request_id]
    span = call.span
    if span is None or not span.is_recording():
        return
    outcome = _outcome(call, error)
    if outcome is not None and outcome.error_type is not None:
        mark(span, outcome.error_type)


def _outcome(call: _Call, error: BaseException | None) -> Outcome | None:
    """How a call ended, as far as its span does not say so itself."""
    if error is None:
        # The waiter is woken by a reply or by the end of the stream, and the SDK raises outside of the span.
        return None if call.is_answered else CONNECTION_LOST
    if ending.is_cancellation(error):
        return CANCELLED
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if getattr(getattr(error, "error", None), "code", None) == _CONNECTION_CLOSED:
        return CONNECTION_LOST
    return Outcome("", type(error).__name__)


class ServerSpan:
    """The block in which a message is handled."""

    def __init__(self, native: NativeSpans, block: Any) -> None:
        self._native = native
        self._block = block

    def __enter__(self) -> Span:
        self._span: Span = self._block.__enter__()
        self._served = self._native.describe_request(self._span)
        return self._span

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        if error is not None and self._span.is_recording():
            _raised(self._span, error, self._served)
        try:
            return self._block.__exit__(kind, error, traceback)
        finally:
            stay(self._span)


@contained
def _raised(span: Span, error: BaseException, served: _Served | None) -> None:
    if ending.is_cancellation(error):
        mark(span, str(CANCELLED.error_type))
        return
    if served is None or served.context.request_id is None:
        return
    # The SDK's span says what was raised; this is what will be answered.
    outbound = served.context.session._request_outbound
    code = _CRASH_CODE if hasattr(outbound, "_dispatcher") else _MODERN_CRASH_CODE
    answer = messages.outcome_of(error, code).code
    if answer is not None:
        span.set_attribute(RPC_STATUS_CODE, answer)


@contained
def stay(span: Span | None) -> None:
    """Let a span that has ended be current still, for what is recorded about its request."""
    if span is not None and span.get_span_context().trace_flags.sampled:
        otel_context.attach(trace.set_span_in_context(span))


def _send_raw_request(original: Any) -> Any:
    method, params = Parameter(original, "method", 0), Parameter(original, "params", 1)

    @functools.wraps(original)
    async def send_raw_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with propagation.Within(otel_context.get_current()):
            token = _CALL.set(_Call(self, method.of(args, kwargs), params.of(args, kwargs)))
            try:
                return await original(self, *args, **kwargs)
            finally:
                reset(_CALL, token)

    return send_raw_request


def _resolve_pending(original: Any) -> Any:
    request_id, outcome = Parameter(original, "request_id", 0), Parameter(original, "outcome", 1)

    @functools.wraps(original)
    def _resolve_pending(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls: dict[object, _Call] | None = getattr(self, _CALLS, None)
        if calls:
            _replied(calls, request_id.of(args, kwargs), outcome.of(args, kwargs))
        return original(self, *args, **kwargs)

    return _resolve_pending


@contained
def _replied(calls: dict[object, _Call], request_id: Any, outcome: Any) -> None:
    call = calls.get(str(request_id))
    if call is not None:
        _answered(call, outcome)


def _answered(call: _Call, outcome: Any) -> None:
    call.is_answered = True
    span = call.span
    if span is None or not span.is_recording():
        return
    code = getattr(outcome, "code", None)
    if code is not None:
        # 2.0 does not say so.
        span.set_attribute(RPC_STATUS_CODE, name := number_name(code))
        mark(span, name, getattr(outcome, "message", None))
    elif call.method == "tools/call" and fields(outcome).get("isError") is True:
        mark(span, str(TOOL_ERROR.error_type))


def _patch_direct(state: State, module: ModuleType) -> None:
    # Handler and caller are in one task.
    state.patches.replace(module.DirectDispatcher, "_dispatch_request", _leaving_nothing)


def _patch_modern(state: State, module: ModuleType) -> None:
    state.patches.replace(module, "serve_one", _leaving_nothing)


def _leaving_nothing(original: Any) -> Any:
    """Wrap a coroutine function that handles a message in its caller's task."""

    @functools.wraps(original)
    async def handle(*args: Any, **kwargs: Any) -> Any:
        token = _REQUEST.set(None)
        try:
            with propagation.Within(otel_context.get_current()):
                return await original(*args, **kwargs)
        finally:
            reset(_REQUEST, token)

    return handle


def _patch_runner(state: State, module: ModuleType) -> None:
    state.patches.replace(module.ServerRunner, "_make_context", _make_context)


def _make_context(original: Any) -> Any:
    @functools.wraps(original)
    def _make_context(self: Any, *args: Any, **kwargs: Any) -> Any:
        context = original(self, *args, **kwargs)
        _REQUEST.set(_Served(context))
        return context

    return _make_context
