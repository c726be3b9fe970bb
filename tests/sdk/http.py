"""Plain HTTP against the SDK's servers and clients: a manager of the test's own, and an endpoint that misbehaves."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import anyio

from . import setups
from .generation import V2

httpx: Any = import_module("httpx2" if V2 else "httpx")

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}},
}


def low_level(server: Any) -> Any:
    return server._lowlevel_server if V2 else server._mcp_server


@asynccontextmanager
async def manager(
    server: Any, *, tap: Callable[[Any], Any] = lambda app: app, **settings: Any
) -> AsyncGenerator[tuple[Any, str]]:
    """A streamable HTTP session manager of the test's own, served behind a tap; yields it and its URL."""
    module = import_module("mcp.server.streamable_http_manager")
    own = module.StreamableHTTPSessionManager(low_level(server), **settings)
    ready = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await own.handle_request(scope, receive, send)
            return
        async with own.run():
            await receive()
            await send({"type": "lifespan.startup.complete"})
            ready.set()
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with setups.serve(tap(app)) as base:
        await ready.wait()
        yield own, f"{base}/mcp"


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.02)


def failing_app(status: int, content_type: bytes = b"text/plain", content: bytes = b"no") -> Any:
    """An endpoint that accepts the handshake and answers everything else with an HTTP error."""
    result: dict[str, Any] = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "failing", "version": "0"},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        if scope["method"] == "POST":
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        request: dict[str, Any] = json.loads(body) if body else {}
        code, kind, reply = status, content_type, content
        if request.get("method") == "initialize":
            code, kind = 200, b"application/json"
            reply = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        elif scope["method"] != "POST" or "id" not in request:
            code = 405 if scope["method"] != "POST" else 202
            reply = b""
        await send({"type": "http.response.start", "status": code, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": reply})

    return app
