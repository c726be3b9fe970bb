"""What is particular to the 2026-07-28 revision: refusals before the handler, posted notifications, open listens."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import DIRECTION, ERROR, METHOD, ROLE, STATUS, TOOL, Points
from . import example, setups
from .example import raw
from .generation import V2, ClientSession, SDKError, Server, memory_streams, streamable_http_client, types
from .setups import SETUPS
from .wire import Wire

pytestmark = pytest.mark.skipif(not V2, reason="mcp 1.x does not speak 2026-07-28")

Collect = Callable[[], Points]
VERSION = "2026-07-28"
HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": VERSION,
}
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
FUTURE = META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}


def http() -> Any:
    return next(each for each in SETUPS if each.name == "http-2026")


def post(collect: Collect, body: Any, headers: dict[str, str]) -> tuple[int, Points]:
    """POST one body to the example server; the HTTP status and what the server recorded."""
    httpx: Any = import_module("httpx2")

    async def scenario() -> int:
        app = setups.http_app(example.build(), http())
        async with setups.serve(app) as base, httpx.AsyncClient() as client:
            content = {"content": body} if isinstance(body, bytes) else {"json": body}
            reply = await client.post(f"{base}/mcp", headers=HEADERS | headers, **content)
            return reply.status_code

    status = anyio.run(scenario)
    points = collect()
    assert points.sum("mcp.connections.active") == 0
    assert points.sum("mcp.requests.active") == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 1}
    return status, points


def call(name: str = "ok", **changes: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": {}, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params} | changes


ROUTED = {"mcp-method": "tools/call", "mcp-name": "ok"}


def test_a_good_request_is_one_request_on_one_stateless_connection(collect: Collect) -> None:
    status, points = post(collect, call(), ROUTED)
    assert status == 200
    assert points.by(TOOL, "mcp.requests.total") == {"ok": 1}
    assert points.by("mcp.session.mode", "mcp.connections.total") == {"stateless": 1}
    assert points.sum("mcp.server.operation.duration", {"mcp.protocol.version": VERSION, METHOD: "tools/call"}) == 1


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (call(params={"name": "ok", "arguments": {}}), ROUTED, "-32602"),
        (call(), {"mcp-method": "tools/list"}, "-32020"),
        (call(params={"name": "ok", "_meta": FUTURE}), ROUTED | {"mcp-protocol-version": "2099-01-01"}, "-32022"),
    ],
    ids=["no envelope", "another method in the header", "an unknown revision"],
)
def test_a_refused_envelope_is_a_client_error(
    body: dict[str, Any], headers: dict[str, str], code: str, collect: Collect
) -> None:
    status, points = post(collect, body, headers)
    assert status == 400
    [refused] = [point for point in points.select("mcp.requests.total") if point.value]
    assert refused.value == 1
    assert refused.attributes[STATUS] == "client_error"
    assert refused.attributes[ERROR] == code
    assert refused.attributes[METHOD] == "tools/call"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jsonrpc": "2.0", "id": 1}', b'{"jsonrpc": "2.0", "id": null}'])
def test_what_is_no_request_is_not_counted(body: bytes, collect: Collect) -> None:
    status, points = post(collect, body, {})
    assert status == 400
    assert points.sum("mcp.requests.total") == 0
    assert points.sum("mcp.notifications.total") == 0


def test_a_posted_notification_is_counted_though_the_sdk_drops_it(collect: Collect) -> None:
    status, points = post(collect, {"jsonrpc": "2.0", "method": "notifications/initialized"}, {})
    assert status == 202
    [seen] = points.select("mcp.notifications.total")
    assert (seen.attributes[METHOD], seen.attributes[DIRECTION], seen.value) == (
        "notifications/initialized",
        "inbound",
        1,
    )


def test_the_listing_the_sdk_asks_itself_for_is_not_a_request(collect: Collect) -> None:
    """A low-level server without a schema lookup is listed before a call that has arguments."""
    listings = 0

    async def list_tools(context: Any, params: Any) -> Any:
        nonlocal listings
        listings += 1
        return types.ListToolsResult(tools=[types.Tool(name="one", input_schema={"type": "object"})])

    async def call_tool(context: Any, params: Any) -> Any:
        return types.CallToolResult(content=[])

    server = Server("low", on_list_tools=list_tools, on_call_tool=call_tool)

    async def scenario() -> None:
        async with (
            setups.serve(server.streamable_http_app()) as base,
            setups.client_over(streamable_http_client(f"{base}/mcp"), modern=True) as session,
        ):
            await session.call_tool("one", {"value": 1})

    anyio.run(scenario)
    points = collect()
    asked = points.sum("mcp.requests.total", {ROLE: "client", METHOD: "tools/list"})
    assert listings == asked + 1
    assert points.sum("mcp.requests.total", {ROLE: "server", METHOD: "tools/list"}) == asked
    # Nobody else listed before the call, and yet its tool has a name: the SDK's own listing told.
    assert points.by(TOOL, "mcp.requests.total", {ROLE: "server", METHOD: "tools/call"}) == {"one": 1}


def test_an_open_listen_is_counted_and_not_timed(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(http()) as link:
            with anyio.move_on_after(0.5):
                await raw(link.session, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
            await anyio.sleep(0.2)

    anyio.run(scenario)
    points = collect()
    listen = {METHOD: "subscriptions/listen"}
    for role in ("server", "client"):
        assert points.by(STATUS, "mcp.requests.total", {ROLE: role, **listen}) == {"cancelled": 1}
    for metric in ("mcp.request.duration", "mcp.server.operation.duration", "mcp.client.operation.duration"):
        assert points.sum(metric, listen) == 0
    assert points.sum("mcp.requests.active") == 0


def test_a_request_of_the_other_era_on_a_stream_is_refused_and_counted(collect: Collect) -> None:
    """A stream pair speaks the era of its first request."""

    async def over(server: Any, modern: bool) -> None:
        low = server._lowlevel_server
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                if modern:
                    await session.discover()
                    with pytest.raises(SDKError):
                        await session._dispatcher.send_raw_request("initialize", {"protocolVersion": "2025-06-18"})
                else:
                    await session.initialize()
                    with pytest.raises(SDKError):
                        await session._dispatcher.send_raw_request("tools/list", {"_meta": META})

    anyio.run(over, example.build(), True)
    anyio.run(over, example.build(), False)
    points = collect()
    for role in ("server", "client"):
        refused = {ROLE: role, STATUS: "client_error"}
        assert points.by(METHOD, "mcp.requests.total", refused) == {"initialize": 1, "tools/list": 1}
        assert points.by(ERROR, "mcp.requests.total", refused) == {"-32022": 1, "-32600": 1}
    assert points.sum("mcp.sessions.created", {ROLE: "server"}) == 1


def test_a_client_session_of_2026_is_counted_with_its_revision(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(http()):
            pass

    anyio.run(scenario)
    [created] = [point for point in collect().select("mcp.sessions.created") if point.value]
    assert created.attributes == {
        ROLE: "client",
        "mcp.transport": "streamable_http",
        "mcp.server.name": example.NAME,
        "mcp.protocol.version": VERSION,
    }


def test_a_client_that_makes_no_discovery_learns_the_name_from_its_first_answer(collect: Collect) -> None:
    async def scenario() -> Wire:
        wire = Wire()
        async with (
            setups.serve(wire.tap(setups.http_app(example.build(), http()))) as base,
            import_module("mcp").Client(f"{base}/mcp", mode=VERSION) as client,
        ):
            await client.list_prompts()
            await client.call_tool("ok", {})
        return wire

    wire = anyio.run(scenario)
    points = collect()
    assert "server/discover" not in wire.asked
    named = {ROLE: "client", "mcp.server.name": example.NAME}
    assert points.by(METHOD, "mcp.requests.total", named) == wire.asked


def test_two_servers_in_process_are_told_apart_by_name(collect: Collect) -> None:
    client: Any = import_module("mcp").Client

    async def scenario() -> None:
        for name in ("first", "second"):
            server: Any = example.HighLevelServer(name)
            async with client(server) as session, client(server, mode="legacy") as legacy:
                await session.list_tools()
                await legacy.list_tools()

    anyio.run(scenario)
    points = collect()
    for role in ("server", "client"):
        where = {ROLE: role, METHOD: "tools/list"}
        assert points.by("mcp.server.name", "mcp.requests.total", where) == {"first": 2, "second": 2}
