"""Whatever a peer sends, instruments and tables stay within their bounds, and real names keep their places.

The oracle is what was sent: every request and every notification is counted, exactly once, as hostile as it may be.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import METHODS, PROTOCOL_VERSIONS
from opentelemetry_instrumentation_mcp.metrics.outcome import CANCELLED, OK, TOOL_ERROR, End, error_reply, http_error
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Address, Direction, Role, Transport

from ..points import DIRECTION, ERROR, METHOD, ROLE, STATUS, TOOL, TRANSPORT, Points
from ..sdk import example, setups
from ..sdk.generation import V2, ClientSession, SDKError, memory_streams, streamable_http_client, types
from ..sdk.http import HEADERS, httpx, low_level, until
from ..sdk.setups import SETUPS
from .bounds import assert_bounded, tables
from .hostile import INITIALIZED, Scanner, initialize

Collect = Callable[[], Points]

IN_MEMORY_REQUESTS = 100_000
REQUESTS = 2_000
WORKERS = 8
OPENING = 1
"""The one honest request of a connection: ``initialize``."""

_session_message: Any = import_module("mcp.shared.message").SessionMessage


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK tells about every message it cannot read; a hundred thousand records are not for keeping."""
    caplog.set_level(60)


def item(message: dict[str, Any]) -> Any:
    """A message as it stands on the streams behind a transport."""
    if V2:
        return _session_message(types.jsonrpc_message_adapter.validate_python(message))
    return _session_message(types.JSONRPCMessage.model_validate(message))


def lengths() -> dict[str, int]:
    """The lengths of all tables now."""
    gc.collect()
    return tables(getattr(MCPInstrumentor(), "_installation"))  # noqa: B009


def assert_counted(points: Points, scanner: Scanner, openings: int, told: int) -> None:
    """The server counted every request and every notification that was sent to it."""
    inbound = {ROLE: "server", DIRECTION: "inbound"}
    assert points.sum("mcp.requests.total", inbound) == scanner.requests + openings
    assert points.sum("mcp.notifications.total", inbound) == scanner.notifications + told


