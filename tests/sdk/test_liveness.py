"""``mcp.session.heartbeat_checks`` and ``mcp.session.dead_detected``: real signs of life, and their real absence."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from ..points import DIRECTION, ROLE, STATUS, Points
from . import example, setups
from .generation import V2, ClientSession, SDKError, Server, memory_streams, streamable_http_client, types
from .http import INITIALIZE, httpx, manager, until
from .setups import SETUPS, Setup

Collect = Callable[[], Points]
PINGING = [each for each in SETUPS if not each.modern and each.asks_back and each.transport != "stdio"]


def checks(points: Points, role: str, direction: str, kind: str = "ping") -> float:
    return points.sum("mcp.session.heartbeat_checks", {ROLE: role, DIRECTION: direction, "kind": kind})


def deaths(points: Points, role: str) -> dict[str, float]:
    return points.by("reason", "mcp.session.dead_detected", {ROLE: role})


@pytest.mark.parametrize("setup", PINGING, ids=str)
def test_pings_of_both_sides_are_checks_made_and_answered(setup: Setup, collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            begun = collect()
            for direction in ("inbound", "outbound"):
                for role in ("client", "server"):
                    [point] = begun.select(
                        "mcp.session.heartbeat_checks", {ROLE: role, DIRECTION: direction, "kind": "ping"}
                    )
                    assert point.value == 0
            for _ in range(3):
                await link.session.send_ping()
            await link.session.call_tool("ask", {})

    anyio.run(scenario)
    points = collect()
    assert checks(points, "client", "outbound") == 3
    assert checks(points, "server", "inbound") == 3
    assert checks(points, "server", "outbound") == 1
    assert checks(points, "client", "inbound") == 1
    assert points.sum("mcp.session.dead_detected") == 0


@asynccontextmanager
async def session_with(answer: Any) -> AsyncGenerator[Any, None]:
    """A client of a low-level server that answers pings with ``await answer()``."""
    if V2:

        async def on_ping(context: Any, params: Any) -> Any:
            return await answer()

        server = Server("pinged", on_ping=on_ping)
    else:
        server = Server("pinged")

        async def handler(request: Any) -> Any:
            return types.ServerResult(await answer())

        server.request_handlers[types.PingRequest] = handler
    async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
        async with ClientSession(near[0], near[1]) as session:
            await session.initialize()
            yield session


def test_an_error_reply_to_a_ping_proves_life(collect: Collect) -> None:
    async def refuse() -> Any:
        raise ValueError("not in the mood")

    async def scenario() -> None:
        async with session_with(refuse) as session:
            with pytest.raises(SDKError, match="mood"):
                await session.send_ping()

    anyio.run(scenario)
    points = collect()
    assert checks(points, "client", "outbound") == 1
    assert checks(points, "server", "inbound") == 0
    assert points.sum("mcp.session.dead_detected") == 0


def test_a_ping_without_an_answer_finds_its_peer_dead_once(collect: Collect) -> None:
    async def sleep() -> Any:
        await anyio.sleep(5)

    async def scenario() -> None:
        async with session_with(sleep) as session:
            ping = types.PingRequest(method="ping")
            request = ping if V2 else types.ClientRequest(ping)
            timeout = 0.1 if V2 else timedelta(seconds=0.1)
            for _ in range(2):
                with pytest.raises(SDKError):
                    await session.send_request(request, types.EmptyResult, request_read_timeout_seconds=timeout)

    anyio.run(scenario)
    points = collect()
    assert checks(points, "client", "outbound") == 2
    assert deaths(points, "client") == {"ping_failed": 1}
    assert points.by(STATUS, "mcp.connection.duration", {ROLE: "client"}) == {"peer_lost": 1}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_killed_server_is_found_dead_once(busy: bool, collect: Collect, tmp_path: Path) -> None:
    async def call(session: Any) -> None:
        with suppress(SDKError):
            await session.call_tool("slow", {"seconds": 20})

    async def scenario() -> None:
        async with setups.stdio(tmp_path) as child, anyio.create_task_group() as tasks:
            await child.session.call_tool("ok", {})
            if busy:
                tasks.start_soon(call, child.session)
                await anyio.sleep(0.2)
            for process in psutil.Process().children(recursive=True):
                os.kill(process.pid, signal.SIGKILL)
            await until(lambda: deaths(collect(), "client") == {"peer_closed": 1})

    anyio.run(scenario)
    assert deaths(collect(), "client") == {"peer_closed": 1}


def test_a_client_that_is_gone_with_a_call_in_flight_is_found_dead(collect: Collect) -> None:
    async def scenario() -> None:
        server = example.build()
        low = server._lowlevel_server if V2 else server._mcp_server
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
            call = {"jsonrpc": "2.0", "method": "tools/call", "id": 1}
            parameters = {"params": {"name": "slow", "arguments": {"seconds": 20}}}
            for message in (INITIALIZE, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call | parameters):
                await near[1].send(_message(message))
            await near[0].receive()
            await until(lambda: collect().sum("mcp.requests.active") == 1)
            await near[1].aclose()

    anyio.run(scenario)
    points = collect()
    assert deaths(points, "server") == {"peer_closed": 1}
    assert points.by(STATUS, "mcp.connection.duration") == {"peer_lost": 1}


def _message(data: dict[str, Any]) -> Any:
    session_message: Any = import_module("mcp.shared.message").SessionMessage
    if V2:
        return session_message(types.jsonrpc_message_adapter.validate_python(data))
    return session_message(types.JSONRPCMessage.model_validate(data))


def test_a_session_the_server_no_longer_knows_is_found_dead(collect: Collect) -> None:
    async def scenario() -> None:
        async with manager(example.build()) as (own, url), setups.client_over(streamable_http_client(url)) as session:
            await session.call_tool("ok", {})
            [transport] = own._server_instances.values()
            await transport.terminate()
            for _ in range(2):
                with pytest.raises(SDKError):
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert deaths(points, "client") == {"session_not_found": 1}
    refused = {ROLE: "client", STATUS: "client_error", "error.type": "-32600"}
    assert points.sum("mcp.requests.total", refused) == 2


def test_a_server_that_went_away_is_found_dead_by_the_next_call(collect: Collect) -> None:
    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            leave, left = anyio.Event(), anyio.Event()

            async def server(*, task_status: Any) -> None:
                async with manager(example.build()) as (_, url):
                    task_status.started(url)
                    await leave.wait()
                left.set()

            url = await tasks.start(server)
            with suppress(BaseException):
                async with setups.client_over(streamable_http_client(url)) as session:
                    await session.call_tool("ok", {})
                    leave.set()
                    await left.wait()
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert deaths(points, "client") == {"write_failed": 1}
    assert points.by(STATUS, "mcp.connection.duration", {ROLE: "client"}) == {"peer_lost": 1}
    assert points.by("error.type", "mcp.connection.errors", {ROLE: "client"}) == {"ConnectError": 1}


def test_keepalive_frames_of_an_open_stream_are_checks(collect: Collect, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as crossed the wire, on each kind of stream."""
    monkeypatch.setattr(import_module("sse_starlette").EventSourceResponse, "DEFAULT_PING_INTERVAL", 0.1)
    sse = next(each for each in SETUPS if each.name == "sse")
    seen: list[bytes] = []

    def tap(app: Any) -> Any:
        async def tapped(scope: Any, receive: Any, send: Any) -> None:
            async def send_tapped(message: Any) -> None:
                if message.get("body", b"").startswith(b":"):
                    seen.append(message["body"])
                await send(message)

            await app(scope, receive, send_tapped)

        return tapped

    async def scenario() -> None:
        async with (
            setups.serve(tap(setups.http_app(example.build(), sse))) as base,
            httpx.AsyncClient() as http,
            http.stream("GET", f"{base}/sse"),
        ):
            await until(lambda: len(seen) >= 3)

    anyio.run(scenario)
    points = collect()
    assert len(seen) >= 3
    assert checks(points, "server", "outbound", "sse_keepalive") == len(seen)
    assert points.by("mcp.transport", "mcp.session.heartbeat_checks") == {"sse": len(seen)}


@pytest.mark.parametrize("name", [name for name in ("http", "http-2026") if name in [each.name for each in SETUPS]])
def test_keepalive_frames_of_a_call_are_checks(name: str, collect: Collect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("sse_starlette").EventSourceResponse, "DEFAULT_PING_INTERVAL", 0.1)
    if V2:
        monkeypatch.setattr(import_module("mcp.server._streamable_http_modern"), "_SSE_PING_INTERVAL", 0.1)
    setup = next(each for each in SETUPS if each.name == name)

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.call_tool("slow", {"seconds": 0.55})
            assert checks(collect(), "server", "outbound", "sse_keepalive") >= 3

    anyio.run(scenario)
    assert collect().sum("mcp.session.dead_detected") == 0
