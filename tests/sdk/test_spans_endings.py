"""Spans of requests that get no answer say so: a timer, a caller who gives up, a peer that is gone, an HTTP error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import pytest

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..spans import CLIENT, SERVER, FoundSpan, Spans, instrumented
from . import setups
from .generation import V2, VERSION, ClientSession, SDKError, memory_streams, streamable_http_client, types
from .http import failing_app
from .setups import SETUPS, Setup

# Before 1.27 a handler that outlives its session in memory breaks the server.
BOTH = [each for each in SETUPS if each.name in ("http", "http-2026") or (each.name == "memory" and VERSION >= (1, 27))]
MEMORY = next(each for each in SETUPS if each.name == "memory")
SECONDS = 0.2


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans):
        yield spans


def ending(span: FoundSpan) -> tuple[object, str]:
    return span.error, span.status


@pytest.mark.parametrize("setup", BOTH, ids=str)
def test_a_timeout(setup: Setup, spans: Spans) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.list_tools()
            with pytest.raises(SDKError):
                await link.session.call_tool(
                    "slow", {"seconds": 30}, read_timeout_seconds=SECONDS if V2 else timedelta(seconds=SECONDS)
                )

    anyio.run(scenario)
    assert ending(spans.one(CLIENT, "tools/call")) == ("TimeoutError", "ERROR")
    # 2.x tells the server, and 1.x does not: its handler is cut off when the session ends.
    assert ending(spans.one(SERVER, "tools/call")) == ("CancelledError" if V2 else "ConnectionError", "ERROR")


@pytest.mark.parametrize("setup", BOTH, ids=str)
def test_a_caller_who_gives_up(setup: Setup, spans: Spans) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.list_tools()
            with anyio.move_on_after(SECONDS):
                await link.session.call_tool("slow", {"seconds": 30})

    anyio.run(scenario)
    assert ending(spans.one(CLIENT, "tools/call")) == ("CancelledError", "ERROR")
    assert ending(spans.one(SERVER, "tools/call")) == ("CancelledError" if V2 else "ConnectionError", "ERROR")


@pytest.mark.skipif(V2, reason="2.x's client does it by itself")
def test_a_request_that_the_peer_takes_back(spans: Spans) -> None:
    async def scenario() -> None:
        async with setups.connect(MEMORY) as link, anyio.create_task_group() as tasks:
            await link.session.list_tools()

            async def call() -> None:
                with suppress(SDKError):
                    await link.session.call_tool("slow", {"seconds": 30})

            tasks.start_soon(call)
            await anyio.sleep(SECONDS)
            request_id = link.session._request_id - 1
            params = types.CancelledNotificationParams(requestId=request_id)
            cancelled = types.CancelledNotification(method="notifications/cancelled", params=params)
            await link.session.send_notification(types.ClientNotification(cancelled))

    anyio.run(scenario)
    # 1.x answers, by an error of code 0.
    assert ending(spans.one(SERVER, "tools/call")) == ("0", "ERROR")
    assert ending(spans.one(CLIENT, "tools/call")) == ("0", "ERROR")
    assert spans.one(CLIENT, "tools/call").description == "Request cancelled"


def test_a_peer_that_is_gone(spans: Spans) -> None:
    async def scenario() -> None:
        async with memory_streams() as (near, far), ClientSession(near[0], near[1]) as session:

            async def vanish() -> None:
                await far[0].receive()
                await far[1].aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(vanish)
                with pytest.raises(SDKError):
                    await session.initialize()

    anyio.run(scenario)
    assert ending(spans.one(CLIENT, "initialize")) == ("ConnectionError", "ERROR")


def test_a_server_that_answers_with_an_http_error(spans: Spans) -> None:
    async def scenario() -> None:
        async with setups.serve(failing_app(503)) as base:
            # 1.x gives up the whole transport, by a group of exceptions.
            with suppress(Exception):
                async with setups.client_over(streamable_http_client(f"{base}/mcp")) as session:
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    span = spans.one(CLIENT, "tools/call")
    assert span.status == "ERROR"
    # On 2.x the transport makes an error reply of it, which is what the SDK's span says.
    assert span.error == ("-32603" if V2 else "503")


def test_a_tool_error_is_one_on_both_sides(spans: Spans) -> None:
    async def scenario() -> Any:
        async with setups.connect(MEMORY) as link:
            return await link.session.call_tool("fail", {})

    anyio.run(scenario)
    for kind in (SERVER, CLIENT):
        assert ending(spans.one(kind, "tools/call")) == ("tool_error", "ERROR")


def test_what_is_open_at_uninstrument_still_ends(spans: Spans) -> None:
    async def scenario() -> None:
        async with setups.connect(MEMORY) as link, anyio.create_task_group() as tasks:
            await link.session.list_tools()
            tasks.start_soon(link.session.call_tool, "slow", {"seconds": SECONDS})
            await anyio.sleep(SECONDS / 2)
            MCPInstrumentor().uninstrument()

    anyio.run(scenario)
    for kind in (SERVER, CLIENT):
        assert ending(spans.one(kind, "tools/call")) == (None, "UNSET")
