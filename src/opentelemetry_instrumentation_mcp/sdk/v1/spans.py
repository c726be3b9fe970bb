"""Spans of mcp 1.x, which makes none: where a message crosses a session's streams one begins, and the context with it.

What handles a message runs in its span: in the receive loop as long as that deals with the message, and in the task
that ``Server.run`` starts for it. What posts one runs in it as well. A span ends where the metrics of its message are
recorded (:mod:`.session`), so that these have it as their exemplar.
"""

from __future__ import annotations

import functools
import sys
import weakref
from types import ModuleType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from ...core.fail_open import contained
from ...core.json_shapes import fields
from ...metrics.events import Connection, Request
from ...metrics.labels import METHODS, OTHER
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, OK, Outcome, http_error
from ...patching.arguments import Parameter
from ...tracing import propagation
from ...tracing.operations import HttpRequest, Operation, Operations, network
from .. import ending
from ..fastmcp_spans import SERVING
from ..state import ModulePatch, State
from ..streams import StreamPair
from .session import OBSERVER, SessionObserver

_OPERATION: Final = "_otel_mcp_operation"
"""Attribute left on a ``SessionMessage``, which is the same object on both sides of a stream and never serialised."""

_HTTP_SPAN: Final = "opentelemetry_instrumentation_mcp.span"
"""Key in the ASGI scope of a request: the span that was current when it came."""


class _Handed:
    """A message that was handed to whoever iterates over the session's incoming messages."""

    __slots__ = ("is_notification", "operation", "reference")

    def __init__(self, operation: Operation, is_notification: bool, reference: weakref.ref[Any]) -> None:
        self.operation = operation
        self.is_notification = is_notification
        self.reference = reference


class SessionSpans:
    """The spans of one session."""

    def __init__(self, operations: Operations, pair: StreamPair) -> None:
        self._operations = operations
        self._peer = network(pair.transport, pair.address)
        self._before: Context | None = None
        self._entered: Operation | None = None
        self._notification: Operation | None = None
        self._handed: dict[int, _Handed] = {}

    @contained
    def request_came(self, request: Request, root: Any, metadata: Any) -> None:
        """A request came off the read stream, and the receive loop begins to deal with it."""
        request.span = self._operations.receive(
            request.method, root.params, self._peer, request_id=root.id, http=_http_request(metadata)
        )
        self._enter(request.span)

    @contained
    def notification_came(self, root: Any, metadata: Any) -> None:
        """Likewise a notification."""
        method = root.method if root.method in METHODS else OTHER
        operation = self._operations.receive(method, root.params, self._peer, http=_http_request(metadata))
        self._notification = operation
        self._enter(operation)

    def _enter(self, operation: Operation) -> None:
        self._entered = operation
        self._before = otel_context.get_current()
        otel_context.attach(operation.context)

    @contained
    def settle(self) -> None:
        """The receive loop has dealt with the message before."""
        before, self._before = self._before, None
        if before is not None:
            otel_context.attach(before)
        notification, self._notification = self._notification, None
        self._entered = None
        if notification is not None:
            notification.end(OK)

    @contained
    def request_goes(self, request: Request, root: Any, item: Any) -> None:
        """A request is about to be written."""
        operation = self._operations.send(root.method, root.params, self._peer, request_id=root.id)
        request.span = operation
        _carry(operation, root, item)

    @contained
    def notification_goes(self, root: Any, item: Any) -> None:
        """Likewise a notification."""
        _carry(self._operations.send(root.method, root.params, self._peer), root, item)

    @contained
    def written(self, item: Any) -> None:
        """The write of a notification returned."""
        operation = _operation_of(item)
        if operation is not None:
            operation.end(OK)

    @contained
    def unwritten(self, item: Any, error: BaseException) -> None:
        """The write of a notification raised."""
        operation = _operation_of(item)
        if operation is not None:
            operation.end(CANCELLED if ending.is_cancellation(error) else CONNECTION_LOST)

    def end(self, request: Request, outcome: Outcome, error: Any, connection: Connection | None) -> None:
        """A request ended.

        Args:
            request: The request.
            outcome: How.
            error: The error of its reply, if it has one.
            connection: The connection it is on.
        """
        operation: Operation = request.span
        if operation.is_sampled:
            with operation.within():
                request.end(outcome)
        else:
            request.end(outcome)
        _end(operation, outcome, error, connection)

    @contained
    def finished(self) -> None:
        """The session is over; nobody takes what was handed on any more."""
        for handed in tuple(self._handed.values()):
            if handed.is_notification:
                handed.operation.end(CANCELLED)
        self._handed.clear()

    @contained
    def hand(self, message: Any) -> None:
        """The receive loop hands a message on, and is done with it."""
        operation = self._entered
        if operation is None or isinstance(message, Exception):
            return
        key = id(message)
        is_notification = operation is self._notification

        def forget(_: Any) -> None:
            # An application that iterates by itself has dropped it.
            handed = self._handed.pop(key, None)
            if handed is not None and handed.is_notification:
                _handled(handed.operation)

        self._handed[key] = _Handed(operation, is_notification, weakref.ref(message, forget))
        self._notification = None

    @contained
    def taken(self, message: Any) -> _Handed | None:
        """What was handed on with a message, for the one who takes it."""
        return self._handed.pop(id(message), None)


