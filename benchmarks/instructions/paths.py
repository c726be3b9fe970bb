"""Ways to drive a server or a client in this process, with as little around the SDK's own code as possible.

Each yields a function that makes one ``tools/call`` and returns when its answer is there. The transports are the SDK's;
only the pipe, the socket and the HTTP parser are missing, which makes the bare path shorter and the share of the
instrumentation larger than in a real process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

from .. import example, messages
from ..example import ARGUMENTS, TOOL, V2
from . import client

Call = Callable[[], Awaitable[None]]


# --- stdio ------------------------------------------------------------------------------------------------------------


class _Input:
    """What a stdio server reads: lines somebody puts there."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def __aiter__(self) -> _Input:
        return self

    async def __anext__(self) -> str:
        return await self.lines.get()


class _Output:
    """What it writes to."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    async def write(self, line: str) -> None:
        self.lines.put_nowait(line)

    async def flush(self) -> None:
        return


@asynccontextmanager
async def _stdio(modern: bool) -> AsyncGenerator[Call]:
    stdio_server: Any = import_module("mcp.server.stdio").stdio_server
    server = example.low_level(example.build())
    stdin, stdout = _Input(), _Output()
    number = 0

    async def serve() -> None:
        async with stdio_server(stdin, stdout) as (read, write):
            await server.run(read, write, server.create_initialization_options())

    async def call() -> None:
        nonlocal number
        number += 1
        stdin.lines.put_nowait(messages.call(number, modern=modern) + "\n")
        messages.check(await stdout.lines.get())

    serving = asyncio.create_task(serve())
    try:
        if not modern:
            stdin.lines.put_nowait(messages.INITIALIZE + "\n")
            await stdout.lines.get()
            stdin.lines.put_nowait(messages.INITIALIZED + "\n")
        yield call
    finally:
        serving.cancel()
        await asyncio.wait([serving])


@asynccontextmanager
async def stdio() -> AsyncGenerator[Call]:
    """A server behind the SDK's stdio transport, its files replaced by queues."""
    async with _stdio(False) as call:
        yield call


@asynccontextmanager
async def stdio_modern() -> AsyncGenerator[Call]:
    """Likewise, by 2026-07-28."""
    async with _stdio(True) as call:
        yield call


# --- Streamable HTTP --------------------------------------------------------------------------------------------------


class _Exchange:
    """One POST to an ASGI application: what it receives, and what it sent."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._ended = asyncio.Event()
        self.headers: dict[bytes, bytes] = {}
        self.status = 0
        self.content = b""

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        # As a server does: a client that stays says nothing more until it has its answer.
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        elif message["type"] == "http.response.body":
            self.content += message.get("body", b"")
            if not message.get("more_body"):
                self._ended.set()


async def _post(app: Any, headers: Mapping[str, str], body: str) -> _Exchange:
    exchange = _Exchange(body.encode())
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), *((k.encode(), v.encode()) for k, v in headers.items())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, exchange.receive, exchange.send)
    return exchange


@asynccontextmanager
async def _http(modern: bool) -> AsyncGenerator[Call]:
    server = example.build()
    app = server.streamable_http_app()
    number = 0

    async def call() -> None:
        nonlocal number
        number += 1
        messages.check((await _post(app, headers, messages.call(number, modern=modern))).content)

    async with server.session_manager.run():
        headers = messages.MODERN_HEADERS
        if not modern:
            opened = await _post(app, messages.HEADERS, messages.INITIALIZE)
            headers = messages.session_headers(opened.headers[b"mcp-session-id"].decode())
            await _post(app, headers, messages.INITIALIZED)
        yield call


@asynccontextmanager
async def http() -> AsyncGenerator[Call]:
    """A stateful streamable HTTP server, called as ASGI servers call it."""
    async with _http(False) as call:
        yield call


@asynccontextmanager
async def http_modern() -> AsyncGenerator[Call]:
    """Likewise, by 2026-07-28: every POST on its own."""
    async with _http(True) as call:
        yield call


# --- With a client ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def memory() -> AsyncGenerator[Call]:
    """The SDK's own way to connect a client and a server in one process: ``Client(server)``; on 1.x memory streams."""
    server = example.build()
    if V2:
        connected = import_module("mcp").Client(server)
    else:
        connected = import_module("mcp.shared.memory").create_connected_server_and_client_session(server)
    async with connected as session:
        yield _caller(session)


@asynccontextmanager
async def client_http() -> AsyncGenerator[Call]:
    """A client over streamable HTTP; it alone is in this process."""
    async with client.session() as session:
        yield _caller(session)


def _caller(session: Any) -> Call:
    async def call() -> None:
        answer: Any = await session.call_tool(TOOL, ARGUMENTS)
        if answer.content[0].text != ARGUMENTS["text"]:
            raise RuntimeError(f"not the answer of the tool: {answer}")

    return call


PATHS: Final[dict[str, Callable[[], Any]]] = {
    "stdio": stdio,
    "http": http,
    "memory": memory,
    "client-http": client_http,
    **({"stdio-2026": stdio_modern, "http-2026": http_modern} if V2 else {}),
}
