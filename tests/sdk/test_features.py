"""What the SDK offers beside plain sessions: every request on the wire is one request, whoever repeats or relays it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, METHOD, ROLE, STATUS, TOOL, TRANSPORT, Points
from . import example, setups
from .generation import ClientSession, Context, Server, has, needs, streamable_http_client, types
from .http import HEADERS, httpx, low_level, manager
from .setups import SETUPS, Setup
from .wire import Wire

pytestmark = pytest.mark.every_release

Collect = Callable[[], Points]

NAME = "mcp.server.name"
HTTP = next(each for each in SETUPS if each.name == "http")


def modern_http() -> Setup:
    return next(each for each in SETUPS if each.name == "http-2026")


def requests(points: Points, role: str, direction: str, **more: Any) -> dict[str, float]:
    return points.by(METHOD, "mcp.requests.total", {ROLE: role, DIRECTION: direction, **more})


def assert_both_sides_counted(points: Points, wire: Wire) -> None:
    assert requests(points, "server", "inbound") == requests(points, "client", "outbound") == wire.asked
    assert requests(points, "server", "outbound") == requests(points, "client", "inbound") == wire.asked_back
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}


@needs("group")
def test_the_sessions_of_a_group_are_told_apart_by_the_server(collect: Collect) -> None:
    group_module: Any = import_module("mcp.client.session_group")
    wires = {"north": Wire(), "south": Wire()}

    def full_name(name: str, info: Any) -> str:
        return f"{info.name}.{name}"

    async def scenario() -> None:
        apps = {name: setups.http_app(example.build(name), HTTP) for name in wires}
        async with (
            setups.serve(wires["north"].tap(apps["north"])) as north,
            setups.serve(wires["south"].tap(apps["south"])) as south,
            group_module.ClientSessionGroup(component_name_hook=full_name) as group,
        ):
            for base in (north, south):
                await group.connect_to_server(group_module.StreamableHttpParameters(url=f"{base}/mcp"))
            for name, count in (("north", 1), ("south", 2)):
                for _ in range(count):
                    await group.call_tool(f"{name}.ok", {})

    anyio.run(scenario)
    points = collect()
    everything = wires["north"].asked + wires["south"].asked
    assert requests(points, "client", "outbound") == requests(points, "server", "inbound") == everything
    for name, count in (("north", 1), ("south", 2)):
        assert requests(points, "server", "inbound", **{NAME: name}) == wires[name].asked
        assert points.by(TOOL, "mcp.requests.total", {ROLE: "client", NAME: name, METHOD: "tools/call"}) == {
            "ok": count
        }
    assert points.sum("mcp.sessions.created", {ROLE: "client"}) == 2
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}


def test_a_stream_pair_of_the_applications_own_is_counted_under_another_name(collect: Collect) -> None:
    """Two pairs of plain memory streams, and a relay between them that counts."""
    wire = Wire()

    async def relay(source: Any, target: Any, to_server: bool) -> None:
        async with source, target:
            async for item in source:
                message = getattr(item.message, "root", item.message)
                wire.message(message.model_dump(exclude_unset=True), to_server=to_server)
                await target.send(item)

    async def scenario() -> None:
        low = low_level(example.build())
        pairs: list[Any] = [anyio.create_memory_object_stream(16) for _ in range(4)]
        (to_relay, from_client), (to_server, at_server), (from_server, at_relay), (to_client, at_client) = pairs
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay, from_client, to_server, True)
            tasks.start_soon(relay, at_relay, to_client, False)
            tasks.start_soon(low.run, at_server, from_server, low.create_initialization_options())
            async with ClientSession(at_client, to_relay, **example.CALLBACKS) as session:
                await session.initialize()
                await session.list_tools()
                assert (await session.call_tool("ask", {})).content[0].text == "asked"

    anyio.run(scenario)
    points = collect()
    assert_both_sides_counted(points, wire)
    assert points.by(TRANSPORT, "mcp.requests.total") == {"_OTHER": 2 * (3 + 4)}


class Events(import_module("mcp.server.streamable_http").EventStore):
    """Keeps every event."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any]] = []
        self.replayed: list[Any] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self.kept.append((stream_id, message))
        return f"{stream_id}/{len(self.kept)}"

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        stream, _, position = last_event_id.rpartition("/")
        event: Any = import_module("mcp.server.streamable_http").EventMessage
        for number, (each, message) in enumerate(self.kept, 1):
            if each == stream and number > int(position) and message is not None:
                self.replayed.append(message)
                await send_callback(event(message, f"{stream}/{number}"))
        return stream


