"""Peers, servers and applications that do what the specification does not expect: counts stay exact, nothing breaks."""

from __future__ import annotations

import functools
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import DIRECTION, ERROR, METHOD, ROLE, STATUS, TOOL, Points
from . import example, setups
from .generation import (
    V2,
    ClientSession,
    Context,
    HighLevelServer,
    SDKError,
    Server,
    memory_streams,
    sse_client,
    streamable_http_client,
    types,
)
from .http import HEADERS, INITIALIZE, httpx, low_level, until
from .setups import SETUPS

Collect = Callable[[], Points]
HTTP = next(each for each in SETUPS if each.name == "http")
SSE = next(each for each in SETUPS if each.name == "sse")
MEMORY = next(each for each in SETUPS if each.name == "memory")


def ends(points: Points, role: str, method: str) -> dict[tuple[str, str | None], float]:
    """How many requests of a method ended, by status and error.type."""
    found: dict[tuple[str, str | None], float] = {}
    for point in points.select("mcp.requests.total", {ROLE: role, METHOD: method}):
        if point.value:
            found[(point.attributes[STATUS], point.attributes.get(ERROR))] = point.value
    return found


def assert_nothing_is_active(points: Points) -> None:
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert [point for point in points.select(metric) if point.value] == []


@pytest.mark.parametrize("identity", [None, 1.5, True, [1], {}], ids=repr)
def test_a_message_with_an_id_that_is_none_is_whatever_the_sdk_takes_it_for(identity: Any, collect: Collect) -> None:
    """1.x takes it for a notification, which nobody answers; 2.x refuses it. Neither leaves anything in flight."""

    async def scenario() -> None:
        async with setups.connect(HTTP) as link, httpx.AsyncClient() as http:
            opened = await http.post(link.url, json=INITIALIZE, headers=HEADERS)
            session = HEADERS | {"mcp-session-id": opened.headers["mcp-session-id"]}
            odd = {"jsonrpc": "2.0", "method": "ping", "id": identity}
            for _ in range(3):
                await http.post(link.url, json=odd, headers=session)
            assert collect().sum("mcp.requests.active") == 0
            await http.delete(link.url, headers=session)

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert ends(points, "server", "ping") == {}
    assert points.by(STATUS, "mcp.connection.duration", {ROLE: "server"}) == {"closed": 2}


@pytest.mark.skipif(V2, reason="mcp 2.x refuses fields that do not belong to a message")
@pytest.mark.parametrize("odd", [{"id": " {}"}, {"method": 5}], ids=["an id with a blank", "a reply with a method"])
def test_a_reply_the_sdk_accepts_is_a_reply(odd: dict[str, Any], collect: Collect) -> None:
    session_message: Any = import_module("mcp.shared.message").SessionMessage

    async def peer(read: Any, write: Any) -> None:
        async for item in read:
            request = item.message.root
            if not hasattr(request, "id"):
                continue
            result: dict[str, Any] = {}
            if request.method == "initialize":
                info = {"name": "odd", "version": "0"}
                result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}
                reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request.id, "result": result}
            else:
                reply = {"jsonrpc": "2.0", "id": request.id, "result": result} | odd
                if isinstance(reply["id"], str):
                    reply["id"] = reply["id"].format(request.id)
            await write.send(session_message(types.JSONRPCMessage.model_validate_json(json.dumps(reply))))

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(peer, far[0], far[1])
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                await session.send_ping()
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    assert ends(collect(), "client", "ping") == {("ok", None): 1}