@contained
def _end(operation: Operation, outcome: Outcome, error: Any, connection: Connection | None) -> None:
    operation.end(
        outcome,
        code=getattr(error, "code", None),
        message=getattr(error, "message", None),
        protocol_version=connection.protocol_version if connection is not None else None,
    )


def _carry(operation: Operation, root: Any, item: Any) -> None:
    setattr(item, _OPERATION, operation)
    params = propagation.injected(root.params, operation.context)
    if params is not None:
        root.params = params


def _operation_of(item: Any) -> Operation | None:
    return getattr(item, _OPERATION, None)


def _http_request(metadata: Any) -> HttpRequest | None:
    request = getattr(metadata, "request_context", None)
    scope: Any = getattr(request, "scope", None)
    if scope is None:
        return None
    peer = scope.get("client")
    return HttpRequest(
        getattr(request, "headers", None) or {},
        scope.get(_HTTP_SPAN),
        scope.get("http_version"),
        (str(peer[0]), int(peer[1])) if peer else None,
    )


def patches(state: State, operations: Operations) -> tuple[ModulePatch, ...]:
    """What is patched besides the session itself, and in which modules."""

    def patch_client(module: ModuleType) -> None:
        transport = module.StreamableHTTPTransport
        if not hasattr(transport, "_resolve_abandoned_request"):  # 1.x
            for name in ("_handle_post_request", "_handle_resumption_request"):
                state.patches.replace(transport, name, lambda original: _handle_post(operations, original))

    return (
        ("mcp.server.session", functools.partial(_patch_session, state)),
        ("mcp.server.lowlevel.server", functools.partial(_patch_server, state)),
        ("mcp.server.streamable_http", functools.partial(_patch_streamable_http, state)),
        ("mcp.server.sse", functools.partial(_patch_sse, state)),
        ("mcp.client.streamable_http", patch_client),
        ("mcp.client.sse", functools.partial(_patch_sse_client, state)),
    )


def _patch_session(state: State, module: ModuleType) -> None:
    if hasattr(module.ServerSession, "_handle_incoming"):  # 1.x
        state.patches.replace(module.ServerSession, "_handle_incoming", _handle_incoming)


