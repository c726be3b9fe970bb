"""The HTTP edge of a server, in both generations: its start, refusals, and the keep-alive frames of open streams.

The ASGI ``send`` of the SDK's own entry points is watched: an error status that answers no parsed request is a
connection error, an SSE comment is a keep-alive. What lies in front of the SDK (a proxy, the application's own routes)
is not seen.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from inspect import unwrap
from types import ModuleType
from typing import Any, Final, NamedTuple

from ..core.fail_open import contained, report
from ..core.json_shapes import fields
from ..metrics.vocabulary import Mode, Role, Transport
from ..patching.arguments import Parameter
from ..patching.patches import names_in
from .spans import Spans
from .state import ModulePatch, State

_PARSE_ERROR: Final = -32700
_PROBE: Final = b"server/discover"
_METHOD_HEADER: Final = b"mcp-method"
SEAMS_OF_EXCHANGES: Final = (
    "mcp.server.streamable_http_manager.handle_modern_request",
    "mcp.server._streamable_http_modern.check_accept_headers",
)
"""Where one is missing, the refusal of a 2026-07-28 request cannot be told from one by the transport."""
_OPTIONAL: Final = frozenset({"GET", "DELETE"})
"""The HTTP methods that a server may do without. Nothing of the protocol is asked with others, such as OPTIONS: with
that a browser asks whether a page of another origin may post at all, and shows nobody the answer."""
_COLON: Final = ord(":")
_TO_THE_LIMIT: Final = (frozenset({"asgi_app"}), frozenset({"session_manager", "asgi_app"}))
"""All that the manager's ``handle_request`` uses, and ``StreamableHTTPASGIApp.__call__`` of 2.x, where they go straight
to the limit of the body's size."""
_LIMIT: Final = "mcp.server.transport_security"
"""Where that limit is defined in 1.30 and from 2.1 on."""
_USED_BY_THE_LIMIT: Final = frozenset(
    {
        "Headers", "Response", "ValueError", "app", "append", "bytearray", "bytes", "deque", "extend", "get", "int",
        "len", "max_body_size"
    }
)  # fmt: skip
"""Every name it uses there, but for those in annotations. Another one is not given an answer for itself."""
_ANNOTATIONS: Final = frozenset({"Message"})


class Edge(NamedTuple):
    """Where answers are watched.

    Attributes:
        state: Where what goes wrong is recorded.
        transport_of: Which transport an object is that serves one; asked when it matters.
    """

    state: State
    transport_of: Callable[[Any], Transport | None]