@asynccontextmanager
async def resumable(wire: Wire, events: Events, server: Any) -> AsyncGenerator[str]:
    """A server with an event store behind a tap; yields its endpoint."""
    settings: dict[str, Any] = {"retry_interval": 10} if has("polling") else {}
    async with manager(server, event_store=events, tap=wire.tap, **settings) as (_, url):
        yield url


@needs("event_store")
def test_a_replay_is_no_request_and_measured_no_second_time(collect: Collect) -> None:
    """A client that has lost its stream asks for what it missed, as often as it likes."""
    wire, events = Wire(), Events()
    version = "2025-06-18"
    handshake = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}

    async def scenario() -> list[str]:
        answers: list[str] = []
        async with resumable(wire, events, example.build()) as url, httpx.AsyncClient() as client:

            async def post(message: dict[str, Any], headers: dict[str, str]) -> Any:
                return await client.post(url, json={"jsonrpc": "2.0", **message}, headers=headers)

            opened = await post({"id": 0, "method": "initialize", "params": handshake}, HEADERS)
            headers = {
                **HEADERS,
                "mcp-session-id": opened.headers["mcp-session-id"],
                "mcp-protocol-version": version,
            }
            await post({"method": "notifications/initialized"}, headers)
            call = {"id": 1, "method": "tools/call", "params": {"name": "tell", "arguments": {}, "_meta": TOKEN}}
            answers.append((await post(call, headers)).text)
            for _ in range(2):
                # The stream is named after the request it was for; from its beginning on.
                resume = {**headers, "last-event-id": "1/0"}
                async with client.stream("GET", url, headers=resume) as again:
                    answers.append(await until_the_answer(again))
            await client.delete(url, headers=headers)
        return answers

    answers = anyio.run(scenario)
    assert all('"told"' in answer for answer in answers)
    assert len(events.replayed) >= 2
    points = collect()
    assert requests(points, "server", "inbound") == {"initialize": 1, "tools/call": 1} == wire.asked
    called = {ROLE: "server", METHOD: "tools/call"}
    assert points.sum("mcp.response.size", called) == points.sum("mcp.request.size", called) == 1
    assert points.sum("mcp.notifications.total", {METHOD: "notifications/progress"}) == 2


TOKEN = {"progressToken": "t"}


async def until_the_answer(stream: Any) -> str:
    seen = ""
    with anyio.fail_after(10):
        async for chunk in stream.aiter_text():
            seen += chunk
            if '"id":1' in seen:
                return seen
    return seen


@needs("event_store", "polling")
def test_a_call_whose_stream_the_server_closes_is_one_request(collect: Collect) -> None:
    """The client comes back by itself and gets its answer from the event store."""
    wire, events = Wire(), Events()
    server = example.build()

    async def leave(ctx: Any) -> str:
        await ctx.request_context.close_sse_stream()
        await anyio.sleep(0.1)
        return "back"

    leave.__annotations__["ctx"] = Context
    server.add_tool(leave)

    async def scenario() -> None:
        async with (
            resumable(wire, events, server) as url,
            setups.client_over(streamable_http_client(url)) as session,
        ):
            assert (await session.call_tool("leave", {})).content[0].text == "back"

    anyio.run(scenario)
    points = collect()
    assert wire.asked["tools/call"] == 1
    assert_both_sides_counted(points, wire)
    assert points.sum("mcp.session.dead_detected") == 0


@needs("tasks")
def test_the_requests_about_a_task_are_requests(collect: Collect) -> None:
    server = Server("tasks")
    server.experimental.enable_tasks()

    async def work(task: Any) -> Any:
        await task.update_status("half done")
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def call_tool(name: str, arguments: Any) -> Any:
        return await server.request_context.experimental.run_task(work)

    async def list_tools() -> Any:
        execution = types.ToolExecution(taskSupport="required")
        return [types.Tool(name="slow", inputSchema={"type": "object"}, execution=execution)]

    server.call_tool()(call_tool)
    server.list_tools()(list_tools)

    async def scenario() -> Wire:
        async with setups.over_memory(server) as link:
            await link.session.list_tools()
            experimental = link.session.experimental
            created = await experimental.call_tool_as_task("slow", {})
            polled = [status.status async for status in experimental.poll_task(created.task.taskId)]
            assert polled[-1] == "completed"
            result = await experimental.get_task_result(created.task.taskId, types.CallToolResult)
            assert result.content[0].text == "done"
            assert len((await experimental.list_tasks()).tasks) == 1
        return link.wire

    wire = anyio.run(scenario)
    points = collect()
    assert set(wire.asked) == {"initialize", "tools/list", "tools/call", "tasks/get", "tasks/result", "tasks/list"}
    assert_both_sides_counted(points, wire)
    assert points.by(STATUS, "mcp.requests.total") == {"ok": 2 * sum(wire.asked.values())}


