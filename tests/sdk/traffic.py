"""Some traffic over every kind of connection of 2.x, held against what crossed the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container

import anyio
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ..points import DIRECTION, METHOD, ROLE, Points
from . import endings, setups
from .endings import Counted
from .setups import SETUPS, Setup
from .wire import Wire

# Ways to connect that go through the same hooks; those of one kind are used at once.
KINDS = {
    "streams": [each for each in SETUPS if each.name in ("memory", "sse", "http")],
    "in process": [each for each in SETUPS if each.name == "memory-2026"],
    "exchanges": [each for each in SETUPS if each.name == "http-2026"],
}


async def use(setup: Setup) -> Wire:
    async with setups.connect(setup) as link:
        session = link.session
        tools = await session.list_tools()
        assert {"ok", "fail"} <= {tool.name for tool in tools.tools}
        assert (await session.call_tool("ok", {})).content[0].text == "fine"
        assert (await session.call_tool("fail", {})).is_error
        if setup.asks_back:
            assert (await session.call_tool("ask", {})).content[0].text == "asked"
        assert "MCPError: -32601" in await endings.happen(link, setup)
    return link.wire.settle()


def crossed(kind: str) -> Counter[str]:
    """Use everything of a kind; the requests that crossed the wire, by who asked and the method."""
    wires: list[Wire] = []

    async def note(setup: Setup) -> None:
        wires.append(await use(setup))

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            for setup in KINDS[kind]:
                tasks.start_soon(note, setup)

    anyio.run(scenario)
    seen: Counter[str] = Counter()
    for wire in wires:
        seen.update({f"client: {_bounded(method)}": count for method, count in wire.asked.items()})
        seen.update({f"server: {_bounded(method)}": count for method, count in wire.asked_back.items()})
    return seen


def _bounded(method: str) -> str:
    return "_OTHER" if method == "nothing/known" else method


def counted(points: Points, role: str) -> Counter[str]:
    """Likewise, as one side has counted them so far."""
    seen: Counter[str] = Counter()
    for direction in ("inbound", "outbound"):
        who = "client" if (role == "client") == (direction == "outbound") else "server"
        methods = points.by(METHOD, "mcp.requests.total", {ROLE: role, DIRECTION: direction})
        seen.update({f"{who}: {method}": int(count) for method, count in methods.items()})
    return seen


def compare(reader: InMemoryMetricReader, may_lack: Container[tuple[str, str]]) -> dict[str, Counted]:
    """Use everything; what is counted is what crossed the wire, or less where that may be.

    Returns:
        By kind, the numbers by metric, role, direction, method, status and error.
    """
    before = Points.of(reader)
    found: dict[str, Counted] = {}
    for kind in KINDS:
        wire = crossed(kind)
        after = Points.of(reader)
        found[kind] = endings.counted(after) - endings.counted(before)
        for role in ("server", "client"):
            new = counted(after, role) - counted(before, role)
            if (kind, role) in may_lack:
                assert new <= wire, (kind, role)
            else:
                assert new == wire, (kind, role)
        before = after
    return found