class Answer:
    """One HTTP answer of a server, for as long as it is made.

    Attributes:
        edge: Where it is watched.
        entry: The object that serves it.
        scope: The ASGI scope.
        sends: The ASGI ``send`` it is made with.
        is_request: Whether a JSON-RPC request was parsed, so that its outcome says what went wrong.
        exchange: What gets what is sent as well, where the answer is one of 2026-07-28 (:mod:`.v2.exchange`).
        status: Its HTTP status, as soon as it is sent.
    """

    # No __init__, which would cost every request as much as all it did: whoever makes one sets the first four.
    edge: Edge
    entry: Any
    scope: Any
    sends: Any
    is_request = False
    exchange: Any = None
    status = 0
    _body = b""

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # In a copy of the scope there is none.
        return type(None), ()

    def send(self, message: Any) -> Any:
        """The ASGI ``send``, watched. Not a coroutine of its own: what it returns is the server's."""
        try:
            body = message.get("body")
            if body:
                if body[0] == _COLON:
                    self._keeps_alive()
                elif self.status == 400 and not self._body:
                    self._body = body
                if self.exchange is not None:
                    self.exchange.goes_out(body, message)
            elif message["type"] == "http.response.start":
                self.status = message["status"]
        except Exception as error:
            report("Answer.send", error)
        return self.sends(message)

    def _keeps_alive(self) -> None:
        """An SSE comment is sent."""
        recorder = self.edge.state.recorder
        if recorder is not None:
            recorder.keepalive(self._transport)

    @property
    def _transport(self) -> Transport:
        return self.edge.transport_of(self.entry) or Transport.OTHER

    def finished(self) -> None:
        """The answer is complete."""
        try:
            # Whatever outlives it may still have the scope.
            self.scope.pop(ANSWER, None)
            if self.status >= 400 and not self.is_request:
                self.failed()
            # The SDK leaves what can send to the collector; the scope need not wait for it.
            self.scope = None
        except Exception as error:
            report("Answer.finished", error)

    @contained
    def failed(self) -> None:
        """The answer is an error that no request's outcome tells of."""
        scope, status = self.scope, self.status
        method = next((value for key, value in scope.get("headers", ()) if key == _METHOD_HEADER), None)
        # Only a 2026-07-28 request names its method.
        if method == _PROBE or (method is not None and self.edge.state.patches.lacks(*SEAMS_OF_EXCHANGES)):
            return
        if status == 405 and scope.get("method") in _OPTIONAL:
            # A server need not have a standalone stream, nor sessions to delete.
            return
        recorder = self.edge.state.recorder
        if recorder is not None:
            error = _PARSE_ERROR if self._is_parse_error() else status
            recorder.connection_error(Role.SERVER, self._transport, error)

    def _is_parse_error(self) -> bool:
        try:
            return fields(fields(json.loads(self._body)).get("error")).get("code") == _PARSE_ERROR
        except (ValueError, RecursionError):
            return False


ANSWER: Final = "opentelemetry_instrumentation_mcp.answer"
"""Where an ASGI scope has the answer that is made to it. A context variable would reach every task started meanwhile, a
session's among them, and takes longer."""


def answer_to(scope: Any) -> Answer | None:
    """The answer that is made to an ASGI scope, and not to another one that this is a copy of."""
    answer: Answer | None = scope.get(ANSWER)
    return answer if answer is not None and answer.scope is scope else None


def answering(edge: Edge, entry: Any, scope: Any, send: Any) -> Answer:
    """Make the answer that is found in a scope from now on; the parameters are those of :func:`watch`."""
    answer = Answer()
    answer.edge, answer.entry, answer.scope, answer.sends = edge, entry, scope, send
    scope[ANSWER] = answer
    return answer


def watch(edge: Edge, entry: Any, scope: Any, send: Any) -> Answer | None:
    """Watch an HTTP answer; None if there is none, or if somebody further out watches it already.

    Args:
        edge: Where.
        entry: The object that serves it.
        scope: The ASGI scope.
        send: The ASGI ``send``.

    Returns:
        The answer; it is made with its :meth:`~Answer.send`.
    """
    try:
        if edge.state.recorder is None or scope["type"] != "http" or answer_to(scope) is not None:
            return None
        return answering(edge, entry, scope, send)
    except Exception as error:
        report("http_edge.watch", error)
        return None


def _entry(state: State, transport_of: Callable[[Any], Transport | None]) -> Any:
    """Make a wrapper for an ASGI method.

    It has the parameters of ASGI by name. Servers ask whether an application is a coroutine function, and uvicorn calls
    it without arguments: what does not raise a TypeError then is taken for a factory of applications.
    """
    edge = Edge(state, transport_of)

    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def entry(self: Any, scope: Any, receive: Any, send: Any, *args: Any, **kwargs: Any) -> Any:
            answer = watch(edge, self, scope, send)
            if answer is None:
                return await original(self, scope, receive, send, *args, **kwargs)
            try:
                return await original(self, scope, receive, answer.send, *args, **kwargs)
            finally:
                answer.finished()

        return entry

    return make


@contained
def behind(limit: Any) -> Transport:
    """The transport behind a ``RequestBodyLimitMiddleware``, which is the first of the SDK to see a request."""
    for owner in type(getattr(limit.app, "__self__", None)).__mro__:
        transport = _TRANSPORTS.get(owner.__name__)
        if transport is not None:
            return transport
    return Transport.OTHER


