"""Every ``status`` a request can have, made to happen for real, on both sides."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from ..points import DIRECTION, ERROR, METHOD, PROMPT, ROLE, STATUS, TOOL, Points
from . import setups
from .example import raw
from .generation import CRASH_CODE, MODERN_CRASH_CODE, V2, SDKError, types
from .setups import SETUPS, Setup

Collect = Callable[[], Points]
Act = Callable[[Any], Awaitable[None]]

STDIO = [each for each in SETUPS if each.transport == "stdio"]
over_every_setup = pytest.mark.parametrize("setup", SETUPS, ids=str)


def run(setup: Setup, directory: Path, collect: Collect, act: Act, **options: Any) -> tuple[Points, Points]:
    """Connect, act on the client's session, disconnect; the server's and the client's points."""

    async def scenario() -> setups.Child | None:
        if setup.transport == "stdio":
            async with setups.stdio(directory, modern=setup.modern, **options) as child:
                await act(child.session)
            return child
        async with setups.connect(setup, **options) as link:
            await act(link.session)
        return None

    child = anyio.run(scenario)
    points = collect()
    return (child.points() if child else points), points


def ends(points: Points, role: str, method: str, **where: Any) -> list[tuple[str, str | None, float]]:
    """Status, error.type and count of the requests of a method that ended, zeros left out."""
    direction = "inbound" if role == "server" else "outbound"
    wanted = {ROLE: role, DIRECTION: direction, METHOD: method, **where}
    return sorted(
        (point.attributes[STATUS], point.attributes.get(ERROR), point.value)
        for point in points.select("mcp.requests.total", wanted)
        if point.value
    )


def assert_ends(server: Points, client: Points, method: str, expected: tuple[str, str | None], **where: Any) -> None:
    assert ends(server, "server", method, **where) == [(*expected, 1)]
    assert ends(client, "client", method, **where) == [(*expected, 1)]


def timed(points: Points, role: str, method: str, status: str) -> float:
    direction = "inbound" if role == "server" else "outbound"
    where = {ROLE: role, DIRECTION: direction, METHOD: method, STATUS: status, ERROR: None}
    return points.sum("mcp.request.duration", where)


