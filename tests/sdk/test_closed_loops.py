"""An event loop is closed under an open session: one loop for each question, and nobody leaves anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, METHOD, ROLE, STATUS, Points
from . import example, setups
from .generation import ClientSession, memory_streams
from .http import low_level, until
from .setups import Setup
from .test_leaving_first import HANDSHAKE, over_pipes

Collect = Callable[[], Points]
CLIENT = {ROLE: "client"}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": lambda: import_module("uvloop").new_event_loop(),
}


@contextmanager
def another_thread_serving(setup: Setup) -> Generator[Callable[[], Any]]:
    """The example server on a loop that goes on; makes transports to it."""
    if setup.transport == "stdio":
        yield over_pipes
        return
    ready, done, bases = threading.Event(), threading.Event(), list[str]()

    async def serve() -> None:
        async with setups.serve(setups.http_app(example.build(), setup)) as base:
            bases.append(base)
            ready.set()
            while not done.is_set():
                await anyio.sleep(0.05)

    thread = threading.Thread(target=anyio.run, args=(serve,), daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield lambda: setups.transport_to(bases[0], setup)[1]
    finally:
        done.set()
        thread.join(20)


def assert_nothing_is_active(points: Points) -> None:
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert points.by(METHOD, metric, CLIENT) == {}


@pytest.mark.filterwarnings("ignore")  # Of what is not closed.
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("setup", [each for each in HANDSHAKE if each.transport != "websocket"], ids=str)
def test_a_session_ends_with_its_loop(setup: Setup, loop: str, collect: Collect) -> None:
    kept: list[Any] = []

    async def question(transport: Any) -> None:
        session = ClientSession(*(await transport.__aenter__())[:2])
        kept.extend((transport, await session.__aenter__()))
        await session.initialize()
        kept.append(asyncio.ensure_future(session.call_tool("slow", {"seconds": 20})))
        await until(lambda: collect().sum("mcp.requests.active", CLIENT) == 1)

    with another_thread_serving(setup) as transport:
        for _ in range(2):
            own = LOOPS[loop]()
            own.set_exception_handler(_ignore)
            own.run_until_complete(question(transport()))
            assert collect().sum("mcp.connections.active", CLIENT) == 1
            own.close()
        for _ in range(2):
            # Once, however often it is looked for.
            points = collect()
            assert_nothing_is_active(points)
            assert points.by(STATUS, "mcp.connection.duration", CLIENT) == {"closed": 2}
            assert points.by(STATUS, "mcp.session.duration", CLIENT) == {"closed": 2}
            assert points.by("reason", "mcp.session.dead_detected", CLIENT) == {}
            called = points.by(STATUS, "mcp.requests.total", CLIENT | {METHOD: "tools/call"})
            assert called == {"cancelled": 2}


def _ignore(*_: Any) -> None:
    """What is destroyed with its loop."""


@pytest.mark.filterwarnings("ignore")
def test_a_server_ends_with_its_loop(collect: Collect) -> None:
    kept: list[Any] = []

    async def question() -> None:
        server = low_level(example.build())
        streams = memory_streams()
        near, far = await streams.__aenter__()
        kept.append(streams)
        kept.append(asyncio.ensure_future(server.run(*far, server.create_initialization_options())))
        session = await ClientSession(*near).__aenter__()
        await session.initialize()
        kept.append(asyncio.ensure_future(session.call_tool("slow", {"seconds": 20})))
        await until(lambda: collect().sum("mcp.requests.active", {ROLE: "server"}) == 1)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_ignore)
    loop.run_until_complete(question())
    loop.close()
    points = collect()
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert points.by(ROLE, metric) == {}
    for metric in ("mcp.connection.duration", "mcp.session.duration"):
        assert points.by(STATUS, metric, {ROLE: "server"}) == {"shutdown": 1}
        assert points.by(STATUS, metric, CLIENT) == {"closed": 1}
    called = {METHOD: "tools/call", DIRECTION: "inbound"}
    assert points.by(STATUS, "mcp.requests.total", called) == {"connection_lost": 1}
