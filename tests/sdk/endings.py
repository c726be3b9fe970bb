"""Traffic in which requests end in every way there is, and how they were counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio

from ..points import DIRECTION, ERROR, METHOD, ROLE, STATUS, Points
from . import example, setups
from .generation import V2
from .setups import Setup

COUNTS = (
    "mcp.requests.total",
    "mcp.request.duration",
    "mcp.connections.total",
    "mcp.connection.duration",
    "mcp.connection.errors",
    "mcp.sessions.created",
    "mcp.session.dead_detected",
    "mcp.session.heartbeat_checks",
    "mcp.notifications.total",
)
"""Metrics whose numbers say what happened, and not how long it took."""

Counted = Counter[tuple[str, ...]]


async def outcome(call: Callable[[], Awaitable[Any]]) -> str:
    """What a caller gets to see."""
    try:
        result = await call()
    except Exception as error:
        return f"{type(error).__name__}: {getattr(getattr(error, 'error', None), 'code', error)}"
    return f"{type(result).__name__} {getattr(result, 'is_error', getattr(result, 'isError', None))}"


async def use(setup: Setup) -> list[str]:
    """A session of a client with the example server, and what its callers get to see."""
    async with setups.connect(setup) as link:
        return await happen(link, setup)


async def happen(link: setups.Link, setup: Setup) -> list[str]:
    """Let everything happen on a connection; what the callers get to see."""
    session, started = link.session, anyio.Event()

    async def stuck() -> str:
        started.set()
        await anyio.sleep_forever()
        return ""

    link.server.add_tool(stuck)
    found = [
        await outcome(session.list_tools),
        await outcome(lambda: session.call_tool("ok", {})),
        await outcome(lambda: session.call_tool("fail", {})),
        await outcome(lambda: session.call_tool("nobody", {})),
        await outcome(lambda: session.call_tool("tell", {})),
        await outcome(lambda: session.get_prompt("greeting")),
        # Errors of the peer: one of each class of codes.
        await outcome(lambda: session.get_prompt("broken")),
        await outcome(lambda: session.get_prompt("nobody")),
        await outcome(lambda: session.read_resource("memo://nobody")),
        await outcome(lambda: example.raw(session, "nothing/known")),
        await outcome(lambda: example.raw(session, "tools/call", {"name": 1})),
    ]
    if setup.asks_back:
        found.append(await outcome(lambda: session.call_tool("ask", {})))
    if not setup.modern:
        found.append(await outcome(session.send_ping))
    # Cancelled by its caller, and for the server by its peer.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.call_tool, "stuck", dict[str, Any]())
        await started.wait()
        tasks.cancel_scope.cancel()
    seconds: Any = 0.2 if V2 else timedelta(seconds=0.2)
    found.append(await outcome(lambda: session.call_tool("stuck", {}, read_timeout_seconds=seconds)))
    found.append(await outcome(lambda: session.call_tool("ok", {})))
    return found


def counted(points: Points) -> Counted:
    """Numbers by metric, role, direction, method, status and error."""
    seen: Counted = Counter()
    for point in points.all:
        if point.metric in COUNTS and point.value:
            values = (str(point.attributes.get(key, "")) for key in (ROLE, DIRECTION, METHOD, STATUS, ERROR))
            seen[(point.metric, *values)] += int(point.value)
    return seen