@pytest.mark.timeout(600)
def test_a_hundred_thousand_requests_in_memory(collect: Collect) -> None:
    scanner = Scanner(seed=1)
    server = low_level(example.build())
    grown: list[dict[str, int]] = []

    async def scenario() -> None:
        answered = 0

        async def read(stream: Any) -> None:
            nonlocal answered
            async for each in stream:
                answered += hasattr(getattr(each.message, "root", each.message), "id")

        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            tasks.start_soon(read, near[0])
            for message in (initialize(), INITIALIZED):
                await near[1].send(item(message))
            for _ in range(4):
                for message in scanner.messages(IN_MEMORY_REQUESTS // 4):
                    await near[1].send(item(message))
                with anyio.fail_after(60):
                    while answered < scanner.requests + OPENING:
                        await anyio.sleep(0.005)
                collect()
                grown.append(lengths())
            honest = {"jsonrpc": "2.0", "id": "honest", "method": "tools/call", "params": {"name": "ok"}}
            await near[1].send(item(honest))
            while answered < scanner.requests + OPENING + 1:
                await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    points = collect()
    assert_bounded(points)
    assert scanner.requests == IN_MEMORY_REQUESTS
    assert_counted(points, scanner, OPENING + 1, told=1)
    # What the server has is still told apart from what the scanner made up.
    assert points.sum("mcp.requests.total", {ROLE: "server", TOOL: "ok", STATUS: "ok"}) == 1
    assert set(points.by(TOOL, "mcp.requests.total", {ROLE: "server", METHOD: "tools/call"})) == {"ok", "_OTHER"}
    assert grown[0] and grown[-1] == grown[1]
    assert max(grown[-1].values()) < 1000, sorted(grown[-1].items(), key=lambda each: -each[1])[:5]


@pytest.mark.parametrize(
    "setup", [each for each in SETUPS if each.name in ("http", "http-stateless-json", "http-2026")], ids=str
)
def test_two_thousand_requests_over_streamable_http(setup: setups.Setup, collect: Collect) -> None:
    scanner = Scanner(seed=2)

    async def scenario() -> None:
        server = example.build(**({} if V2 else setup.settings))
        async with setups.serve(setups.http_app(server, setup)) as base, httpx.AsyncClient(timeout=60) as http:
            url, headers = f"{base}/mcp", dict(HEADERS)
            if setup.modern:
                headers["mcp-protocol-version"] = "2026-07-28"
            elif setup.sessions:
                opened = await http.post(url, json=initialize(), headers=headers)
                headers["mcp-session-id"] = opened.headers["mcp-session-id"]
            queue = scanner.messages(REQUESTS)
            async with anyio.create_task_group() as tasks:
                for _ in range(WORKERS):
                    tasks.start_soon(post_all, http, url, headers, queue)
            # And those that a server refuses by their headers.
            odd = Scanner(seed=3)
            for _ in range(200):
                hostile = {
                    "mcp-session-id": odd.text(30),
                    "mcp-protocol-version": odd.text(9),
                    "mcp-method": odd.text(9),
                }
                await http.post(url, json={}, headers=HEADERS | hostile | {"x": odd.text(1000)})
            if setup.sessions:
                await http.delete(url, headers=headers)

    anyio.run(scenario)
    points = collect()
    assert_bounded(points)
    assert points.sum("mcp.requests.active") == points.sum("mcp.connections.active") == 0
    assert_counted(points, scanner, OPENING if setup.sessions else 0, told=0)
    assert max(lengths().values()) < 1000


async def post_all(http: Any, url: str, headers: dict[str, str], queue: Iterator[dict[str, Any]]) -> None:
    """Post what is left in the queue."""
    for message in queue:
        own = dict(headers)
        method = message.get("method", "")
        if method.isascii() and method.isprintable() and method == method.strip():
            # What the envelope of 2026-07-28 says has to stand in a header as well.
            own["mcp-method"] = method
        await http.post(url, content=json.dumps(message), headers=own)


def test_two_thousand_requests_over_sse(collect: Collect) -> None:
    scanner = Scanner(seed=4)
    setup = next(each for each in SETUPS if each.transport == "sse")

    async def scenario() -> None:
        answered = 0
        endpoint: list[str] = []

        async def listen(http: Any, url: str) -> None:
            nonlocal answered
            async with http.stream("GET", url) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: /"):
                        endpoint.append(line[6:])
                    elif line.startswith("data: "):
                        answered += "id" in json.loads(line[6:])

        async with (
            setups.serve(setups.http_app(example.build(), setup)) as base,
            httpx.AsyncClient(timeout=60) as http,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listen, http, f"{base}/sse")
            await until(lambda: bool(endpoint))
            url = base + endpoint[0]
            for message in (initialize(), INITIALIZED):
                await http.post(url, json=message)
            for message in scanner.messages(REQUESTS):
                await http.post(url, content=json.dumps(message), headers=HEADERS)
            await until(lambda: answered == REQUESTS + OPENING)
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    points = collect()
    assert_bounded(points)
    assert_counted(points, scanner, OPENING, told=1)
    assert points.by(TRANSPORT, "mcp.requests.total") == {"sse": REQUESTS + OPENING}


def test_two_thousand_requests_over_stdio(tmp_path: Path) -> None:
    scanner = Scanner(seed=5)
    report = tmp_path / "points.json"

    async def scenario() -> None:
        command = [sys.executable, "-m", "tests.sdk.stdio_server", str(report)]
        environment = {**os.environ, "PYTHONPATH": str(setups.HERE.parent.parent)}
        answered, text = 0, b""
        async with await anyio.open_process(command, env=environment, stderr=None) as server:
            assert server.stdin is not None
            assert server.stdout is not None

            async def write() -> None:
                assert server.stdin is not None
                lines = [json.dumps(each) for each in (initialize(), INITIALIZED, *scanner.messages(REQUESTS))]
                for start in range(0, len(lines), 50):
                    await server.stdin.send("".join(f"{line}\n" for line in lines[start : start + 50]).encode())

            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(write)
                    while answered < REQUESTS + OPENING:
                        *lines, text = (text + await server.stdout.receive()).split(b"\n")
                        answered += sum("id" in json.loads(line) for line in lines)
                await server.stdin.aclose()
                await server.wait()

    anyio.run(scenario)
    points = Points.from_json(json.loads(report.read_text()))
    assert_bounded(points)
    assert_counted(points, scanner, OPENING, told=1)


@pytest.mark.skipif(V2, reason="mcp 2.x has no websocket transport")
def test_two_thousand_requests_over_websocket(collect: Collect) -> None:
    scanner = Scanner(seed=8)
    websockets: Any = pytest.importorskip("websockets")
    serve: Any = import_module("mcp.server.websocket").websocket_server
    server = low_level(example.build())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        async with serve(scope, receive, send) as streams:
            await server.run(streams[0], streams[1], server.create_initialization_options())

    async def scenario() -> None:
        async with setups.serve(app) as base:
            url = base.replace("http:", "ws:")
            async with websockets.connect(url, subprotocols=["mcp"]) as socket, anyio.create_task_group() as tasks:
                answered = 0

                async def listen() -> None:
                    nonlocal answered
                    while answered < REQUESTS + OPENING:
                        answered += "id" in json.loads(await socket.recv())

                tasks.start_soon(listen)
                for message in (initialize(), INITIALIZED, *scanner.messages(REQUESTS)):
                    await socket.send(json.dumps(message))

    anyio.run(scenario)
    points = collect()
    assert_bounded(points)
    assert_counted(points, scanner, OPENING, told=1)
    assert points.by(TRANSPORT, "mcp.requests.total") == {"websocket": REQUESTS + OPENING}


class HostileServer:
    """A server that has another name, other tools and other errors each time, and asks the client what it likes."""

    def __init__(self, seed: int) -> None:
        self.scanner = Scanner(seed)
        self.names: list[str] = []
        self.asked = 0

    def replies(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What it says to a request."""
        scanner, method = self.scanner, request["method"]
        yield scanner.request() | {"id": f"back-{scanner.number()}"}
        yield scanner.notification()
        yield scanner.reply()
        result: dict[str, Any] = {}
        if method == "initialize":
            info = {"name": scanner.word(), "version": scanner.word()}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        elif method == "tools/list":
            self.names = [scanner.word() for _ in range(30)]
            result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.names]}
        elif method == "tools/call" and scanner.requests % 3:
            error = {"code": scanner.number(), "message": scanner.word(), "data": scanner.word()}
            yield {"jsonrpc": "2.0", "id": request["id"], "error": error}
            return
        elif method == "tools/call":
            result = {"content": [], "isError": bool(scanner.requests % 2)}
        yield {"jsonrpc": "2.0", "id": request["id"], "result": result}

    async def serve(self, read: Any, write: Any) -> None:
        """Serve a stream pair."""
        async for each in read:
            message = getattr(each.message, "root", each.message)
            if getattr(message, "method", None) is not None and getattr(message, "id", None) is not None:
                self.asked += 1
                for reply in self.replies(message.model_dump()):
                    await write.send(item(reply))


async def be_a_client_of(hostile: HostileServer) -> None:
    """Hold one session with the server."""
    async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
        tasks.start_soon(hostile.serve, far[0], far[1])
        async with ClientSession(near[0], near[1]) as session:
            await session.initialize()
            await session.list_tools()
            for name in (*hostile.names[:8], hostile.scanner.word()):
                with contextlib.suppress(SDKError, RuntimeError):
                    await session.call_tool(name, {})
        tasks.cancel_scope.cancel()


def test_hostile_servers_bound_a_client_and_crowd_out_nothing_of_its_own(collect: Collect) -> None:
    hostile = HostileServer(seed=6)
    grown: list[dict[str, int]] = []
    honest: list[int] = []

    async def scenario() -> None:
        for _ in range(4):
            for _ in range(50):
                await be_a_client_of(hostile)
            collect()
            grown.append(lengths())
        # The same process is a server too, and what it has is its own.
        async with setups.connect(SETUPS[0]) as link:
            await link.session.call_tool("ok", {})
            await link.session.call_tool("fail", {})
            honest.append(link.wire.asked.total())

    anyio.run(scenario)
    points = collect()
    assert_bounded(points)
    assert hostile.asked > 2000
    # All together: past the bound of attribute sets even the role is folded.
    assert points.sum("mcp.requests.total") == hostile.asked + hostile.scanner.requests + 2 * honest[0]
    assert points.by(TOOL, "mcp.requests.total", {ROLE: "server", METHOD: "tools/call"}) == {"ok": 1, "fail": 1}
    # Fifty servers' names in six revisions, and forty methods for each: more than that there cannot be.
    assert max(grown[-1].values()) < 60_000, sorted(grown[-1].items(), key=lambda each: -each[1])[:5]


def test_a_server_under_another_name_and_revision_each_time_does_not_fill_the_memory() -> None:
    """Ten thousand sessions with servers that choose anew who they are, each with what a session can bring about."""
    reader = InMemoryMetricReader()
    recorder = Recorder(MeterProvider([reader]))
    scanner, pick = Scanner(seed=7), random.Random(7)
    methods, revisions = sorted(METHODS), [*sorted(PROTOCOL_VERSIONS), "none"]
    grown: list[dict[str, int]] = []
    for number in range(10_000):
        address = Address(f"host{number % 150}", 80)
        connection = recorder.open(Role.CLIENT, Transport.STREAMABLE_HTTP, address=address)
        assert connection is not None
        connection.establish(scanner.word(), pick.choice(revisions))
        for method in pick.sample(methods, 4):
            request = connection.begin(pick.choice(list(Direction)), method, {"name": scanner.word()})
            assert request is not None
            request.end(pick.choice([OK, TOOL_ERROR, CANCELLED, error_reply(pick.randint(-32800, 0)), http_error(503)]))
            connection.notified(Direction.INBOUND, method)
        connection.close(pick.choice(list(End)), scanner.word())
        if number % 2_500 == 2_499:
            reader.get_metrics_data()
            grown.append(tables(recorder))
    points = Points.of(reader)
    recorder.retire()
    assert_bounded(points)
    assert points.sum("mcp.requests.total") == 40_000
    assert points.sum("mcp.requests.active") == points.sum("mcp.sessions.active") == 0
    assert max(grown[-1].values()) < 60_000, sorted(grown[-1].items(), key=lambda each: -each[1])[:5]
    # Most of what there can be is there soon, and the rest comes ever more slowly.
    sizes = [sum(each.values()) for each in grown]
    assert sizes[3] - sizes[2] < sizes[0] / 3, sizes


def test_a_server_cannot_make_up_http_statuses(collect: Collect) -> None:
    """Each refusal has a status that was never used before; those that HTTP does not know are one."""
    statuses = iter([503, *range(401, 600, 4), *range(600, 1000, 8)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": next(statuses), "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def scenario() -> None:
        async with setups.serve(app) as base:
            for _ in range(101):
                with contextlib.suppress(BaseException), anyio.fail_after(10):
                    async with setups.client_over(streamable_http_client(f"{base}/mcp")):
                        pass

    anyio.run(scenario)
    points = collect()
    assert next(statuses, None) is None
    assert_bounded(points)
    known = {str(int(each)) for each in HTTPStatus}
    for metric in ("mcp.requests.total", "mcp.connection.errors"):
        told = points.by(ERROR, metric)
        assert {"503", "_OTHER"} <= set(told)
        assert {name for name in told if name.isdigit()} <= known | {"521", "525"}