def _handle_incoming(original: Any) -> Any:
    req = Parameter(original, "req", 0)

    @functools.wraps(original)
    async def _handle_incoming(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer: SessionObserver | None = getattr(self, OBSERVER, None)
        if observer is not None and observer.spans is not None:
            observer.spans.hand(req.of(args, kwargs))
        return await original(self, *args, **kwargs)

    return _handle_incoming


def _patch_server(state: State, module: ModuleType) -> None:
    if hasattr(module.Server, "_handle_message"):  # 1.x
        state.patches.replace(module.Server, "_handle_message", _handle_message)


def _handle_message(original: Any) -> Any:
    message, session = Parameter(original, "message", 0), Parameter(original, "session", 1)

    @functools.wraps(original)
    async def _handle_message(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer: SessionObserver | None = getattr(session.of(args, kwargs), OBSERVER, None)
        handed = (
            observer.spans.taken(message.of(args, kwargs))
            if observer is not None and observer.spans is not None
            else None
        )
        if handed is None:
            return await original(self, *args, **kwargs)
        operation = handed.operation
        # The task is the message's own.
        SERVING.set(operation)
        with operation.within():
            try:
                return await original(self, *args, **kwargs)
            finally:
                if handed.is_notification:
                    _handled(operation)

    return _handle_message


@contained
def _handled(notification: Operation) -> None:
    notification.end(OK)


def _patch_streamable_http(state: State, module: ModuleType) -> None:
    transport = module.StreamableHTTPServerTransport
    state.patches.replace(transport, "handle_request", _noting_the_span)


def _patch_sse(state: State, module: ModuleType) -> None:
    state.patches.replace(module.SseServerTransport, "handle_post_message", _noting_the_span)


def _noting_the_span(original: Any) -> Any:
    """Wrap an ASGI method: what handles the messages it brings runs in a context of the session's, not of its own."""

    scope = Parameter(original, "scope", 0)

    @functools.wraps(original)
    async def entry(self: Any, *args: Any, **kwargs: Any) -> Any:
        _note(scope.of(args, kwargs))
        return await original(self, *args, **kwargs)

    return entry


@contained
def _note(scope: Any) -> None:
    span = trace.get_current_span()
    if span.get_span_context().is_valid:
        scope[_HTTP_SPAN] = span


def _patch_sse_client(state: State, module: ModuleType) -> None:
    # 1.30; older ones post by a method of the HTTP client that others use as well.
    if "mcp.shared.session" in sys.modules and hasattr(module, "request_within_origin"):
        state.patches.replace(module, "request_within_origin", _request)


def _request(original: Any) -> Any:
    @functools.wraps(original)
    async def request_within_origin(*args: Any, **kwargs: Any) -> Any:
        # One task posts all messages; each has its context with it.
        context = _context_in(kwargs.get("json"))
        if context is None:
            return await original(*args, **kwargs)
        with propagation.Within(context):
            return await original(*args, **kwargs)

    return request_within_origin


@contained
def _context_in(message: Any) -> Context | None:
    return propagation.from_meta(fields(message).get("params"))


def _handle_post(operations: Operations, original: Any) -> Any:
    ctx = Parameter(original, "ctx", 0)

    @functools.wraps(original)
    async def handle_post_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        operation = _operation_of(getattr(ctx.of(args, kwargs), "session_message", None))
        if operation is None:
            return await original(self, *args, **kwargs)
        _in_session(operations, operation, self)
        # It runs in a task of the transport's, whose context is that of whoever opened it.
        with operation.within():
            try:
                return await original(self, *args, **kwargs)
            except Exception as error:
                _post_failed(operation, error)
                raise

    return handle_post_request


@contained
def _in_session(operations: Operations, operation: Operation, transport: Any) -> None:
    if not operation.ended:
        operations.in_session(operation.span, getattr(transport, "session_id", None))


@contained
def _post_failed(operation: Operation, error: Exception) -> None:
    # Here it is still known what it was; the caller sees a cancellation, or a connection that is lost.
    status = getattr(getattr(error, "response", None), "status_code", None)
    operation.end(http_error(status) if isinstance(status, int) else CONNECTION_LOST)
