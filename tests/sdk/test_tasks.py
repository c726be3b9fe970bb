"""``mcp.task.spawns``: the tasks the SDK starts for messages, told by the messages themselves."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from ..points import ROLE, Points
from . import setups
from .example import raw
from .generation import V2
from .setups import SETUPS

Collect = Callable[[], Points]

CALLS = 4

# What each side starts for a handshake (one request, one notification) and CALLS requests. In 1.x the session answers
# initialize by itself; 2.x starts a task for every message that comes in. A client posts each request in a task.
EXPECTED = {
    "memory": (2 + CALLS, 0) if V2 else (1 + CALLS, 0),
    "http": (2 + CALLS, 1 + CALLS) if V2 else (1 + CALLS, 1 + CALLS),
    # Discovery instead of a handshake; a JSON response needs no task.
    "http-2026": (1 + CALLS, 1 + CALLS),
    "http-json-2026": (0, 1 + CALLS),
}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name in [each.name for each in SETUPS]])
def test_a_task_is_counted_for_each_message_the_sdk_starts_one_for(name: str, collect: Collect) -> None:
    setup = next(each for each in SETUPS if each.name == name)

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            for _ in range(CALLS):
                # Past call_tool, which may list the tools to validate the result.
                await raw(link.session, "prompts/get", {"name": "greeting"})

    anyio.run(scenario)
    points = collect()
    server, client = EXPECTED[name]
    assert points.sum("mcp.task.spawns", {ROLE: "server"}) == server
    assert points.sum("mcp.task.spawns", {ROLE: "client"}) == client
