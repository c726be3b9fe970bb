"""After the worst day nothing is active that is over, and every count is what the servers themselves have seen.

The oracle for requests is the server's own tool, which counts its calls; for what is held, the SDK's own tables.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import psutil
import pytest

from ..points import ROLE, STATUS, TOOL, TRANSPORT, Points
from ..sdk import example, setups
from ..sdk.generation import V2, ClientSession, memory_streams, sse_client, streamable_http_client
from ..sdk.http import HEADERS, httpx, low_level, manager, until
from ..sdk.setups import SETUPS
from .hostile import initialize

Collect = Callable[[], Points]

SESSIONS: Final = 100
CALL: Final[dict[str, Any]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "work", "arguments": {}},
}


class Site:
    """The example server with a tool that counts how often it was called."""

    def __init__(self, **settings: Any) -> None:
        self.server = example.build(**settings)
        self.calls = 0

        async def work(seconds: float = 0.01) -> str:
            self.calls += 1
            await anyio.sleep(seconds)
            return "done"

        self.server.add_tool(work)


def assert_balanced(points: Points, calls: int) -> None:
    """Whatever was opened is closed, and the server counted exactly the calls that its tool got."""
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert points.select(metric)
        assert [(point.attributes, point.value) for point in points.select(metric) if point.value] == []
    assert points.sum("mcp.connections.total") == points.sum("mcp.connection.duration")
    assert points.sum("mcp.sessions.created") == points.sum("mcp.session.duration")
    assert points.sum("mcp.requests.total") == points.sum("mcp.request.duration")
    assert points.sum("mcp.requests.total", {ROLE: "server", TOOL: "work"}) == calls


@contextlib.contextmanager
def raw(url: str) -> Generator[socket.socket]:
    """A socket connected to a server."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 80)) as connection:
        yield connection


