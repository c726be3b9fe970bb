"""Every way a connection and its session can end: the status says which, and everything active is 0 again."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from ..points import ERROR, MODE, ROLE, STATUS, TRANSPORT, Points
from . import example, setups
from .example import raw
from .generation import (
    V2,
    ClientSession,
    SDKError,
    Server,
    memory_streams,
    sse_client,
    streamable_http_client,
    types,
)
from .http import HEADERS, INITIALIZE, failing_app, httpx, low_level, manager, until
from .setups import SETUPS, Setup

Collect = Callable[[], Points]
HTTP = next(each for each in SETUPS if each.name == "http")


def connections(points: Points, role: str) -> dict[str, float]:
    """How the connections of a role ended."""
    return points.by(STATUS, "mcp.connection.duration", {ROLE: role})


def sessions(points: Points, role: str) -> dict[str, float]:
    """How the sessions of a role ended."""
    return points.by(STATUS, "mcp.session.duration", {ROLE: role})


def assert_nothing_is_active(points: Points) -> None:
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert points.select(metric) or metric != "mcp.connections.active"
        assert [point for point in points.select(metric) if point.value] == []
    assert points.sum("mcp.connections.total") == points.sum("mcp.connection.duration")
    assert points.sum("mcp.sessions.created") == points.sum("mcp.session.duration")


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_a_client_that_leaves_closes_both_sides(setup: Setup, collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.call_tool("ok", {})
            async with anyio.create_task_group() as tasks:
                await tasks.start(_wait_for, collect, setup)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "client") == {"closed": 1}
    assert sessions(points, "client") == {"closed": 1}
    assert set(connections(points, "server")) == {"closed"}
    assert sessions(points, "server") == ({"closed": 1} if setup.sessions else {})
    modes = points.by(MODE, "mcp.connections.total", {ROLE: "server"})
    assert set(modes) == ({"stateless"} if setup.exchanges else {"stateful"})
    if setup.exchanges:
        assert modes["stateless"] >= 2


async def _wait_for(collect: Collect, setup: Setup, *, task_status: Any) -> None:
    """While the session is open, what the catalogue calls active is."""
    points = collect()
    assert points.sum("mcp.connections.active", {ROLE: "client"}) == 1
    assert points.sum("mcp.sessions.active", {ROLE: "client"}) == 1
    assert points.sum("mcp.sessions.active", {ROLE: "server"}) == (1 if setup.sessions else 0)
    if not setup.exchanges:
        assert points.sum("mcp.connections.active", {ROLE: "server"}) == 1
    task_status.started()


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport == "stdio"], ids=str)
def test_a_stdio_server_whose_client_leaves_is_closed(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def scenario() -> setups.Child:
        async with setups.stdio(tmp_path, modern=setup.modern) as child:
            await child.session.call_tool("ok", {})
        return child

    server = anyio.run(scenario).points()
    client = collect()
    for points in (server, client):
        assert_nothing_is_active(points)
    assert connections(server, "server") == {"closed": 1}
    assert sessions(server, "server") == ({"closed": 1} if setup.sessions else {})
    assert connections(client, "client") == {"closed": 1}
    assert sessions(client, "client") == {"closed": 1}


def test_a_killed_server_is_a_lost_peer(collect: Collect, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with setups.stdio(tmp_path) as child:
            await child.session.call_tool("ok", {})
            for process in psutil.Process().children(recursive=True):
                os.kill(process.pid, signal.SIGKILL)
            with anyio.fail_after(10):
                while collect().sum("mcp.connections.active"):
                    await anyio.sleep(0.02)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "client") == {"peer_lost": 1}
    assert sessions(points, "client") == {"peer_lost": 1}
    assert points.sum("mcp.client.session.duration", {ERROR: "ConnectionError", "network.transport": "pipe"}) == 1


def test_a_client_killed_with_a_call_in_flight_is_a_lost_peer(tmp_path: Path) -> None:
    """The client is a process of its own here: it writes what it has to say and is gone without a word."""
    report = tmp_path / "points.json"

    async def scenario() -> None:
        command = [sys.executable, "-m", "tests.sdk.stdio_server", str(report)]
        environment = {**os.environ, "PYTHONPATH": str(setups.HERE.parent.parent)}
        async with await anyio.open_process(command, env=environment, stderr=None) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            call = {"method": "tools/call", "id": 1, "params": {"name": "slow", "arguments": {"seconds": 30}}}
            told = {"method": "notifications/initialized"}
            for message in (INITIALIZE, {"jsonrpc": "2.0", **told}, {"jsonrpc": "2.0", **call}):
                await server.stdin.send(json.dumps(message).encode() + b"\n")
            await server.stdout.receive()
            await anyio.sleep(0.5)
            await server.stdin.aclose()
            with anyio.fail_after(10):
                await server.wait()

    anyio.run(scenario)
    points = Points.from_json(json.loads(report.read_text()))
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"peer_lost": 1}
    assert sessions(points, "server") == {"peer_lost": 1}
    assert points.sum("mcp.requests.total", {"mcp.method.name": "tools/call", STATUS: "connection_lost"}) == 1


def test_a_delete_closes_the_session(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(HTTP) as link, httpx.AsyncClient() as http:
            opened = await http.post(link.url, json=INITIALIZE, headers=HEADERS)
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            assert (await http.delete(link.url, headers=HEADERS | session)).status_code == 200
            await until(lambda: connections(collect(), "server") == {"closed": 1})

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert sessions(points, "server") == {"closed": 2}


def test_an_idle_session_is_evicted(collect: Collect) -> None:
    async def scenario() -> None:
        async with manager(example.build(), session_idle_timeout=0.3) as (_, url), httpx.AsyncClient() as http:
            await http.post(url, json=INITIALIZE, headers=HEADERS)
            points = collect()
            assert points.select("mcp.sessions.evicted")[0].value == 0
            assert points.sum("mcp.sessions.active") == 1
            await until(lambda: collect().sum("mcp.sessions.active") == 0)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"evicted": 1}
    assert sessions(points, "server") == {"evicted": 1}
    [evicted] = points.select("mcp.sessions.evicted")
    assert evicted.attributes == {TRANSPORT: "streamable_http", "reason": "idle_timeout"}
    assert evicted.value == 1


def test_a_session_open_at_shutdown_is_shut_down(collect: Collect) -> None:
    async def scenario() -> None:
        async with httpx.AsyncClient() as http, manager(example.build()) as (_, url):
            await http.post(url, json=INITIALIZE, headers=HEADERS)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"shutdown": 1}
    assert sessions(points, "server") == {"shutdown": 1}


def test_a_call_in_flight_at_shutdown_loses_its_connection(collect: Collect) -> None:
    async def scenario() -> None:
        async with (
            anyio.create_task_group() as tasks,
            httpx.AsyncClient(timeout=20) as http,
            manager(example.build()) as (_, url),
        ):
            opened = await http.post(url, json=INITIALIZE, headers=HEADERS)
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            tasks.start_soon(_post_and_lose, http, url, HEADERS | session)
            await until(lambda: collect().sum("mcp.requests.active") == 1)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert set(connections(points, "server")) <= {"shutdown", "peer_lost"}
    assert points.sum("mcp.requests.total", {"mcp.method.name": "tools/call", STATUS: "connection_lost"}) == 1


async def _post_and_lose(http: Any, url: str, headers: dict[str, str]) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow", "arguments": {"seconds": 30}}}
    try:
        await http.post(url, json=call, headers=headers)
    except httpx.HTTPError:
        return


def test_a_session_terminated_by_the_application_is_terminated(collect: Collect) -> None:
    async def scenario() -> None:
        async with manager(example.build()) as (own, url), httpx.AsyncClient() as http:
            await http.post(url, json=INITIALIZE, headers=HEADERS)
            [transport] = own._server_instances.values()
            await transport.terminate()
            await until(lambda: collect().sum("mcp.sessions.active") == 0)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"terminated": 1}
    assert sessions(points, "server") == {"terminated": 1}


def test_a_refused_opening_request_leaves_no_session(collect: Collect) -> None:
    async def scenario() -> None:
        async with manager(example.build()) as (_, url), httpx.AsyncClient() as http:
            request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            assert (await http.post(url, json=request, headers=HEADERS)).status_code == 400
            await until(lambda: collect().sum("mcp.connections.active") == 0)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"closed": 1}
    assert points.sum("mcp.sessions.created") == 0


def test_a_crash_of_the_server_is_an_error(collect: Collect) -> None:
    async def scenario() -> None:
        server = low_level(example.build())
        options = server.create_initialization_options()
        async with memory_streams() as (near, far):
            with pytest.raises(BaseException) as raised:  # A group on some releases.
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lambda: server.run(far[0], far[1], options, raise_exceptions=True))
                    async with ClientSession(near[0], near[1]) as session:
                        await session.initialize()
                        await session.get_prompt("broken")
            assert "broken" in repr(raised.value)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "server") == {"error": 1}
    assert sessions(points, "server") == {"error": 1}
    assert points.by(ERROR, "mcp.connection.duration", {ROLE: "server"}) == {"ValueError": 1}
    assert points.sum("mcp.server.session.duration", {ERROR: "ValueError"}) == 1


def test_an_sse_client_whose_stream_breaks_has_lost_its_peer(collect: Collect) -> None:
    """The server goes away under an open SSE stream."""

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            opened, leave = anyio.Event(), anyio.Event()

            async def server(*, task_status: Any) -> None:
                async with setups.serve(example.build().sse_app()) as base:
                    task_status.started(f"{base}/sse")
                    await leave.wait()

            url = await tasks.start(server)
            with anyio.move_on_after(20):
                try:
                    async with setups.client_over(sse_client(url)) as session:
                        await session.call_tool("ok", {})
                        opened.set()
                        leave.set()
                        await until(lambda: collect().sum("mcp.connections.active", {ROLE: "client"}) == 0)
                except BaseException as error:  # The transport's own error, once the session is left.
                    if not isinstance(error, Exception) and not hasattr(error, "exceptions"):
                        raise

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert connections(points, "client") == {"peer_lost": 1}


@pytest.mark.parametrize(("status", "ending"), [(500, "server_error"), (403, "client_error")])
def test_an_http_error_without_a_json_rpc_body_is_classed_by_its_status(
    status: int, ending: str, collect: Collect
) -> None:
    async def scenario() -> None:
        async with setups.serve(failing_app(status)) as base:
            with pytest.raises(BaseException):  # noqa: B017  # 1.x ends the whole transport with it.
                async with setups.client_over(streamable_http_client(f"{base}/mcp")) as session:
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    [call] = [point for point in points.select("mcp.requests.total", {"mcp.method.name": "tools/call"}) if point.value]
    assert (call.attributes[STATUS], call.attributes[ERROR], call.value) == (ending, str(status), 1)


REFUSAL = b'{"jsonrpc":"2.0","id":%s,"error":{"code":-32600,"message":"Bad Request: Missing session ID"}}'


@pytest.mark.parametrize(
    ("status", "kind", "body", "shown_1x", "shown_2x"),
    [
        # How 1.30 and 2.x refuse what they have not parsed yet.
        (400, b"application/json", REFUSAL % b'"server-error"', "400", "-32600"),
        (404, b"application/json", REFUSAL % b"null", "-32600", "-32600"),
        # What says so in a kind that is no JSON is not read.
        (400, b"text/plain", REFUSAL % b"null", "400", "400"),
        (404, b"text/plain", b"no", "-32600", "404"),
        # JSON, but not of JSON-RPC: how a missing token is answered.
        (401, b"application/json", b'{"error":"invalid_token"}', "401", "401"),
    ],
)
def test_a_refusal_over_http_is_shown_by_its_json_rpc_code_where_one_is_read(
    status: int, kind: bytes, body: bytes, shown_1x: str, shown_2x: str, collect: Collect
) -> None:
    async def scenario() -> None:
        async with setups.serve(failing_app(status, kind, body)) as base:
            with pytest.raises(BaseException):  # noqa: B017  # 1.x ends the whole transport with it.
                async with setups.client_over(streamable_http_client(f"{base}/mcp")) as session:
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    [call] = [point for point in points.select("mcp.requests.total", {"mcp.method.name": "tools/call"}) if point.value]
    shown = shown_2x if V2 else shown_1x
    assert (call.attributes[STATUS], call.attributes[ERROR], call.value) == ("client_error", shown, 1)


def test_a_client_that_cannot_reach_its_server_loses_the_request_not_the_count(collect: Collect) -> None:
    async def scenario() -> None:
        with pytest.raises(BaseException):  # noqa: B017  # ConnectError, in a group.
            async with setups.client_over(streamable_http_client("http://127.0.0.1:9/mcp")):
                pass

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert points.by(STATUS, "mcp.requests.total", {ROLE: "client"}) == {"connection_lost": 1}
    assert connections(points, "client") == {"error": 1}
    assert points.by(ERROR, "mcp.connection.duration") == {"ConnectError": 1}


def test_a_tool_that_sleeps_half_a_second_lands_in_its_bucket(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(HTTP) as link:
            await link.session.list_tools()
            await link.session.call_tool("slow", {"seconds": 0.5})

    anyio.run(scenario)
    points = collect()
    for role in ("server", "client"):
        [slow] = [
            point
            for point in points.select("mcp.request.duration", {ROLE: role, "gen_ai.tool.name": "slow"})
            if point.value
        ]
        assert 0.5 <= slow.total < 1
        assert slow.buckets[slow.bounds.index(1.0)] == 1
        # An open GET stream is no request: nothing but what was called is here.
        assert points.sum("mcp.request.duration", {ROLE: role}) == points.sum("mcp.requests.total", {ROLE: role})


def test_requests_before_the_handshake_are_counted(collect: Collect) -> None:
    async def scenario() -> None:
        server = low_level(example.build())
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                with pytest.raises(SDKError):
                    await raw(session, "tools/list")
                await session.initialize()

    anyio.run(scenario)
    points = collect()
    early = {"mcp.method.name": "tools/list", STATUS: "client_error", ERROR: "-32602"}
    for role in ("server", "client"):
        assert points.sum("mcp.requests.total", {ROLE: role, **early}) == 1


def test_a_low_level_server_is_named_and_its_listing_names_its_tools(collect: Collect) -> None:
    tools = [types.Tool(**{"name": "one", "input_schema" if V2 else "inputSchema": {"type": "object"}})]
    if V2:

        async def list_tools(context: Any, params: Any) -> Any:
            return types.ListToolsResult(tools=tools)

        async def call_tool(context: Any, params: Any) -> Any:
            return types.CallToolResult(content=[])

        server = Server("low", on_list_tools=list_tools, on_call_tool=call_tool)
    else:
        server = Server("low")

        async def list_tools_v1() -> Any:
            return tools

        async def call_tool_v1(name: str, arguments: Any) -> Any:
            return []

        server.list_tools()(list_tools_v1)
        server.call_tool()(call_tool_v1)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                await session.list_tools()
                for name in ("one", "two"):
                    await session.call_tool(name, {})

    anyio.run(scenario)
    points = collect()
    for role in ("server", "client"):
        where = {ROLE: role, "mcp.server.name": "low", "mcp.method.name": "tools/call"}
        assert points.by("gen_ai.tool.name", "mcp.requests.total", where) == {"one": 1, "_OTHER": 1}
