"""fastmcp 2, 3 and 4, servers and clients: one count for each request on the wire, proxies and mounts included."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, METHOD, ROLE, TOOL, TRANSPORT, Points
from . import fast_example, setups
from .test_interceptors import actions
from .test_pool import Door, assert_it_is_what_came_in
from .wire import Wire

fastmcp: Any = pytest.importorskip("fastmcp")

Collect = Callable[[], Points]

MAJOR = int(version("fastmcp").split(".")[0])
NAME = "mcp.server.name"
# The client of fastmcp 4 speaks 2026-07-28 where the server does.
MODES: list[dict[str, Any]] = [{"mode": "auto"}, {"mode": "legacy"}] if MAJOR >= 4 else [{}]


async def exercise(client: Any, prefix: str = "") -> None:
    """Requests of every kind."""
    await client.list_tools()
    await client.list_prompts()
    await client.list_resources()
    await client.list_resource_templates()
    await client.get_prompt(f"{prefix}greeting")
    for _ in range(3):
        await client.call_tool(f"{prefix}ok")
    await client.call_tool(f"{prefix}fail", raise_on_error=False)
    with pytest.raises(Exception, match="no_such_tool"):
        await client.call_tool("no_such_tool")
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(client.call_tool, f"{prefix}slow", {"seconds": 0.02})


def counted(points: Points, role: str, server: str | None = None) -> dict[str, float]:
    """The client's requests as one side has counted them, by method."""
    where = {ROLE: role, DIRECTION: "inbound" if role == "server" else "outbound"}
    return points.by(METHOD, "mcp.requests.total", where | ({NAME: server} if server else {}))


def assert_counts(server: Points, client: Points, wire: Wire, transport: str) -> None:
    assert wire.asked["tools/call"] == 10
    assert counted(server, "server") == wire.asked
    assert counted(client, "client") == wire.asked
    assert server.by(TOOL, "mcp.requests.total", {ROLE: "server", METHOD: "tools/call"}) == {
        "ok": 3,
        "fail": 1,
        "slow": 5,
        "_OTHER": 1,
    }
    for points in (server, client):
        assert_all_is_over(points)
        assert points.by(TRANSPORT, "mcp.requests.total").keys() == {transport}


def assert_all_is_over(points: Points) -> None:
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}


@dataclass
class Served:
    """A fastmcp server behind a socket.

    Attributes:
        wire: The messages that crossed it.
        door: The HTTP requests that came in.
        url: Its endpoint.
    """

    wire: Wire
    door: Door
    url: str


@asynccontextmanager
async def serve(server: Any, kind: str = "http", **settings: Any) -> AsyncGenerator[Served]:
    wire, door = Wire(), Door()
    app = server.http_app(path=f"/{kind}", transport=kind, **settings)
    async with setups.serve(door.before(wire.tap(app))) as door.base:
        yield Served(wire, door, f"{door.base}/{kind}")


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(
    ("kind", "settings", "transport"),
    [
        ("http", {}, "streamable_http"),
        ("http", {"json_response": True}, "streamable_http"),
        ("http", {"stateless_http": True}, "streamable_http"),
        ("sse", {}, "sse"),
    ],
    ids=["http", "json", "stateless", "sse"],
)
def test_every_request_over_http_is_counted_once_on_both_sides(
    kind: str, settings: dict[str, Any], transport: str, mode: dict[str, Any], collect: Collect
) -> None:
    async def scenario() -> Served:
        async with (
            serve(fast_example.build(), kind, **settings) as served,
            fastmcp.Client(served.url, **mode) as client,
        ):
            await exercise(client)
        return served

    served = anyio.run(scenario)
    points = collect()
    assert_counts(points, points, served.wire, transport)
    # fastmcp's client is one of the pools.
    assert_it_is_what_came_in(points, served.door)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_request_over_stdio_is_counted_once_on_both_sides(
    mode: dict[str, Any], collect: Collect, tmp_path: Path
) -> None:
    transports: Any = import_module("fastmcp.client.transports")
    parameters = setups.child_parameters(tmp_path, fast_example.__name__)
    transport = transports.StdioTransport(**parameters, keep_alive=False)

    async def scenario() -> None:
        async with fastmcp.Client(transport, **mode) as client:
            await exercise(client)

    anyio.run(scenario)
    child = setups.Child.behind(None, tmp_path)
    assert_counts(child.points(), collect(), child.count(), "stdio")