_TRANSPORTS: Final = {
    "SseServerTransport": Transport.SSE,
    "StreamableHTTPSessionManager": Transport.STREAMABLE_HTTP,
}


def streamable(_: Any) -> Transport:
    """The transport of whatever serves streamable HTTP."""
    return Transport.STREAMABLE_HTTP


def is_edge(limit: Any) -> bool:
    """Whether a ``RequestBodyLimitMiddleware`` is one that can be watched as the edge, with the other guards."""
    # By now it may be what we have put around it.
    return (
        getattr(limit, "__module__", None) == _LIMIT
        and names_in(unwrap(limit.__call__)) - _ANNOTATIONS == _USED_BY_THE_LIMIT
    )


def patches(state: State, spans: Spans) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.streamable_http_manager", functools.partial(_patch_manager, state, spans)),
        ("mcp.server.sse", functools.partial(_patch_sse, state, spans)),
        ("mcp.server.auth.middleware.bearer_auth", functools.partial(_patch_auth, state)),
    )


def _patch_manager(state: State, spans: Spans, module: ModuleType) -> None:
    manager = module.StreamableHTTPSessionManager
    # Most releases have none, and lack nothing for that.
    is_limited = is_edge(vars(getattr(module, "owner", module)).get("RequestBodyLimitMiddleware"))
    # 2.x serves past handle_request; 1.x and other frameworks come through it, to the limit where there is one.
    for owner, name in ((manager, "handle_request"), (getattr(module, "StreamableHTTPASGIApp", None), "__call__")):
        if owner is not None and not (is_limited and names_in(getattr(owner, name, None)) in _TO_THE_LIMIT):
            state.patches.replace(owner, name, _entry(state, streamable))
    state.patches.replace(manager, "run", lambda original: _run(state, spans, original))


def _run(state: State, spans: Spans, original: Any) -> Any:
    @functools.wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        _ready(state, spans, Transport.STREAMABLE_HTTP, self)
        return original(self, *args, **kwargs)

    return run


def _patch_sse(state: State, spans: Spans, module: ModuleType) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            _made(state, spans)

        return __init__

    state.patches.replace(module.SseServerTransport, "__init__", make)
    state.patches.replace(module.SseServerTransport, "handle_post_message", _entry(state, lambda _: Transport.SSE))


@contained
def _ready(state: State, spans: Spans, transport: Transport, manager: Any = None) -> None:
    """A server waits for clients: it is alive, though there is nothing to count yet."""
    if state.recorder is not None:
        spans.operations()
        is_stateless = getattr(manager, "stateless", False)
        state.recorder.serving(transport, Mode.STATELESS if is_stateless else Mode.STATEFUL)


@contained
def _made(state: State, spans: Spans) -> None:
    # Made without a loop, it may be for the workers that this process is going to fork.
    if _is_in_a_loop():
        _ready(state, spans, Transport.SSE)


def _is_in_a_loop() -> bool:
    # Imported by now: the SDK stands on it.
    import asyncio  # noqa: PLC0415

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _patch_auth(state: State, module: ModuleType) -> None:
    def make(original: Any) -> Any:
        status_code = Parameter(original, "status_code", 1)

        @functools.wraps(original)
        async def send_auth_error(self: Any, *args: Any, **kwargs: Any) -> Any:
            if state.recorder is not None:
                _unauthorized(state, self, status_code.of(args, kwargs))
            return await original(self, *args, **kwargs)

        return send_auth_error

    state.patches.replace(module.RequireAuthMiddleware, "_send_auth_error", make)


@contained
def _unauthorized(state: State, guard: Any, status: int) -> None:
    # It stands in front of the entry points; which one is told by what it guards.
    is_streamable = type(guard.app).__name__ == "StreamableHTTPASGIApp"
    transport = Transport.STREAMABLE_HTTP if is_streamable else Transport.SSE
    if state.recorder is not None:
        state.recorder.connection_error(Role.SERVER, transport, status)
