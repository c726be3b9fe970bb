"""``mcp.request.size`` and ``mcp.response.size``: the same message has the same size however it travels."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.sdk.lifecycle import Lifecycle
from opentelemetry_instrumentation_mcp.sdk.sizes import MOST_WAITING, Sizes

from ..points import DIRECTION, METHOD, ROLE, TOOL, Point, Points
from . import example, setups
from .generation import V2, ClientSession, types
from .http import low_level
from .setups import SETUPS, Setup
from .test_exactness import assert_sizes_are_the_wires, drive

Collect = Callable[[], Points]
ON_A_WIRE = [each for each in SETUPS if each.transport != "in_memory"]


def one(points: Points, metric: str, role: str) -> Point:
    direction = "inbound" if role == "server" else "outbound"
    where = {ROLE: role, DIRECTION: direction, METHOD: "tools/call", TOOL: "large"}
    [point] = points.select(metric, where)
    assert point.value == 1
    return point


def measure(setup: Setup, text: str, collect: Collect, directory: Path) -> dict[str, float]:
    """The bytes of one call with a 100,000-character result, as both sides measured them."""

    async def call(session: Any) -> None:
        await session.list_tools()
        await session.call_tool("large", {"size": 100_000, "text": text})

    async def scenario() -> setups.Child | None:
        if setup.transport == "stdio":
            async with setups.stdio(directory, modern=setup.modern) as child:
                await call(child.session)
            return child
        async with setups.connect(setup) as link:
            await call(link.session)
        return None

    child = anyio.run(scenario)
    client = collect()
    server = child.points() if child else client
    sizes: dict[str, float] = {}
    for metric in ("mcp.request.size", "mcp.response.size"):
        sizes[metric] = one(client, metric, "client").total
        assert one(server, metric, "server").total == sizes[metric]
    return sizes


@pytest.mark.parametrize("setup", ON_A_WIRE, ids=str)
def test_a_large_result_is_measured_on_both_sides(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    sizes = measure(setup, "x", collect, tmp_path)
    # Text and structured content: the result carries it twice.
    assert 200_000 < sizes["mcp.response.size"] < 200_500
    assert 80 < sizes["mcp.request.size"] < 600


@pytest.mark.parametrize("setup", ON_A_WIRE, ids=str)
def test_sizes_are_bytes_not_characters(setup: Setup, collect: Collect, tmp_path: Path) -> None:
    sizes = measure(setup, "é", collect, tmp_path)
    # Two bytes each in UTF-8. The 2026-07-28 entry over HTTP writes six ASCII ones instead, and that is its wire.
    escaped = setup.modern and setup.transport == "streamable_http"
    each = 6 if escaped else 2
    assert 2 * each * 100_000 < sizes["mcp.response.size"] < 2 * each * 100_000 + 500


def test_the_same_message_has_the_same_size_over_json_and_over_sse(collect: Collect) -> None:
    pairs = [("http", "http-json")] + ([("http-2026", "http-json-2026")] if V2 else [])
    before = {"mcp.request.size": 0.0, "mcp.response.size": 0.0}
    for pair in pairs:
        totals: list[dict[str, float]] = []
        for name in pair:
            setup = next(each for each in SETUPS if each.name == name)

            async def scenario(setup: Setup = setup) -> None:
                async with setups.connect(setup) as link:
                    await link.session.list_tools()
                    await link.session.call_tool("large", {"size": 1_000})

            anyio.run(scenario)
            points = collect()
            now = {
                metric: sum(point.total for point in points.select(metric, {ROLE: "server", TOOL: "large"}))
                for metric in before
            }
            totals.append({metric: now[metric] - before[metric] for metric in now})
            before = now
        assert totals[0] == totals[1]


def test_in_memory_there_are_no_bytes(collect: Collect) -> None:
    async def scenario() -> None:
        for setup in SETUPS:
            if setup.transport == "in_memory":
                async with setups.connect(setup) as link:
                    await link.session.call_tool("large", {"size": 10})

    anyio.run(scenario)
    points = collect()
    assert points.select("mcp.request.size") == []
    assert points.select("mcp.response.size") == []


@pytest.mark.skipif(not V2, reason="1.x has no exchanges")
@pytest.mark.parametrize("setup", [each for each in SETUPS if each.name in ("http-2026", "http-json-2026")], ids=str)
def test_a_reply_that_the_sdk_makes_of_an_http_error_has_the_size_of_the_answer(
    setup: Setup, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not been parsed. Where a message was that was dropped, it finds the bytes of that."""
    take = Sizes.take

    def finding(self: Sizes, message: Any, metadata: Any) -> int:
        size = take(self, message, metadata)
        return size if size >= 0 else 4_000_000

    monkeypatch.setattr(Sizes, "take", finding)

    wire = anyio.run(drive, setup)
    points = collect()
    assert_sizes_are_the_wires(points, points, wire)