class OnlyIterable:
    """A read stream of the application's own: it can be iterated and closed, and nothing else."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> OnlyIterable:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._inner.aclose()

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for item in self._inner:
            yield item


def test_a_stream_that_is_only_iterable_works_as_before(collect: Collect) -> None:
    async def scenario() -> None:
        server = low_level(example.build())
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(OnlyIterable(near[0]), near[1]) as session:
                await session.initialize()
                await session.call_tool("ok", {})

    anyio.run(scenario)
    assert collect().sum("mcp.requests.total", {ROLE: "client", TOOL: "ok", STATUS: "ok"}) == 1


def test_a_foreign_wrapper_around_connect_sse_is_called_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    transport: Any = import_module("mcp.server.sse").SseServerTransport
    original = transport.connect_sse
    called: list[str] = []

    @functools.wraps(original)
    def foreign(*args: Any, **kwargs: Any) -> Any:
        called.append("foreign")
        return original(*args, **kwargs)

    monkeypatch.setattr(transport, "connect_sse", foreign)
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider([reader]))

    async def scenario() -> None:
        async with (
            setups.serve(setups.http_app(example.build(), SSE)) as base,
            setups.client_over(sse_client(f"{base}/sse")) as session,
        ):
            await session.call_tool("ok", {})

    try:
        anyio.run(scenario)
    finally:
        instrumentor.uninstrument()
    assert called == ["foreign"]
    assert transport.connect_sse is foreign
    assert Points.of(reader).sum("mcp.requests.total", {ROLE: "server", TOOL: "ok"}) == 1


def test_messages_the_application_parses_for_itself_are_not_kept(collect: Collect) -> None:
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"text": "x" * 1000}})
    # Tests before this one may have left some.
    before = _messages()
    for _ in range(300):
        if V2:
            types.jsonrpc_message_adapter.validate_json(text)
        else:
            types.JSONRPCMessage.model_validate_json(text)
    assert len(_messages()) <= len(before)


def _messages() -> list[Any]:
    gc.collect()
    kinds = ("JSONRPCMessage", "JSONRPCRequest")
    return [each for each in gc.get_objects() if type(each).__name__ in kinds]


@pytest.mark.parametrize("registered", [None, [1, 2]], ids=repr)
def test_a_server_with_a_table_of_another_shape_is_counted(registered: Any, collect: Collect) -> None:
    """A server object of the application's own may have attributes that are named like the SDK's."""

    class Manager:
        _tools = registered
        _prompts = registered

    class Own:
        _tool_manager = Manager()
        _prompt_manager = Manager()

        async def list_v2(self, context: Any, params: Any) -> Any:
            return types.ListToolsResult(tools=[])

        async def list_v1(self) -> Any:
            return []

        async def get_prompt(self, name: str, arguments: Any) -> Any:
            raise ValueError(name)

    own = Own()
    if V2:
        server = Server("own", on_list_tools=own.list_v2)
    else:
        server = Server("own")
        server.list_tools()(own.list_v1)
        server.get_prompt()(own.get_prompt)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                await session.list_tools()

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert points.sum("mcp.requests.total", {ROLE: "server"}) == 2


@pytest.mark.skipif(not V2, reason="mcp 1.x has no schema lookup")
def test_a_schema_lookup_that_raises_costs_no_request(collect: Collect) -> None:
    async def call_tool(context: Any, params: Any) -> Any:
        return types.CallToolResult(content=[])

    schemas: dict[str, Any] = {}
    server = Server("low", on_call_tool=call_tool, get_tool_input_schema=schemas.__getitem__)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                for _ in range(3):
                    await example.raw(session, "tools/call", {"name": "unlisted", "arguments": {}})

    anyio.run(scenario)
    assert collect().sum("mcp.requests.total", {ROLE: "server", METHOD: "tools/call", STATUS: "ok"}) == 3


class Stubborn:
    """A write stream of the application's own that never refuses, or that breaks in its own way."""

    def __init__(self, inner: Any, error: Exception | None) -> None:
        self._inner = inner
        self._error = error
        self.is_broken = False

    async def __aenter__(self) -> Stubborn:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        with suppress(Exception):
            await self._inner.aclose()

    async def send(self, item: Any) -> None:
        if not self.is_broken:
            await self._inner.send(item)
        elif self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, ValueError("I/O operation on closed file")], ids=["swallows", "raises"])