def test_a_middleware_acts_once_for_each_message_it_sees(collect: Collect) -> None:
    seen: list[str] = []

    class Watches(import_module("fastmcp.server.middleware").Middleware):
        async def on_message(self, context: Any, call_next: Any) -> Any:
            seen.append(context.method)
            return await call_next(context)

    async def scenario() -> Wire:
        async with serve(fast_example.build("fast", Watches())) as served, fastmcp.Client(served.url) as client:
            await client.call_tool("ok")
            await client.list_prompts()
        return served.wire

    wire = anyio.run(scenario)
    points = collect()
    assert {"tools/call", "prompts/list"} <= set(seen)
    assert actions(points, "Watches") == {"continue": len(seen)}
    assert counted(points, "server") == wire.asked


def proxy_of(target: Any, name: str) -> Any:
    """A proxy server in front of another server's endpoint."""
    if MAJOR == 2:
        return fastmcp.FastMCP.as_proxy(target, name=name)
    return import_module("fastmcp.server").create_proxy(target, name=name)


def test_a_proxy_is_a_server_and_a_client_and_each_of_its_requests_counts(collect: Collect) -> None:
    async def scenario() -> tuple[Served, Served]:
        async with (
            serve(fast_example.build("backend")) as behind,
            serve(proxy_of(behind.url, "front")) as front,
            fastmcp.Client(front.url) as client,
        ):
            await client.list_tools()
            for _ in range(3):
                await client.call_tool("ok")
            await client.call_tool("fail", raise_on_error=False)
        return front, behind

    front, behind = anyio.run(scenario)
    points = collect()
    assert front.wire.asked["tools/call"] == behind.wire.asked["tools/call"] == 4
    assert counted(points, "server", "front") == front.wire.asked
    assert counted(points, "server", "backend") == behind.wire.asked
    assert counted(points, "client") == front.wire.asked + behind.wire.asked
    for name in ("front", "backend"):
        called = {ROLE: "client", NAME: name, METHOD: "tools/call"}
        assert points.by(TOOL, "mcp.requests.total", called) == {"ok": 3, "fail": 1}
    for served in (front, behind):
        assert_it_is_what_came_in(points, served.door)
    assert_all_is_over(points)


def test_a_call_of_a_mounted_servers_tool_is_one_request(collect: Collect) -> None:
    async def scenario() -> Wire:
        parent = fastmcp.FastMCP("parent")
        parent.mount(fast_example.build("child"), **{"prefix" if MAJOR == 2 else "namespace": "child"})
        async with serve(parent) as served, fastmcp.Client(served.url) as client:
            await exercise(client, "child_")
        return served.wire

    wire = anyio.run(scenario)
    points = collect()
    assert counted(points, "server") == counted(points, "server", "parent") == wire.asked
    assert counted(points, "client") == wire.asked
    tools = points.by(TOOL, "mcp.requests.total", {ROLE: "server", METHOD: "tools/call"})
    assert tools == {"child_ok": 3, "child_fail": 1, "child_slow": 5, "_OTHER": 1}
    assert_all_is_over(points)


def test_a_server_mounted_as_a_proxy_counts_the_requests_to_it_as_well(collect: Collect) -> None:
    """The one in front asks the one behind over another connection, in process: requests of their own."""

    async def scenario() -> Wire:
        parent = fastmcp.FastMCP("parent")
        proxy = proxy_of(fast_example.build("child"), "proxy")
        parent.mount(proxy, **{"prefix" if MAJOR == 2 else "namespace": "child"})
        async with serve(parent) as served, fastmcp.Client(served.url) as client:
            for _ in range(3):
                await client.call_tool("child_ok")
        return served.wire

    wire = anyio.run(scenario)
    points = collect()
    assert counted(points, "server", "parent") == wire.asked
    called = {METHOD: "tools/call", NAME: "child", TRANSPORT: "in_memory"}
    for role in ("server", "client"):
        assert points.by(TOOL, "mcp.requests.total", {ROLE: role, **called}) == {"ok": 3}
    assert_all_is_over(points)
