"""Every way to connect a client and a server: real pipes, real sockets, real memory streams, with an oracle between."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import uvicorn

from ..points import Points
from ..spans import FoundSpan, spans_from_json
from . import example
from .generation import (
    V2,
    ClientSession,
    StdioServerParameters,
    memory_streams,
    sse_client,
    stdio_client,
    streamable_http_client,
    websocket_client,
    websocket_server,
)
from .wire import Wire

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setup:
    """One way to connect.

    Attributes:
        name: The test id.
        transport: ``mcp.transport`` on both sides.
        modern: Whether 2026-07-28 is spoken.
        asks_back: Whether the server can ask the client.
        sessions: Whether the server has sessions.
        exchanges: Whether every POST is a connection of its own on the server.
        settings: What the HTTP application is made with.
    """

    name: str
    transport: str
    modern: bool = False
    asks_back: bool = True
    sessions: bool = True
    exchanges: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return self.name


_STATELESS = {"stateless_http": True}
_JSON = {"json_response": True}

HANDSHAKE = [
    Setup("memory", "in_memory"),
    Setup("stdio", "stdio"),
    Setup("sse", "sse"),
    Setup("http", "streamable_http"),
    Setup("http-json", "streamable_http", asks_back=False, settings=_JSON),
    Setup("http-stateless", "streamable_http", asks_back=False, sessions=False, exchanges=True, settings=_STATELESS),
    Setup(
        "http-stateless-json",
        "streamable_http",
        asks_back=False,
        sessions=False,
        exchanges=True,
        settings=_STATELESS | _JSON,
    ),
    *([] if V2 else [Setup("websocket", "websocket")]),
]
MODERN = [
    Setup("memory-2026", "in_memory", True, False, False),
    Setup("stdio-2026", "stdio", True, False, False),
    Setup("http-2026", "streamable_http", True, False, False, True),
    Setup("http-json-2026", "streamable_http", True, False, False, True, _JSON),
]
SETUPS = HANDSHAKE + (MODERN if V2 else [])


@dataclass
class Link:
    """A client connected to the example server.

    Attributes:
        session: The client's ``ClientSession``.
        wire: The oracle.
        server: The high-level server object, unless it is in another process.
        url: The HTTP endpoint, if there is one.
    """

    session: Any
    wire: Wire
    server: Any = None
    url: str = ""


def on_trio() -> bool:
    """Whether the event loop is trio's; anyio knows one other, asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


@asynccontextmanager
async def serve(app: Any) -> AsyncGenerator[str, None]:
    """Serve an ASGI application on a free port of the loopback; yields its base URL."""
    if on_trio():
        async with _serve_on_trio(app) as base:
            yield base
        return
    # Its logging is not set up: that takes down all handlers of the process, while other threads make theirs.
    quiet: Any = {"log_config": None, "log_level": "critical"}
    config = uvicorn.Config(app, host="127.0.0.1", port=0, timeout_graceful_shutdown=1, **quiet)
    server = uvicorn.Server(config)
    # Stopped by the test, not by a signal; uvicorn would take the handlers of the process for itself.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    # Nor does it have to look ten times a second whether it should.
    stop = anyio.Event()
    server.main_loop = stop.wait  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        while not server.started:
            await anyio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            stop.set()


@asynccontextmanager
async def serve_http2(app: Any) -> AsyncGenerator[str, None]:
    """Likewise, for clients who know beforehand that it speaks HTTP/2."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config: Any = import_module("hypercorn.config").Config()
    # It closes what it is given.
    config.bind, config.errorlog, config.graceful_timeout = [f"fd://{listener.detach()}"], None, 1
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        serve: Any = import_module("hypercorn.asyncio").serve
        tasks.start_soon(partial(serve, shutdown_trigger=stop.wait, mode="asgi"), app, config)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            stop.set()


@asynccontextmanager
async def _serve_on_trio(app: Any) -> AsyncGenerator[str, None]:
    # Likewise with hypercorn: uvicorn is asyncio's alone.
    config: Any = import_module("hypercorn.config").Config()
    config.bind, config.errorlog, config.graceful_timeout = ["127.0.0.1:0"], None, 1
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        run: Any = partial(import_module("hypercorn.trio").serve, shutdown_trigger=stop.wait, mode="asgi")
        [base] = await tasks.start(run, app, config)
        try:
            yield base
        finally:
            stop.set()


@asynccontextmanager
async def client_over(transport: Any, *, modern: bool = False, **options: Any) -> AsyncGenerator[Any, None]:
    """A client session over a transport's context manager, handshake or discovery done."""
    async with transport as streams, ClientSession(streams[0], streams[1], **example.CALLBACKS, **options) as session:
        if modern:
            await session.discover()
        else:
            await session.initialize()
        yield session


def http_app(server: Any, setup: Setup) -> Any:
    """The ASGI application of a setup. 1.x takes its settings with the server, 2.x with the application."""
    if setup.transport == "sse":
        return server.sse_app()
    if setup.transport == "websocket":
        return _websocket_app(server._mcp_server)
    return server.streamable_http_app(**setup.settings) if V2 else server.streamable_http_app()