def test_a_write_stream_that_breaks_in_its_own_way_loses_no_request(error: Exception | None, collect: Collect) -> None:
    timeout = 0.2 if V2 else timedelta(seconds=0.2)

    async def scenario() -> None:
        server = low_level(example.build())
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            write = Stubborn(near[1], error)
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], write, read_timeout_seconds=timeout) as session:
                await session.initialize()
                write.is_broken = True
                for _ in range(2):
                    with pytest.raises((SDKError, ValueError)):
                        await session.send_ping()
            await near[1].aclose()

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert ends(points, "client", "ping") == {("connection_lost" if error else "timeout", None): 2}


def odd_endpoint(status: int, kind: bytes, body: str, location: bytes = b"") -> Any:
    """An HTTP endpoint that shakes hands and then answers every request in one odd way; ``{id}`` is the request's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        received = b""
        while scope["method"] == "POST":
            message = await receive()
            received += message.get("body", b"")
            if not message.get("more_body"):
                break
        request: dict[str, Any] = json.loads(received) if received else {}
        headers: list[tuple[bytes, bytes]] = []
        code, content, reply = (405, b"", b"") if scope["method"] != "POST" else (202, b"", b"")
        if request.get("method") == "initialize":
            info = {"name": "odd", "version": "0"}
            result: dict[str, Any] = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}
            code, content = 200, b"application/json"
            reply = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
            headers.append((b"mcp-session-id", b"odd"))
        elif "id" in request and "method" in request:
            code, content, reply = status, kind, body.replace("{id}", str(request["id"])).encode()
            if location:
                headers.append((b"location", location))
        headers.append((b"content-type", content))
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


JSON = b"application/json"
ERROR_REPLY = '{"jsonrpc": "2.0", "id": {id}, "error": {"code": %d, "message": "%s"}}'
# What a 1.x client cannot read it waits for until its timer runs out.
LOST = ("connection_lost", None) if V2 else ("timeout", None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, JSON, ERROR_REPLY % (-32000, "own"), b""), ("server_error", "-32000")),
        ((200, JSON, ERROR_REPLY % (-32001, "own"), b""), ("server_error", "-32001")),
        ((200, JSON, ERROR_REPLY % (408, "own"), b""), ("server_error", "408")),
        ((200, JSON, ERROR_REPLY % (0, "Request cancelled"), b""), ("cancelled", None)),
        ((200, JSON, ERROR_REPLY % (-31999, "unheard of"), b""), ("server_error", "_OTHER")),
        ((200, JSON, "{nope", b""), LOST),
        ((200, b"text/event-stream", "data: {nope\n\n", b""), LOST),
        ((200, b"text/html", "<p>", b""), LOST),
        ((202, b"", "", b""), LOST),
        ((302, b"", "", b"http://other.example/"), ("server_error", "302")),
        ((404, b"text/plain", "", b""), ("client_error", "404" if V2 else "-32600")),
    ],
    ids=str,
)
def test_a_reply_is_classed_by_what_the_peer_sent(
    answer: tuple[int, bytes, str, bytes], expected: tuple[str, str | None], collect: Collect
) -> None:
    timeout = 1.0 if V2 else timedelta(seconds=1)

    async def scenario() -> None:
        async with setups.serve(odd_endpoint(*answer)) as base:
            with suppress(BaseException):
                transport = streamable_http_client(f"{base}/mcp")
                async with setups.client_over(transport, read_timeout_seconds=timeout) as session:
                    await session.send_ping()

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert ends(points, "client", "ping") == {expected: 1}


def test_what_the_application_posts_while_it_answers_is_its_own(collect: Collect) -> None:
    """A sampling callback uses the same HTTP client, in the context of the POST whose stream brought the question."""

    async def scenario() -> None:
        async with httpx.AsyncClient(timeout=10) as http:
            server = HighLevelServer("asks")

            async def ask(ctx: Any) -> str:
                text = types.TextContent(type="text", text="x")
                messages = [types.SamplingMessage(role="user", content=text)]
                await ctx.session.create_message(messages, max_tokens=5, related_request_id=ctx.request_id)
                raise SDKError(types.ErrorData(code=-32603, message="own")) if not V2 else SDKError(-32603, "own")

            ask.__annotations__["ctx"] = Context
            server.add_tool(ask)

            async def sample(context: Any, params: Any) -> Any:
                assert (await http.post(f"{base}/elsewhere", json={})).status_code == 404
                return await example.sample(context, params)

            async with setups.serve(setups.http_app(server, HTTP)) as base:
                options = example.CALLBACKS | {"sampling_callback": sample}
                async with (
                    streamable_http_client(f"{base}/mcp", http_client=http) as streams,
                    ClientSession(streams[0], streams[1], **options) as session,
                ):
                    await session.initialize()
                    await session.list_tools()
                    with suppress(SDKError):
                        await session.call_tool("ask", {})

    anyio.run(scenario)
    points = collect()
    # 1.x and the high-level server make a result of a tool's own error.
    assert set(ends(points, "client", "tools/call")) <= {("server_error", "-32603"), ("tool_error", None)}
    assert points.sum("mcp.connection.errors") == 0
    assert ends(points, "client", "sampling/createMessage") == {("ok", None): 1}


def test_a_session_open_across_two_instrumentations_feeds_neither_by_halves() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    instrumentor = MCPInstrumentor()

    async def scenario() -> None:
        instrumentor.instrument(meter_provider=MeterProvider([readers[0]]))
        async with setups.connect(MEMORY) as link:
            await link.session.send_ping()
            instrumentor.uninstrument()
            instrumentor.instrument(meter_provider=MeterProvider([readers[1]]))
            for _ in range(5):
                await link.session.send_ping()

    try:
        anyio.run(scenario)
    finally:
        instrumentor.uninstrument()
    assert ends(Points.of(readers[0]), "client", "ping") == {("ok", None): 1}
    assert ends(Points.of(readers[1]), "client", "ping") == {}
    assert_nothing_is_active(Points.of(readers[0]))


@pytest.mark.skipif(not V2, reason="mcp 1.x has no in-process dispatcher")
def test_a_call_to_a_peer_that_has_closed_in_process_has_lost_its_connection(collect: Collect) -> None:
    direct: Any = import_module("mcp.shared.direct_dispatcher")

    async def answer(dctx: Any, method: str, params: Any) -> dict[str, Any]:
        return {}

    async def ignore(dctx: Any, method: str, params: Any) -> None:
        return

    async def scenario() -> None:
        client, server = direct.create_direct_dispatcher_pair()
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.run, answer, ignore)
            async with ClientSession(dispatcher=client) as session:
                session.adopt(
                    types.InitializeResult(
                        protocol_version="2025-11-25",
                        capabilities=types.ServerCapabilities(),
                        server_info=types.Implementation(name="direct", version="0"),
                    )
                )
                await session.send_ping()
                server.close()
                with pytest.raises(SDKError):
                    await session.send_ping()

    anyio.run(scenario)
    points = collect()
    assert ends(points, "client", "ping") == {("ok", None): 1, ("connection_lost", None): 1}
    assert points.sum("mcp.sessions.created", {ROLE: "client"}) == 1
    assert_nothing_is_active(points)


def test_a_duplicate_id_is_two_requests(collect: Collect) -> None:
    async def scenario() -> AsyncGenerator[None, None] | None:
        async with setups.connect(HTTP) as link, httpx.AsyncClient(timeout=10) as http:
            opened = await http.post(link.url, json=INITIALIZE, headers=HEADERS)
            session = HEADERS | {"mcp-session-id": opened.headers["mcp-session-id"]}
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
            arguments = {"params": {"name": "slow", "arguments": {"seconds": 0.2}}}

            async def post() -> None:
                with suppress(Exception), anyio.move_on_after(2):
                    await http.post(link.url, json=call | arguments, headers=session)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                tasks.start_soon(post)
                await until(lambda: collect().sum("mcp.requests.active") == 2)
            await http.delete(link.url, headers=session)
        return None

    anyio.run(scenario)
    points = collect()
    assert_nothing_is_active(points)
    assert points.sum("mcp.requests.total", {ROLE: "server", DIRECTION: "inbound", METHOD: "tools/call"}) == 2