@needs("rounds")
@pytest.mark.parametrize("over", ["http", "in process"])
def test_each_round_for_more_input_is_a_request_that_went_well(over: str, collect: Collect) -> None:
    rounds: list[Any] = []

    async def call_tool(context: Any, params: Any) -> Any:
        rounds.append(params.input_responses)
        if len(rounds) < 3:
            return types.InputRequiredResult(request_state=f"round {len(rounds)}")
        return types.CallToolResult(content=[])

    async def list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool(name="asks", input_schema={"type": "object"})])

    server = Server("rounds", on_call_tool=call_tool, on_list_tools=list_tools)
    client: Any = import_module("mcp").Client

    async def scenario() -> Wire:
        wire = Wire()
        if over == "in process":
            async with client(server) as session:
                await session.list_tools()
                await session.call_tool("asks", {})
            return wire
        async with (
            setups.serve(wire.tap(server.streamable_http_app())) as base,
            client(f"{base}/mcp") as session,
        ):
            await session.list_tools()
            await session.call_tool("asks", {})
        return wire

    wire = anyio.run(scenario)
    assert len(rounds) == 3
    points = collect()
    called = {METHOD: "tools/call", TOOL: "asks", STATUS: "ok"}
    for role in ("server", "client"):
        assert points.sum("mcp.requests.total", {ROLE: role, **called}) == 3
    if over == "http":
        assert_both_sides_counted(points, wire)


@needs("subscriptions")
def test_what_a_subscriber_is_told_counts_beside_the_one_request_it_made(collect: Collect) -> None:
    server = example.build()

    async def change(ctx: Any) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    change.__annotations__["ctx"] = Context
    server.add_tool(change)
    client: Any = import_module("mcp").Client

    async def scenario() -> Wire:
        wire = Wire()
        async with (
            setups.serve(wire.tap(setups.http_app(server, modern_http()))) as base,
            client(f"{base}/mcp") as session,
            session.listen(tools_list_changed=True) as subscription,
        ):
            for _ in range(3):
                await session.call_tool("change", {})
                with anyio.fail_after(10):
                    await anext(aiter(subscription))
        return wire.settle()

    wire = anyio.run(scenario)
    points = collect()
    assert wire.asked["subscriptions/listen"] == 1
    assert wire.told_back["notifications/tools/list_changed"] == 3
    assert_both_sides_counted(points, wire)
    for role, direction in (("server", "outbound"), ("client", "inbound")):
        told = points.by(METHOD, "mcp.notifications.total", {ROLE: role, DIRECTION: direction})
        assert Counter(told) == wire.told_back


@needs("extensions")
def test_a_method_that_an_extension_serves_has_its_name(collect: Collect) -> None:
    module: Any = import_module("mcp.server.extension")

    async def count(context: Any, params: Any) -> Any:
        return types.EmptyResult()

    class Counting(module.Extension):
        identifier = "test.example/counting"

        def methods(self) -> Any:
            return [module.MethodBinding("counting/next", types.RequestParams, count)]

    async def scenario() -> Wire:
        wire = Wire()
        app = setups.http_app(example.build(extensions=[Counting()]), modern_http())
        async with (
            setups.serve(wire.tap(app)) as base,
            setups.client_over(streamable_http_client(f"{base}/mcp"), modern=True) as session,
        ):
            for _ in range(2):
                await example.raw(session, "counting/next", {})
        return wire

    wire = anyio.run(scenario)
    points = collect()
    assert wire.asked["counting/next"] == 2
    assert requests(points, "server", "inbound") == wire.asked
    assert requests(points, "client", "outbound")["_OTHER"] == 2


@needs("client")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_server_in_process_counts_what_its_handlers_saw(mode: str, collect: Collect) -> None:
    server = example.build("inside")
    seen: Counter[str] = Counter()

    async def watch(context: Any, call_next: Any) -> Any:
        if context.request_id is not None:
            seen[context.method] += 1
        return await call_next(context)

    low_level(server).middleware.append(watch)

    async def scenario() -> None:
        async with import_module("mcp").Client(server, mode=mode) as client:
            await client.list_tools()
            for _ in range(3):
                await client.call_tool("ok", {})
            await client.call_tool("fail", {})

    anyio.run(scenario)
    points = collect()
    assert seen["tools/call"] == 4
    for role, direction in (("server", "inbound"), ("client", "outbound")):
        assert requests(points, role, direction) == seen
        assert requests(points, role, direction, **{TRANSPORT: "in_memory", NAME: "inside"})["tools/call"] == 4