def _websocket_app(low: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            async with websocket_server(scope, receive, send) as (read, write):
                await low.run(read, write, low.create_initialization_options())

    return app


@asynccontextmanager
async def connect(setup: Setup, *, name: str = example.NAME, **options: Any) -> AsyncGenerator[Link]:
    """Connect a client to the example server in this process (stdio: in a child, see :func:`stdio`)."""
    server = example.build(name, **({} if V2 else setup.settings))
    if setup.transport == "in_memory":
        async with _in_memory(server, setup, options) as link:
            yield link
        return
    if setup.transport == "stdio":
        raise NotImplementedError("the server is another process: use stdio()")
    wire = Wire()
    async with serve(wire.tap(http_app(server, setup))) as base:
        url, transport = transport_to(base, setup)
        async with client_over(transport, modern=setup.modern, **options) as session:
            yield Link(session, wire, server, url)


def transport_to(base: str, setup: Setup) -> tuple[str, Any]:
    """The endpoint of a setup that is served at ``base``, and a client's transport to it."""
    if setup.transport == "sse":
        return f"{base}/sse", sse_client(f"{base}/sse")
    if setup.transport == "websocket":
        url = f"{base}/ws".replace("http", "ws")
        return url, websocket_client(url)
    return f"{base}/mcp", streamable_http_client(f"{base}/mcp")


@asynccontextmanager
async def _in_memory(server: Any, setup: Setup, options: dict[str, Any]) -> AsyncGenerator[Link]:
    if setup.modern:
        # Nothing crosses anything here; what the server's own middleware sees is the nearest thing to a wire.
        calls = Wire()

        async def count(context: Any, call_next: Any) -> Any:
            calls.message(
                {"method": context.method} | ({"id": 1} if context.request_id is not None else {}), to_server=True
            )
            return await call_next(context)

        server._lowlevel_server.middleware.append(count)
        async with import_module("mcp").Client(server, **example.CALLBACKS, **options) as client:
            yield Link(client.session, calls, server)
        return
    low = getattr(server, "_lowlevel_server", None) or server._mcp_server
    async with over_memory(low, **options) as link:
        link.server = server
        yield link


@asynccontextmanager
async def over_memory(low: Any, **options: Any) -> AsyncGenerator[Link]:
    """Connect a client to a low-level server over memory streams, with a relay between them that counts."""
    wire = Wire()
    async with memory_streams() as (near, far), memory_streams() as (near2, far2), anyio.create_task_group() as tasks:
        # client <-> near | far <-> relay <-> near2 | far2 <-> server
        tasks.start_soon(_relay, far[0], near2[1], wire, True)
        tasks.start_soon(_relay, near2[0], far[1], wire, False)
        tasks.start_soon(low.run, far2[0], far2[1], low.create_initialization_options())
        async with ClientSession(near[0], near[1], **example.CALLBACKS, **options) as session:
            await session.initialize()
            yield Link(session, wire)


async def _relay(source: Any, target: Any, wire: Wire, to_server: bool) -> None:
    # A peer that is gone takes no more messages; that is the end of the line, not of the test.
    async with source, target:
        async for item in source:
            message = getattr(item.message, "root", item.message)
            wire.message(message.model_dump(exclude_unset=True), to_server=to_server)
            try:
                await target.send(item)
            except anyio.BrokenResourceError:
                return


@dataclass
class Child:
    """A stdio server in another process and what it leaves behind."""

    session: Any
    wire: Path
    report: Path

    @classmethod
    def behind(cls, session: Any, directory: Path) -> Child:
        """The child that was started with :func:`child_parameters`."""
        return cls(session, directory / "wire.jsonl", directory / "points.json")

    def count(self) -> Wire:
        """What crossed its pipes, by the tap's record."""
        wire = Wire()
        for row in self.wire.read_text().splitlines():
            entry = json.loads(row)
            wire.line(entry["line"], to_server=entry["to_server"])
        return wire

    def points(self) -> Points:
        """The server's metrics at its end."""
        return Points.from_json(json.loads(self.report.read_text()))

    def spans(self) -> list[FoundSpan]:
        """The server's spans at its end, if it was told to make some."""
        return spans_from_json(self.report.with_suffix(".spans").read_text())


def child_parameters(directory: Path, *server: str) -> dict[str, Any]:
    """Command, arguments and environment of a stdio server that reports, behind a tap that records every line."""
    wire, report = directory / "wire.jsonl", directory / "points.json"
    wire.touch()
    command = [sys.executable, "-m", "tests.sdk.stdio_server", str(report), *server]
    return {
        "command": sys.executable,
        "args": ["-m", "tests.sdk.tap", str(wire), *command],
        "env": {**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    }


@asynccontextmanager
async def stdio(
    directory: Path, *, modern: bool = False, backend: str = "asyncio", spans: bool = False, **options: Any
) -> AsyncGenerator[Child]:
    """A client of the example server over real pipes, with a tap between them that records every line."""
    server = (example.__name__, backend, *["spans"] * spans)
    parameters = StdioServerParameters(**child_parameters(directory, *server))
    async with client_over(stdio_client(parameters), modern=modern, **options) as session:
        yield Child.behind(session, directory)
