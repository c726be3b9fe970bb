"""Every request on the wire is counted exactly once, on both sides, whatever becomes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, METHOD, ROLE, TRANSPORT, Points
from . import example, setups
from .example import raw
from .generation import SDKError
from .setups import SETUPS, Setup
from .wire import Wire

pytestmark = pytest.mark.every_release

Collect = Callable[[], Points]


async def exercise(session: Any, setup: Setup, *, at_once: int = 5) -> None:
    """Requests of every kind and fate, up to so many at a time, and what the server asks back."""
    await session.list_tools()
    await session.list_prompts()
    await session.get_prompt("greeting")
    await session.read_resource("memo://readme")
    for _ in range(3):
        await session.call_tool("ok", {})
    await session.call_tool("fail", {})
    await session.call_tool("slow", {"seconds": 0.01})
    await session.call_tool("tell", {}, progress_callback=_ignore)
    with contextlib.suppress(SDKError):
        await session.call_tool("no_such_tool", {})
    with contextlib.suppress(SDKError):
        await session.get_prompt("broken")
    for method, params in (("no/such/method", {}), ("tools/call", {"wrong": 1}), ("resources/read", {})):
        with pytest.raises(SDKError):
            await raw(session, method, params)
    if not setup.modern:
        await session.send_ping()
    if setup.asks_back:
        asked = await session.call_tool("ask", {})
        assert asked.content[0].text == "asked"
    for _ in range(0, 5, at_once):
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(session.call_tool, "slow", {"seconds": 0.02})


async def drive(setup: Setup, name: str = example.NAME, *, at_once: int = 5) -> Wire:
    """Connect, ask everything, leave; what crossed the wire."""
    async with setups.connect(setup, name=name) as link:
        await exercise(link.session, setup, at_once=at_once)
    return link.wire.settle()


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    pass


def requests(points: Points, role: str, direction: str) -> dict[str, float]:
    return points.by(METHOD, "mcp.requests.total", {ROLE: role, DIRECTION: direction})


def bounded(counts: dict[str, int]) -> dict[str, float]:
    """The oracle's counts with the method the server does not know under ``_OTHER``."""
    return {("_OTHER" if method == "no/such/method" else method): float(count) for method, count in counts.items()}


def assert_sizes_are_the_wires(server: Points, client: Points, wire: Wire) -> None:
    """To the byte: what the two sides measured is what the tap saw."""
    for by_client, (points, role) in ((True, (client, "client")), (False, (server, "server"))):
        for metric, seen in (("mcp.request.size", wire.request_bytes), ("mcp.response.size", wire.response_bytes)):
            asked = {ROLE: role, DIRECTION: "outbound"}
            assert sum(point.total for point in points.select(metric, asked)) == seen[by_client], (metric, role)
            other, other_role = (server, "server") if by_client else (client, "client")
            answered = {ROLE: other_role, DIRECTION: "inbound"}
            assert sum(point.total for point in other.select(metric, answered)) == seen[by_client], (metric, role)


def assert_counts_are_the_wires(server: Points, client: Points, wire: Wire, setup: Setup) -> None:
    assert wire.asked["tools/call"] == (14 if setup.asks_back else 13)
    assert requests(server, "server", "inbound") == bounded(wire.asked)
    assert requests(client, "client", "outbound") == bounded(wire.asked)
    assert requests(server, "server", "outbound") == bounded(wire.asked_back)
    assert requests(client, "client", "inbound") == bounded(wire.asked_back)
    if setup.asks_back:
        assert set(wire.asked_back) == {"sampling/createMessage", "roots/list", "ping", "elicitation/create"}
    told = {METHOD: "notifications/progress", ROLE: "client", DIRECTION: "inbound"}
    assert client.sum("mcp.notifications.total", told) == wire.told_back["notifications/progress"]
    for points in (server, client):
        for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
            assert {
                tuple(point.attributes.items()): point.value for point in points.select(metric) if point.value
            } == {}
        assert points.sum("mcp.connection.errors") == 0
        assert points.sum("mcp.session.dead_detected") == 0
        assert {point.attributes[TRANSPORT] for point in points.select("mcp.requests.total")} == {setup.transport}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_every_request_is_counted_once_on_both_sides(setup: Setup, collect: Collect) -> None:
    wire = anyio.run(drive, setup)
    points = collect()
    assert_counts_are_the_wires(points, points, wire, setup)
    assert_sizes_are_the_wires(points, points, wire)
    operations = points.sum("mcp.server.operation.duration") + points.sum("mcp.client.operation.duration")
    requests_and_notifications = points.sum("mcp.requests.total") + points.sum("mcp.notifications.total")
    assert operations == requests_and_notifications


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport == "stdio"], ids=str)
def test_every_request_over_real_pipes_is_counted_once_on_both_sides(
    setup: Setup, collect: Collect, tmp_path: Path
) -> None:
    async def scenario() -> setups.Child:
        async with setups.stdio(tmp_path, modern=setup.modern) as child:
            await exercise(child.session, setup)
        return child

    child = anyio.run(scenario)
    server, client, wire = child.points(), collect(), child.count()
    assert_counts_are_the_wires(server, client, wire, setup)
    assert_sizes_are_the_wires(server, client, wire)
