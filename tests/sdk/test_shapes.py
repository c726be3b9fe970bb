"""A 2.x whose functions are not as we know them is measured as well: around them instead of in their place."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.sdk import sizes
from opentelemetry_instrumentation_mcp.sdk.interceptors import chain
from opentelemetry_instrumentation_mcp.sdk.v2 import dispatcher, untraced

from ..points import Points
from .generation import V2, types
from .setups import SETUPS, Setup
from .test_exactness import assert_counts_are_the_wires, assert_sizes_are_the_wires, drive

PORT = "server.port"
"""Another one each time."""

pytestmark = pytest.mark.skipif(not V2, reason="on 1.x nothing of the SDK is done in its place")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no function of the SDK look familiar to the patches that are made from now on."""

    def names_in(function: object) -> frozenset[str]:
        return frozenset()

    for module in (sizes, chain, dispatcher, untraced):
        monkeypatch.setattr(module, "names_in", names_in)


@pytest.fixture
def unfamiliar(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


@pytest.mark.usefixtures("unfamiliar")
@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_every_request_and_every_byte_is_counted(setup: Setup, request: pytest.FixtureRequest) -> None:
    # Instrumented only now that nothing is familiar.
    collect: Callable[[], Points] = request.getfixturevalue("collect")
    wire = anyio.run(drive, setup)
    points = collect()
    assert_counts_are_the_wires(points, points, wire, setup)
    assert_sizes_are_the_wires(points, points, wire)


def test_every_series_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interceptors, tasks, liveness and all the rest: the same attribute sets, moved as often."""
    setup = next(each for each in SETUPS if each.name == "http")

    def seen() -> dict[tuple[str, Any], float]:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        MCPInstrumentor().instrument(meter_provider=provider)
        try:
            anyio.run(drive, setup)
            points = Points.of(reader).all
        finally:
            MCPInstrumentor().uninstrument()
            provider.shutdown()
        seen: dict[tuple[str, Any], float] = {}
        for point in points:
            # Resident bytes, and which of several connections a pool gives, are not for us to decide.
            if point.metric != "mcp.memory.usage" and not point.metric.startswith("mcp.pool."):
                attributes = sorted(pair for pair in point.attributes.items() if pair[0] != PORT)
                seen[point.metric, tuple(attributes)] = point.value
        return seen

    familiar = seen()
    forget(monkeypatch)
    assert seen() == familiar


def _dispatcher() -> Any:
    return import_module("mcp.shared.jsonrpc_dispatcher").JSONRPCDispatcher


async def answer_one(dispatcher: Any, feed: Any) -> None:
    """Let a dispatcher answer a ping that comes on its read stream, and end."""

    async def on_request(*_: Any) -> dict[str, Any]:
        return {}

    async def on_notify(*_: Any) -> None:
        return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(dispatcher.run, on_request, on_notify)
        message = types.JSONRPCRequest(jsonrpc="2.0", id=1, method="ping", params={})
        await feed.send(import_module("mcp.shared.message").SessionMessage(message))
        await anyio.wait_all_tasks_blocked()
        feed.close()


def test_methods_of_a_class_of_the_applications_own_are_called(collect: Callable[[], Points]) -> None:
    called: list[str] = []

    class Own(_dispatcher()):
        async def _dispatch(self, *args: Any) -> None:
            called.append("_dispatch")
            own: Any = super()
            await own._dispatch(*args)

        async def _write_result(self, *args: Any) -> None:
            called.append("_write_result")
            own: Any = super()
            await own._write_result(*args)

        async def _write(self, *args: Any) -> None:
            called.append("_write")
            own: Any = super()
            await own._write(*args)

    async def scenario() -> None:
        feed, read = anyio.create_memory_object_stream[Any](1)
        write, out = anyio.create_memory_object_stream[Any](1)
        with out:
            await answer_one(Own(read, write), feed)

    anyio.run(scenario)
    assert called == ["_dispatch", "_write_result", "_write"]
    assert collect().sum("mcp.requests.total", {"mcp.method.name": "ping"}) == 1


def test_a_result_that_cannot_be_written_is_sent_once_and_dropped(collect: Callable[[], Points]) -> None:
    class Lost(anyio.BrokenResourceError):
        """A stream of the application's own may say more than anyio does."""

    sent: list[Any] = []

    class Write:
        async def send(self, item: Any) -> None:
            sent.append(item)
            raise Lost

        async def __aenter__(self) -> Write:
            return self

        async def __aexit__(self, *exc_info: Any) -> None:
            return

    async def scenario() -> None:
        feed, read = anyio.create_memory_object_stream[Any](1)
        await answer_one(_dispatcher()(read, Write(), raise_handler_exceptions=True), feed)

    anyio.run(scenario)
    assert [type(item.message).__name__ for item in sent] == ["JSONRPCResponse"]
    points = collect()
    assert points.sum("mcp.requests.total", {"mcp.method.name": "ping"}) == 1
    assert points.sum("mcp.requests.active") == 0
    assert points.sum("mcp.session.dead_detected") == 1
