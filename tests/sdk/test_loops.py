"""Every event loop that anyio runs on, several of them at once, and many sessions in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, METHOD, ROLE, TOOL, Points
from . import example, setups
from .generation import V2
from .setups import SETUPS, Setup
from .test_exactness import (
    assert_counts_are_the_wires,
    assert_sizes_are_the_wires,
    bounded,
    drive,
    exercise,
    requests,
)
from .wire import Wire

Collect = Callable[[], Points]

LOOPS: dict[str, dict[str, Any]] = {
    "trio": {"backend": "trio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}
ON_ASYNCIO: dict[str, Any] = {"backend": "asyncio"}
NAME = "mcp.server.name"

over_both_loops = pytest.mark.parametrize("loop", LOOPS)
# Websockets are the library of that name, which is asyncio's alone.
HERE = [each for each in SETUPS if each.transport not in ("stdio", "websocket")]
PIPES = [each for each in SETUPS if each.transport == "stdio"]


async def use(setup: Setup, name: str = example.NAME) -> Wire:
    """Connect, ask everything, leave; what crossed the wire."""
    # On trio the HTTP client of 1.x waits for ever for one of several answers that come at once, with us or without.
    at_once = 1 if not V2 and setups.on_trio() else 5
    return await drive(setup, name, at_once=at_once)


@over_both_loops
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_every_request_is_counted_once_whatever_the_loop(setup: Setup, loop: str, collect: Collect) -> None:
    wire = anyio.run(use, setup, **LOOPS[loop])
    points = collect()
    assert_counts_are_the_wires(points, points, wire, setup)
    assert_sizes_are_the_wires(points, points, wire)


@over_both_loops
@pytest.mark.parametrize("setup", PIPES, ids=str)
def test_every_request_over_pipes_is_counted_once_whatever_the_loop(
    setup: Setup, loop: str, collect: Collect, tmp_path: Path
) -> None:
    async def scenario() -> setups.Child:
        backend = str(LOOPS[loop]["backend"])
        async with setups.stdio(tmp_path, modern=setup.modern, backend=backend) as child:
            await exercise(child.session, setup)
        return child

    child = anyio.run(scenario, **LOOPS[loop])
    assert_counts_are_the_wires(child.points(), collect(), child.count(), setup)


def test_loops_in_threads_count_together(collect: Collect) -> None:
    names = ("memory", "http", "http-stateless-json", "memory-2026", "http-2026")
    chosen = [each for each in HERE if each.name in names]
    loops = [*LOOPS.values(), ON_ASYNCIO]

    def run(number: int) -> Wire:
        return anyio.run(use, chosen[number % len(chosen)], f"server {number}", **loops[number % len(loops)])

    with ThreadPoolExecutor(6) as threads:
        wires = list(threads.map(run, range(6)))

    points = collect()
    for number, wire in enumerate(wires):
        for role, direction in (("server", "inbound"), ("client", "outbound")):
            where = {ROLE: role, DIRECTION: direction, NAME: f"server {number}"}
            counted = points.by(METHOD, "mcp.requests.total", where)
            # A client asks its first question before it knows the name.
            seen = bounded(wire.asked)
            assert {method: counted.get(method, 0) for method in seen if method != "initialize"} == {
                method: count for method, count in seen.items() if method != "initialize"
            }
    everything = sum((Counter(bounded(wire.asked)) for wire in wires), Counter[str]())
    asked_back = sum((Counter(bounded(wire.asked_back)) for wire in wires), Counter[str]())
    assert requests(points, "server", "inbound") == requests(points, "client", "outbound") == everything
    assert requests(points, "server", "outbound") == requests(points, "client", "inbound") == asked_back
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}


@pytest.mark.parametrize("setup", [each for each in HERE if each.name in ("http", "http-2026", "sse")], ids=str)
def test_servers_and_their_many_clients_in_one_process_are_told_apart(setup: Setup, collect: Collect) -> None:
    clients = {"north": 4, "south": 3}

    async def call(base: str, times: int) -> None:
        async with setups.client_over(setups.transport_to(base, setup)[1], modern=setup.modern) as session:
            for _ in range(times):
                await session.call_tool("ok", {})

    async def scenario() -> None:
        async with (
            setups.serve(setups.http_app(example.build("north"), setup)) as north,
            setups.serve(setups.http_app(example.build("south"), setup)) as south,
            anyio.create_task_group() as tasks,
        ):
            for base, count in ((north, clients["north"]), (south, clients["south"])):
                for number in range(count):
                    tasks.start_soon(call, base, number + 1)

    anyio.run(scenario)
    points = collect()
    for name, count in clients.items():
        for role in ("server", "client"):
            where = {ROLE: role, NAME: name, METHOD: "tools/call"}
            assert points.by(TOOL, "mcp.requests.total", where) == {"ok": sum(range(1, count + 1))}
        # A 2026-07-28 server over HTTP has no sessions.
        if not setup.modern:
            assert points.sum("mcp.sessions.created", {ROLE: "server", NAME: name}) == count
        assert points.sum("mcp.sessions.created", {ROLE: "client", NAME: name}) == count
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}
