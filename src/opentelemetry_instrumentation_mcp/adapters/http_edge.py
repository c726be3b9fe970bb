"""The HTTP edge of a server, in both generations: refusals, and the keep-alive frames of open streams.

The ASGI ``send`` of the SDK's own entry points is watched: an error status that answers no parsed request is a
connection error, an SSE comment is a keep-alive. What lies in front of the SDK (a proxy, the application's own routes)
is not seen.
"""

from __future__ import annotations

import functools
import json
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from ..metrics.vocabulary import Role, Transport
from ..safety import contained
from ..wire import fields
from .adapter import Adapter
from .outbound import leave

_PARSE_ERROR: Final = -32700
_PROBE: Final = b"server/discover"
_METHOD_HEADER: Final = b"mcp-method"


class Answer:
    """One HTTP answer of a server.

    Attributes:
        is_request: Whether a JSON-RPC request was parsed, so that its outcome says what went wrong.
    """

    def __init__(self, adapter: Adapter, transport: Transport, scope: Any) -> None:
        self.is_request = False
        self._adapter = adapter
        self._transport = transport
        self._method: str = scope.get("method", "")
        self._is_probe = any(key == _METHOD_HEADER and value == _PROBE for key, value in scope.get("headers", ()))
        self._status = 0
        self._body = b""

    @contained
    def sends(self, message: Any) -> None:
        """An ASGI message goes out."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            body: bytes = message.get("body", b"")
            if body[:1] == b":" and self._adapter.recorder is not None:
                self._adapter.recorder.keepalive(self._transport)
            elif self._status == 400 and not self._body:
                self._body = body

    @contained
    def over(self) -> None:
        """The answer is complete."""
        status = self._status
        if status < 400 or self.is_request or self._is_probe:
            return
        if status == 405 and self._method != "POST":
            # A server need not have a standalone stream, nor sessions to delete.
            return
        if self._adapter.recorder is not None:
            error = str(_PARSE_ERROR) if self._is_parse_error() else str(status)
            self._adapter.recorder.connection_error(Role.SERVER, self._transport, error)

    def _is_parse_error(self) -> bool:
        try:
            return fields(fields(json.loads(self._body)).get("error")).get("code") == _PARSE_ERROR
        except (ValueError, RecursionError):
            return False


_answer: ContextVar[Answer | None] = ContextVar("opentelemetry_instrumentation_mcp_answer", default=None)


def current_answer() -> Answer | None:
    """The HTTP answer being made in this context."""
    return _answer.get()


@contained
def _begin(adapter: Adapter, transport: Transport, scope: Any) -> Answer | None:
    return Answer(adapter, transport, scope) if scope.get("type") == "http" else None


def watched_send(answer: Answer, send: Any) -> Any:
    """``send``, with ``answer`` looking on."""

    async def send_watched(message: Any) -> None:
        answer.sends(message)
        await send(message)

    return send_watched


async def watch(adapter: Adapter, transport: Transport, scope: Any, receive: Any, send: Any, serve: Any) -> None:
    """Await ``serve(scope, receive, send)`` with its answer watched, unless somebody further out watches already."""
    answer = _begin(adapter, transport, scope) if adapter.recorder is not None and _answer.get() is None else None
    if answer is None:
        await serve(scope, receive, send)
        return
    token = _answer.set(answer)
    try:
        await serve(scope, receive, watched_send(answer, send))
    finally:
        leave(_answer, token)
        answer.over()


def _entry(adapter: Adapter, transport: Transport) -> Any:
    """Make a wrapper for an ASGI method ``(self, scope, receive, send)`` of one transport."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def entry(self: Any, scope: Any, receive: Any, send: Any) -> None:
            async def serve(scope: Any, receive: Any, send: Any) -> None:
                await original(self, scope, receive, send)

            await watch(adapter, transport, scope, receive, send, serve)

        return entry

    return make


def _patch_body_limit(adapter: Adapter, module: ModuleType) -> None:
    if not hasattr(module, "RequestBodyLimitMiddleware"):  # 1.30, and 2.1 and later, have it
        return

    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:
            async def serve(scope: Any, receive: Any, send: Any) -> None:
                await original(self, scope, receive, send)

            transport = _behind(self) or Transport.OTHER
            await watch(adapter, transport, scope, receive, send, serve)

        return __call__

    adapter.patches.replace(module.RequestBodyLimitMiddleware, "__call__", make)


@contained
def _behind(limit: Any) -> Transport:
    """The transport whose bodies are limited; an application may have bound its entry point before we came."""
    owner = type(getattr(limit.app, "__self__", None)).__name__
    return {"SseServerTransport": Transport.SSE, "StreamableHTTPSessionManager": Transport.STREAMABLE_HTTP}.get(
        owner, Transport.OTHER
    )


def _patch_manager(adapter: Adapter, module: ModuleType) -> None:
    # 2.x serves past handle_request; 1.x and other frameworks come through it.
    adapter.patches.replace(
        module.StreamableHTTPSessionManager, "handle_request", _entry(adapter, Transport.STREAMABLE_HTTP)
    )
    if hasattr(module, "StreamableHTTPASGIApp"):
        adapter.patches.replace(module.StreamableHTTPASGIApp, "__call__", _entry(adapter, Transport.STREAMABLE_HTTP))


def _patch_sse(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module.SseServerTransport, "handle_post_message", _entry(adapter, Transport.SSE))


def _patch_auth(adapter: Adapter, module: ModuleType) -> None:
    def make(original: Any) -> Any:
        @functools.wraps(original)
        async def send_auth_error(self: Any, send: Any, status_code: int, *args: Any, **kwargs: Any) -> None:
            if adapter.recorder is not None:
                _unauthorized(adapter, self, status_code)
            await original(self, send, status_code, *args, **kwargs)

        return send_auth_error

    adapter.patches.replace(module.RequireAuthMiddleware, "_send_auth_error", make)


@contained
def _unauthorized(adapter: Adapter, guard: Any, status: int) -> None:
    # It stands in front of the entry points; which one is told by what it guards.
    streamable = type(guard.app).__name__ == "StreamableHTTPASGIApp"
    transport = Transport.STREAMABLE_HTTP if streamable else Transport.SSE
    if adapter.recorder is not None:
        adapter.recorder.connection_error(Role.SERVER, transport, str(status))


PATCHES: Final = (
    ("mcp.server.transport_security", _patch_body_limit),
    ("mcp.server.streamable_http_manager", _patch_manager),
    ("mcp.server.sse", _patch_sse),
    ("mcp.server.auth.middleware.bearer_auth", _patch_auth),
)