@over_every_setup
def test_a_result_is_ok(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.call_tool("ok", {})

    server, client = run(setup, tmp_path, collect, act)
    assert ends(server, "server", "tools/call", **{TOOL: "ok"}) == [("ok", None, 1)]
    assert timed(server, "server", "tools/call", "ok") == 1
    assert timed(client, "client", "tools/call", "ok") == 1
    operation = {METHOD: "tools/call", TOOL: "ok", "gen_ai.operation.name": "execute_tool", ERROR: None}
    assert server.sum("mcp.server.operation.duration", operation) == 1


@over_every_setup
def test_an_error_result_is_a_tool_error(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.list_tools()
        await session.call_tool("fail", {})

    server, client = run(setup, tmp_path, collect, act)
    assert_ends(server, client, "tools/call", ("tool_error", None), **{TOOL: "fail"})
    operation = {METHOD: "tools/call", TOOL: "fail", ERROR: "tool_error"}
    assert server.sum("mcp.server.operation.duration", operation) == 1
    assert client.sum("mcp.client.operation.duration", operation) == 1


@over_every_setup
def test_an_unknown_tool_is_a_tool_error_of_no_name(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.list_tools()
        await session.call_tool("scanner's garbage", {})

    server, client = run(setup, tmp_path, collect, act)
    assert_ends(server, client, "tools/call", ("tool_error", None), **{TOOL: "_OTHER"})


@over_every_setup
def test_invalid_parameters_are_a_client_error(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        with pytest.raises(SDKError):
            await raw(session, "resources/read", {"wrong": 1})

    server, client = run(setup, tmp_path, collect, act)
    assert_ends(server, client, "resources/read", ("client_error", "-32602"))
    # By the conventions it is the caller's fault: an error to the client, none of the server's.
    blameless = {METHOD: "resources/read", ERROR: None, "rpc.response.status_code": "-32602"}
    assert server.sum("mcp.server.operation.duration", blameless) == 1
    assert client.sum("mcp.client.operation.duration", {**blameless, ERROR: "-32602"}) == 1


@over_every_setup
def test_an_unknown_method_is_a_client_error_of_no_name(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        with pytest.raises(SDKError):
            await raw(session, "no/such/method", {})

    server, client = run(setup, tmp_path, collect, act)
    # 1.x answers what it cannot validate with "invalid parameters".
    assert_ends(server, client, "_OTHER", ("client_error", "-32601" if V2 else "-32602"))


@over_every_setup
def test_a_handler_that_raises_is_a_server_error(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.list_prompts()
        with pytest.raises(SDKError):
            await session.get_prompt("broken")

    server, client = run(setup, tmp_path, collect, act)
    code = MODERN_CRASH_CODE if setup.modern else CRASH_CODE
    assert_ends(server, client, "prompts/get", ("server_error", code), **{PROMPT: "broken"})
    failed = {METHOD: "prompts/get", ERROR: code, "rpc.response.status_code": code}
    assert server.sum("mcp.server.operation.duration", failed) == 1


@over_every_setup
def test_a_call_cancelled_by_its_caller_is_cancelled(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    end = told_of_the_cancellation(setup)
    # Nobody waits for one that is cut short, and on a busy machine it takes its time until the server hears of it.
    seconds = 5 if end == "cancelled" else 0.5

    async def act(session: Any) -> None:
        await session.list_tools()
        with anyio.move_on_after(0.2) as scope:
            await session.call_tool("slow", {"seconds": seconds})
        assert scope.cancelled_caught
        await anyio.sleep(0.5)

    server, client = run(setup, tmp_path, collect, act)
    assert ends(client, "client", "tools/call") == [("cancelled", None, 1)]
    assert client.sum("mcp.client.operation.duration", {METHOD: "tools/call", ERROR: "CancelledError"}) == 1
    assert ends(server, "server", "tools/call") == [(end, None, 1)]


def told_of_the_cancellation(setup: Setup) -> str:
    """How a call ends on the server that its client has given up."""
    if not V2:
        return "ok"  # 1.x clients never tell.
    if setup.exchanges and (setup.settings.get("json_response") or not setup.modern):
        # Stateless: the notification reaches another exchange. JSON: nobody watches for the disconnect.
        return "ok"
    return "cancelled"


@over_every_setup
def test_a_call_whose_timer_runs_out_is_a_timeout(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.list_tools()
        timeout = 0.2 if V2 else timedelta(seconds=0.2)
        with pytest.raises(SDKError):
            await session.call_tool("slow", {"seconds": 0.5}, read_timeout_seconds=timeout)
        await anyio.sleep(0.5)

    server, client = run(setup, tmp_path, collect, act)
    assert ends(client, "client", "tools/call") == [("timeout", None, 1)]
    assert client.sum("mcp.client.operation.duration", {METHOD: "tools/call", ERROR: "TimeoutError"}) == 1
    assert ends(server, "server", "tools/call") == [(told_of_the_cancellation(setup), None, 1)]


@pytest.mark.parametrize("setup", [each for each in SETUPS if not each.modern and each.sessions], ids=str)
def test_a_request_cancelled_by_notification_is_cancelled(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    async def act(session: Any) -> None:
        await session.list_tools()
        async with anyio.create_task_group() as tasks:
            if V2:
                tasks.start_soon(_call_and_give_up, session)
            else:
                tasks.start_soon(_call_and_be_refused, session)
                await anyio.sleep(0.2)
                await _send_cancelled(session, session._request_id - 1)

    server, client = run(setup, tmp_path, collect, act)
    assert ends(server, "server", "tools/call") == [("cancelled", None, 1)]
    assert ends(client, "client", "tools/call") == [("cancelled", None, 1)]
    cancelled = {METHOD: "notifications/cancelled"}
    assert client.sum("mcp.notifications.total", {**cancelled, DIRECTION: "outbound"}) == 1
    assert server.sum("mcp.notifications.total", {**cancelled, DIRECTION: "inbound"}) == 1


async def _call_and_give_up(session: Any) -> None:
    with anyio.move_on_after(0.2):
        await session.call_tool("slow", {"seconds": 5})
    await anyio.sleep(0.3)


async def _call_and_be_refused(session: Any) -> None:
    with pytest.raises(SDKError, match="Request cancelled"):
        await session.call_tool("slow", {"seconds": 5})


async def _send_cancelled(session: Any, request_id: int) -> None:
    parameters = types.CancelledNotificationParams(requestId=request_id)
    notification = types.CancelledNotification(method="notifications/cancelled", params=parameters)
    await session.send_notification(types.ClientNotification(notification))


@pytest.mark.parametrize("setup", STDIO, ids=str)
def test_calls_in_flight_when_the_server_is_killed_lose_their_connection(
    setup: Setup, collect: Collect, tmp_path: Path
) -> None:
    async def act(session: Any) -> None:
        await session.list_tools()
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(_expect_error, session)
            await anyio.sleep(0.3)
            _kill_children()
        # The session is dead now, and says so to every further call.
        for _ in range(2):
            await _expect_error(session)

    async def scenario() -> None:
        async with setups.stdio(tmp_path, modern=setup.modern) as child:
            await act(child.session)

    anyio.run(scenario)
    client = collect()
    assert ends(client, "client", "tools/call") == [("connection_lost", None, 5)]
    assert client.sum("mcp.client.operation.duration", {METHOD: "tools/call", ERROR: "ConnectionError"}) == 5
    assert client.sum("mcp.requests.active") == 0


async def _expect_error(session: Any) -> None:
    with pytest.raises((SDKError, anyio.ClosedResourceError)):
        await session.call_tool("slow", {"seconds": 5})


def _kill_children() -> None:
    """Kill every process below this one."""
    for process in psutil.Process().children(recursive=True):
        os.kill(process.pid, signal.SIGKILL)


def test_a_call_in_flight_when_its_session_is_left_has_lost_its_connection(collect: Collect) -> None:
    async def call(session: Any) -> None:
        # 1.x forgets to tell a caller in another task that the session is gone.
        with anyio.move_on_after(1), contextlib.suppress(SDKError):
            await session.call_tool("slow", {"seconds": 5})

    async def scenario() -> None:
        memory = next(each for each in SETUPS if each.name == "memory")
        async with anyio.create_task_group() as outside, setups.connect(memory) as link:
            await link.session.list_tools()
            outside.start_soon(call, link.session)
            await anyio.sleep(0.2)

    anyio.run(scenario)
    points = collect()
    assert points.sum("mcp.requests.active") == 0
    assert_ends(points, points, "tools/call", ("connection_lost", None), **{TOOL: "slow"})
