"""Clients that leave their transport before their session, or never leave the session: nobody has died.

The transport lives in a task of its own, as applications have it that keep several connections (mcp-use, for one); the
session is somebody else's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any

import anyio
import psutil
import pytest

from ..points import ROLE, STATUS, Points
from . import example, setups
from .generation import V2, ClientSession, SDKError, StdioServerParameters, memory_streams, stdio_client
from .http import low_level, until
from .setups import SETUPS, Setup

Collect = Callable[[], Points]
CLIENT = {ROLE: "client"}
STDIO = next(each for each in SETUPS if each.name == "stdio")
# A client over any transport, of the handshake: there is no other difference between the revisions here.
HANDSHAKE = [each for each in SETUPS if not each.modern and not each.settings and each.transport != "in_memory"]

SERVER = """
import anyio
from tests.sdk import example
anyio.run(example.build().run_stdio_async)
"""


def over_pipes() -> Any:
    """A transport to the example server in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(setups.HERE.parent.parent)}
    return stdio_client(StdioServerParameters(command=sys.executable, args=["-c", SERVER], env=environment))


@asynccontextmanager
async def transport_of(setup: Setup) -> AsyncGenerator[Any]:
    """A client's transport to the example server, not entered yet; the server outlives it."""
    if setup.transport == "stdio":
        yield over_pipes()
        return
    async with setups.serve(setups.http_app(example.build(), setup)) as base:
        yield setups.transport_to(base, setup)[1]


class Held:
    """A transport that is entered and left by a task of its own."""

    def __init__(self) -> None:
        self.streams: Any = None
        self.leave = anyio.Event()
        self.left = anyio.Event()
        self.scope = anyio.CancelScope()

    async def hold(self, transport: Any, *, task_status: Any) -> None:
        # What a server that dies makes of its transport is not the test's concern.
        with suppress(Exception), self.scope:
            async with transport as streams:
                self.streams = streams[:2]
                task_status.started()
                await self.leave.wait()
        self.left.set()


@asynccontextmanager
async def held(transport: Any) -> AsyncGenerator[tuple[Held, Any]]:
    """A transport that is held, and an initialised session on it that nobody leaves but the test."""
    async with anyio.create_task_group() as tasks:
        holder = Held()
        await tasks.start(holder.hold, transport)
        session = ClientSession(*holder.streams)
        async with _unless_left(session):
            await session.initialize()
            await session.call_tool("ok", {})
            yield holder, session
        holder.leave.set()


@asynccontextmanager
async def _unless_left(session: Any) -> AsyncGenerator[None]:
    await session.__aenter__()
    try:
        yield
    finally:
        await session.__aexit__(None, None, None)


def assert_nobody_died(points: Points) -> None:
    assert points.by(STATUS, "mcp.connection.duration", CLIENT) == {"closed": 1}
    assert points.by(STATUS, "mcp.session.duration", CLIENT) == {"closed": 1}
    assert points.by("reason", "mcp.session.dead_detected", CLIENT) == {}
    assert points.sum("mcp.connections.active", CLIENT) == 0
    assert points.sum("mcp.sessions.active", CLIENT) == 0


def is_over(collect: Collect) -> bool:
    return collect().sum("mcp.connections.active", CLIENT) == 0


@pytest.mark.every_release
@pytest.mark.parametrize("setup", HANDSHAKE, ids=str)
@pytest.mark.parametrize("how", ["leaves", "is cancelled"])
def test_a_client_that_leaves_its_transport_first_has_closed(setup: Setup, how: str, collect: Collect) -> None:
    async def scenario() -> None:
        async with transport_of(setup) as transport, held(transport) as (holder, _):
            if how == "leaves":
                holder.leave.set()
            else:
                holder.scope.cancel()
            await holder.left.wait()
            await until(lambda: is_over(collect))
            # Before the session is left: it might never be.
            assert_nobody_died(collect())

    anyio.run(scenario)
    assert_nobody_died(collect())


@pytest.mark.parametrize("setup", HANDSHAKE, ids=str)
def test_what_fails_because_the_transport_was_left_is_no_death(setup: Setup, collect: Collect) -> None:
    """A ping in flight meanwhile, a ping and a notification afterwards."""

    async def scenario() -> None:
        async with transport_of(setup) as transport, held(transport) as (holder, session):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_lose, partial(session.call_tool, "slow", {"seconds": 20}))
                await until(lambda: collect().sum("mcp.requests.active", CLIENT) == 1)
                holder.leave.set()
                # In the step in which the transport begins to be left.
                tasks.start_soon(_lose, session.send_ping)
            await holder.left.wait()
            await _lose(session.send_ping)
            await _lose(session.send_roots_list_changed)

    anyio.run(scenario)
    points = collect()
    assert_nobody_died(points)
    assert points.sum("mcp.requests.active", CLIENT) == 0
    lost = points.by(STATUS, "mcp.requests.total", CLIENT | {"mcp.method.name": "tools/call"})
    assert lost == {"ok": 1, "connection_lost": 1}