def sizes() -> Sizes:
    """What is known in this process about messages under way."""
    installation = MCPInstrumentor()._installation  # pyright: ignore[reportPrivateUsage]
    assert installation is not None
    return installation.sizes


def parse(text: str) -> Any:
    """Parse a message as the SDK's transports do."""
    if V2:
        return import_module("mcp_types.jsonrpc").jsonrpc_message_adapter.validate_json(text, by_name=False)
    return types.JSONRPCMessage.model_validate_json(text)


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_no_message_leaves_anything_behind(setup: Setup, collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.list_tools()
            for tool in ("ok", "fail", "tell", *(["ask"] if setup.asks_back else [])):
                await link.session.call_tool(tool, {})

    anyio.run(scenario)
    assert (sizes().incoming, sizes().outgoing) == ({}, {})
    assert collect().sum("mcp.requests.total") > 0


def test_what_the_application_parses_is_nobodys_size(collect: Collect) -> None:
    """What is parsed and dropped leaves its place to other messages, and those of memory have no bytes."""

    async def scenario() -> None:
        for setup in SETUPS:
            if setup.transport == "in_memory":
                async with setups.connect(setup) as link:
                    for number in range(100):
                        for _ in range(10):
                            parse(f'{{"jsonrpc":"2.0","id":{number},"method":"ping"}}')
                        await link.session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert points.select("mcp.request.size") == []
    assert points.select("mcp.response.size") == []


def test_a_transport_of_the_applications_own_leaves_nothing_behind(collect: Collect) -> None:
    """It parses with the models of the SDK; what it makes of bytes is not known, and not kept."""
    message = import_module("mcp.shared.message").SessionMessage

    async def pump(source: Any, target: Any) -> None:
        async with source, target:
            async for item in source:
                text = item.message.model_dump_json(by_alias=True, exclude_none=True)
                await target.send(message(parse(text)))

    async def scenario() -> None:
        low = low_level(example.build())
        pipes = [anyio.create_memory_object_stream[Any](0) for _ in range(4)]
        (to_pump, from_client), (to_server, from_pump), (to_back, from_server), (to_client, from_back) = pipes
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump, from_client, to_server)
            tasks.start_soon(pump, from_server, to_client)
            tasks.start_soon(low.run, from_pump, to_back, low.create_initialization_options())
            async with ClientSession(from_back, to_pump) as session:
                await session.initialize()
                await session.call_tool("ok", {})
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    assert (sizes().incoming, sizes().outgoing) == ({}, {})
    assert collect().select("mcp.request.size") == []


def test_nothing_is_kept_after_uninstrument(collect: Collect) -> None:
    kept = sizes()
    if V2:
        by_value = import_module("mcp_types.jsonrpc").jsonrpc_message_adapter.validate_json
    else:
        by_value = types.JSONRPCMessage.model_validate_json
    MCPInstrumentor().uninstrument()
    by_value('{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert kept.incoming == {}


def test_of_too_many_a_few_are_given_up_at_a_time() -> None:
    """On an event loop: ten thousand in one go would hold up everything."""
    many = Sizes(Lifecycle())
    many.incoming.update({number: 1 for number in range(MOST_WAITING + 1)})
    many.give_up()
    assert 0.9 * MOST_WAITING < len(many.incoming) <= MOST_WAITING
    assert 0 not in many.incoming
    assert MOST_WAITING in many.incoming