def reset(connection: socket.socket) -> None:
    """Close so that the peer gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def post(url: str, body: bytes, headers: dict[str, str], *, length: int | None = None) -> bytes:
    """A POST as it goes over the wire; with another ``length`` than it has, it is not complete."""
    parts = urlsplit(url)
    told = headers | {"host": parts.netloc, "content-length": str(len(body) if length is None else length)}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{key}: {value}" for key, value in told.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def fate_of_a_client(fate: str, session: Any, pick: random.Random) -> None:
    """What a client does before it is gone."""
    await session.call_tool("work", {})
    if fate == "cancelled":
        with anyio.move_on_after(pick.random() * 0.02):
            await session.call_tool("work", {"seconds": 0.05})
    elif fate == "storm":
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(session.call_tool, "work", {"seconds": 0.05})
            await anyio.sleep(pick.random() * 0.02)
            tasks.cancel_scope.cancel()
    elif fate == "killed":
        # Its whole task ends in the middle of a call, and the transport with it.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.call_tool, "work", {"seconds": 0.05})
            await anyio.sleep(0.005)
            raise Killed


class Killed(Exception):
    """The end of a client."""


FATES: Final = ("clean", "cancelled", "storm", "killed")


async def clients(open_client: Callable[[], Any], count: int, seed: int) -> None:
    """So many clients, a few at a time, each with a fate of its own."""
    pick = random.Random(seed)
    limit = anyio.CapacityLimiter(8)

    async def one(fate: str) -> None:
        async with limit:
            # Some transports end in a group of what their tasks were at when the client went away.
            with contextlib.suppress(*(() if fate == "clean" else (BaseException,))), anyio.fail_after(30):
                async with open_client() as session:
                    await fate_of_a_client(fate, session, pick)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, FATES[number % len(FATES)])


@asynccontextmanager
async def memory_client(site: Site) -> AsyncGenerator[Any]:
    low = low_level(site.server)
    async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
        tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
        async with ClientSession(near[0], near[1]) as session:
            await session.initialize()
            yield session


def test_sessions_in_memory(collect: Collect) -> None:
    site = Site()
    anyio.run(clients, lambda: memory_client(site), SESSIONS * 2, 1)
    points = collect()
    assert_balanced(points, site.calls)
    assert points.sum("mcp.sessions.created", {ROLE: "server"}) == SESSIONS * 2
    assert points.sum("mcp.sessions.created", {ROLE: "client"}) == SESSIONS * 2


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.name in ("sse", "http-json", "http-2026")], ids=str)
def test_clients_of_an_http_server(setup: setups.Setup, collect: Collect) -> None:
    """The server is stopped with requests in flight, and started again, in between."""
    site = Site(**({} if V2 else setup.settings))

    # 1.x has its settings and its one start with the server; to 2.x they are the application's.
    sites = [site, site if V2 else Site(**setup.settings)]

    async def life(served: Site, seed: int) -> None:
        async with setups.serve(setups.http_app(served.server, setup)) as base:
            url = f"{base}/sse" if setup.transport == "sse" else f"{base}/mcp"
            connect: Any = sse_client if setup.transport == "sse" else streamable_http_client
            await clients(lambda: setups.client_over(connect(url), modern=setup.modern), SESSIONS // 2, seed)
            await resets(url, HEADERS | ({"mcp-protocol-version": "2026-07-28"} if setup.modern else {}))

    async def scenario() -> None:
        for seed, served in enumerate(sites):
            await life(served, seed)

    anyio.run(scenario)
    points = collect()
    assert_balanced(points, sum(each.calls for each in {id(each): each for each in sites}.values()))
    assert points.sum("mcp.connections.total", {ROLE: "client", TRANSPORT: setup.transport}) == SESSIONS // 2 * 2


async def resets(url: str, headers: dict[str, str]) -> None:
    """Connections that are half open, or reset in the middle of a message."""
    body = json.dumps(CALL).encode()
    for cut in (0, 10, len(body) // 2, len(body) - 1):
        with raw(url) as connection:
            connection.sendall(post(url, body[:cut], headers, length=len(body)))
            await anyio.sleep(0.003)
            reset(connection)
        with raw(url) as connection:
            connection.sendall(post(url, body[:cut], headers, length=len(body)))
            connection.shutdown(socket.SHUT_WR)
            await anyio.sleep(0.003)
    with raw(url) as connection:
        connection.sendall(post(url, body, headers)[:40])
        await anyio.sleep(0.003)


def test_raw_sessions_over_http(collect: Collect) -> None:
    """Hundreds of sessions: reset in the middle of a call, deleted, refused, or left open until the server stops."""
    site = Site()
    opened = 0
    held: list[int] = []
    headers: dict[str, str] = {}

    async def scenario() -> None:
        nonlocal opened, headers
        async with (
            manager(site.server, max_sessions=SESSIONS // 2, session_idle_timeout=None) as (own, url),
            httpx.AsyncClient(timeout=30) as http,
        ):
            for number in range(SESSIONS * 2):
                answer = await http.post(url, json=initialize(), headers=HEADERS)
                if answer.status_code == 503:
                    continue
                opened += 1
                headers = HEADERS | {"mcp-session-id": answer.headers["mcp-session-id"]}
                fate = number % 4
                if fate == 0:
                    await http.delete(url, headers=headers)
                elif fate == 1:
                    # Reset while the tool is at work.
                    before = site.calls
                    with raw(url) as connection:
                        slow = CALL | {"params": {"name": "work", "arguments": {"seconds": 0.02}}}
                        connection.sendall(post(url, json.dumps(slow).encode(), headers))
                        await until(lambda before=before: site.calls > before)
                        reset(connection)
                elif fate == 2:
                    await resets(url, headers)
                    await http.delete(url, headers=headers)
                else:
                    await http.post(url, json=CALL, headers=headers)
            await until(lambda: not collect().sum("mcp.requests.active"))
            # What the SDK holds at this moment, and nothing else.
            held.append(len(own._server_instances))
            points = collect()
            assert points.sum("mcp.connections.active", {ROLE: "server"}) == held[0]
            assert points.sum("mcp.sessions.active", {ROLE: "server"}) == held[0]
            # And one more at work while the server stops.
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_ignore, http.post, url, headers)
                await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()

    anyio.run(scenario)
    points = collect()
    assert_balanced(points, site.calls)
    assert held[0] == SESSIONS // 2
    assert points.sum("mcp.sessions.created") == opened
    assert points.sum("mcp.connection.errors", {"error.type": "503"}) == SESSIONS * 2 - opened > 0
    ends = points.by(STATUS, "mcp.session.duration")
    assert ends["closed"] == opened - held[0]
    assert ends.get("shutdown", 0) + ends.get("peer_lost", 0) == held[0]


async def _ignore(send: Any, url: str, headers: dict[str, str]) -> None:
    slow = CALL | {"params": {"name": "work", "arguments": {"seconds": 5}}}
    with contextlib.suppress(Exception):
        await send(url, json=slow, headers=headers)


def test_stdio_servers_that_are_killed(collect: Collect, tmp_path: Path) -> None:
    """Half of the servers are killed while they are at work, half end with their clients."""

    async def one(number: int) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        with contextlib.suppress(Exception), anyio.fail_after(60):
            async with setups.stdio(directory) as child, anyio.create_task_group() as tasks:
                await child.session.call_tool("ok", {})
                tasks.start_soon(child.session.call_tool, "slow", {"seconds": 30})
                await until(lambda: collect().sum("mcp.requests.active", {ROLE: "client"}) == 1)
                if number % 2:
                    for process in psutil.Process().children(recursive=True):
                        # Another test's may have ended, or end just now.
                        with contextlib.suppress(psutil.Error):
                            if str(directory) in " ".join(process.cmdline()):
                                os.kill(process.pid, signal.SIGKILL)
                    await until(lambda: collect().sum("mcp.requests.active", {ROLE: "client"}) == 0)
                tasks.cancel_scope.cancel()

    async def scenario() -> None:
        for number in range(4):
            await one(number)

    anyio.run(scenario)
    points = collect()
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert [point for point in points.select(metric) if point.value] == []
    assert points.by(STATUS, "mcp.connection.duration", {ROLE: "client"}) == {"closed": 2, "peer_lost": 2}
    assert points.sum("mcp.requests.total", {ROLE: "client", TOOL: "ok"}) == 4
    assert points.by(STATUS, "mcp.requests.total", {ROLE: "client", TOOL: "slow"}) == {
        "cancelled": 2,
        "connection_lost": 2,
    }