async def _lose(call: Callable[[], Any]) -> None:
    # What the SDK raises for a connection that is not there any more differs by transport and release.
    with anyio.move_on_after(5), suppress(SDKError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        await call()


def test_a_session_without_a_transport_of_the_sdk_in_process_has_closed(collect: Collect) -> None:
    async def scenario() -> None:
        server = low_level(example.build())
        async with anyio.create_task_group() as tasks:
            async with memory_streams() as (near, far):
                tasks.start_soon(server.run, *far, server.create_initialization_options())
                session = ClientSession(*near)
                initialized = anyio.Event()
                tasks.start_soon(_use, session, initialized)
                await initialized.wait()
            await until(lambda: collect().sum("mcp.connections.active") == 0)
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    points = collect()
    assert_nobody_died(points)
    assert points.by(STATUS, "mcp.connection.duration", {ROLE: "server"}) == {"closed": 1}


async def _use(session: Any, initialized: anyio.Event) -> None:
    async with session:
        await session.initialize()
        initialized.set()
        await anyio.sleep_forever()


@pytest.mark.skipif(not V2, reason="mcp 1.x has no dispatchers")
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_dispatcher_that_is_closed_in_process_has_closed(role: str, collect: Collect) -> None:
    async def ignore(*_: Any) -> Any:
        return None

    async def scenario() -> None:
        near, far = import_module("mcp.shared.direct_dispatcher").create_direct_dispatcher_pair()
        async with anyio.create_task_group() as tasks:
            await tasks.start(far.run, ignore, ignore)
            async with ClientSession(dispatcher=near):
                (near if role == "client" else far).close()
                await until(lambda: collect().sum("mcp.connections.active", {ROLE: role}) == 0)
            far.close()

    anyio.run(scenario)
    points = collect()
    for each in ("client", "server"):
        assert points.by(STATUS, "mcp.connection.duration", {ROLE: each}) == {"closed": 1}
    assert points.by("reason", "mcp.session.dead_detected") == {}


def test_the_sessions_of_a_group_have_closed(collect: Collect) -> None:
    group_of = import_module("mcp.client.session_group").ClientSessionGroup

    async def scenario() -> None:
        environment = {**os.environ, "PYTHONPATH": str(setups.HERE.parent.parent)}
        parameters = StdioServerParameters(command=sys.executable, args=["-c", SERVER], env=environment)
        async with group_of() as group:
            session = await group.connect_to_server(parameters)
            await session.call_tool("ok", {})

    anyio.run(scenario)
    assert_nobody_died(collect())


def kill_children() -> None:
    for process in psutil.Process().children(recursive=True):
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.every_release
@pytest.mark.parametrize("when", ["idle", "in a call", "in a ping"])
def test_a_server_that_dies_first_has_died(when: str, collect: Collect) -> None:
    """Whoever is told so leaves the transport at once, before the connection itself is over."""

    async def scenario() -> None:
        async with held(over_pipes()) as (holder, session):
            if when == "idle":
                kill_children()
            else:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_call_and_leave, session, holder, when)
                    await until(lambda: collect().sum("mcp.requests.active", CLIENT) == 1)
                    kill_children()
                await holder.left.wait()
            await until(lambda: is_over(collect))

    anyio.run(scenario)
    points = collect()
    assert points.by(STATUS, "mcp.connection.duration", CLIENT) == {"peer_lost": 1}
    assert points.by(STATUS, "mcp.session.duration", CLIENT) == {"peer_lost": 1}
    reason = "ping_failed" if when == "in a ping" else "peer_closed"
    assert points.by("reason", "mcp.session.dead_detected", CLIENT) == {reason: 1}


async def _call_and_leave(session: Any, holder: Held, when: str) -> None:
    if when == "in a ping":
        for process in psutil.Process().children(recursive=True):
            os.kill(process.pid, signal.SIGSTOP)
        call = session.send_ping
    else:
        call = partial(session.call_tool, "slow", {"seconds": 20})
    with suppress(SDKError):
        await call()
    holder.leave.set()


def _ignore(*_: Any) -> None:
    """Cancel scopes that are left in another task than they were entered in."""


@pytest.mark.parametrize("how", ["dropped", "closed by its loop"])
def test_a_transport_that_is_given_up_was_closed_here(how: str, collect: Collect) -> None:
    """Its generator is then closed past whoever has entered it. Applications of ``asyncio`` end so, too."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_ignore)
    transports = [over_pipes()]
    sessions: list[Any] = []

    async def question() -> None:
        sessions.append(ClientSession(*(await transports[0].__aenter__())[:2]))
        await sessions[0].__aenter__()
        await sessions[0].initialize()

    loop.run_until_complete(question())
    if how == "dropped":
        transports.clear()
        gc.collect()
    else:
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(until(lambda: is_over(collect)))
    points = collect()
    loop.close()
    assert_nobody_died(points)
