"""The client's HTTP pool against what the server saw: connections by their ports, requests by the door they came in."""

from __future__ import annotations

import gc
import socket
import threading
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import anyio
import psutil
import pytest
from anyio.abc import SocketAttribute

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import ROLE, Points
from . import example, setups
from .generation import V2, sse_client, streamable_http_client
from .setups import SETUPS, Setup
from .test_uninstrument import in_a_fresh_process

Collect = Callable[[], Points]
httpx: Any = import_module("httpx2" if V2 else "httpx")
httpcore: Any = import_module("httpcore2" if V2 else "httpcore")

CREATED = "mcp.pool.connections.created"
REUSED = "mcp.pool.connections.reused"
IDLE = "mcp.pool.connections.idle"
WAIT = "mcp.pool.wait.duration"
HTTP = [each for each in SETUPS if each.transport in ("streamable_http", "sse")]
SSE = next(each for each in SETUPS if each.name == "sse")
# Its connections come back to the pool. Where a reply comes as an event stream, the SDK closes that after the reply and
# the connection with it, except on 2026-07-28; and it closes connections whose answer was 202 or 405.
STATEFUL = next(each for each in SETUPS if each.name == "http-json")
KEEPS = [each for each in HTTP if each.modern or each is SSE or each.settings.get("json_response")]

PATCHED: list[tuple[Any, str]] = [
    (httpcore.AsyncConnectionPool, "handle_async_request"),
    (httpcore.AsyncConnectionPool, "create_connection"),
    (httpcore.AsyncHTTPProxy, "create_connection"),
    *(
        (connection, name)
        for connection in (httpcore.AsyncHTTP11Connection, httpcore.AsyncHTTP2Connection)
        for name in ("__init__", "_send_request_headers")
    ),
]


def patched() -> list[Any]:
    """What is in the places that are patched."""
    return [vars(owner)[name] for owner, name in PATCHED]


MAKING = threading.Lock()


@dataclass
class Door:
    """Everybody who comes into a server.

    Attributes:
        ports: The client's port of every HTTP request: one per connection.
        gets: How many of them are GET.
        streams: Whether the standalone GET stream is served. It keeps a connection for as long as the session lasts.
        moved: Whether every POST is redirected to the same path with a query, once.
        closed: What every POST waits for, if anything.
        waiting: How many POSTs wait for it.
    """

    ports: list[int] = field(default_factory=list[int])
    gets: int = 0
    streams: bool = True
    moved: bool = False
    closed: anyio.Event | None = None
    waiting: int = 0
    base: str = ""

    @property
    def connections(self) -> int:
        return len(set(self.ports))

    @property
    def reuses(self) -> int:
        return len(self.ports) - self.connections

    def open_sockets(self) -> int:
        """Connections to this server that the clients of this process hold, by the operating system's account."""
        port = int(self.base.rpartition(":")[2])
        sockets = psutil.Process().net_connections("tcp")
        return sum(bool(each.raddr) and each.raddr.port == port and each.status == "ESTABLISHED" for each in sockets)

    def before(self, app: Any) -> Any:
        async def enter(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            self.ports.append(scope["client"][1])
            self.gets += scope["method"] == "GET"
            if scope["method"] == "POST" and self.closed is not None:
                self.waiting += 1
                await self.closed.wait()
            # What is sent to a proxy has a whole URL where the path is.
            scope["path"] = scope["path"].removeprefix(self.base)
            if scope["path"] == "/elsewhere":
                await _answer(send, 200)
            elif scope["method"] == "GET" and not self.streams:
                await _answer(send, 405)
            elif scope["method"] == "POST" and self.moved and not scope["query_string"]:
                await _answer(send, 307, (b"location", scope["path"].encode() + b"?moved"))
            else:
                await app(scope, receive, send)

        return enter


async def _answer(send: Any, status: int, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0"), *headers]})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def server(setup: Setup = STATEFUL, *, streams: bool = False, moved: bool = False) -> AsyncGenerator[Door]:
    """The example server with a door; by default without a standalone stream, so that every connection comes back."""
    door = Door(streams=streams or setup is SSE, moved=moved)
    # A server sets logging up when it is made, which is no business for two threads at once.
    with MAKING:
        app = setups.http_app(example.build(**({} if V2 else setup.settings)), setup)
    async with setups.serve(door.before(app)) as door.base:
        yield door


@asynccontextmanager
async def client(door: Door, setup: Setup = STATEFUL, http_client: Any = None) -> AsyncGenerator[Any]:
    """A session with that server."""
    if setup.transport == "sse":
        transport = sse_client(f"{door.base}/sse")
    else:
        transport = streamable_http_client(f"{door.base}/mcp", http_client=http_client)
    async with setups.client_over(transport, modern=setup.modern) as session:
        yield session


def assert_it_is_what_came_in(points: Points, door: Door) -> None:
    pool = {"pool": door.base}
    assert points.sum(CREATED, pool) == door.connections
    assert points.sum(REUSED, pool) == door.reuses
    assert points.sum(WAIT, pool) == len(door.ports)


def assert_nothing_was_counted(points: Points) -> None:
    assert [points.select(metric) for metric in (CREATED, REUSED, WAIT)] == [[], [], []]
    assert points.sum(IDLE) == 0


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("setup", HTTP, ids=str)
@pytest.mark.parametrize("streams", [True, False], ids=["with a stream", "without a stream"])
def test_connections_and_requests_are_those_the_server_saw(setup: Setup, streams: bool, collect: Collect) -> None:
    doors: list[Door] = []

    async def scenario() -> None:
        async with server(setup, streams=streams) as door, client(door, setup) as session:
            doors.append(door)
            for _ in range(5):
                await session.call_tool("ok", {})

    anyio.run(scenario)
    (door,) = doors
    assert door.reuses >= 4 if setup in KEEPS else door.connections >= 4
    assert_it_is_what_came_in(collect(), door)


@pytest.mark.parametrize("setup", [each for each in HTTP if each is not SSE], ids=str)
def test_the_third_of_three_calls_waits_for_one_of_two_connections(setup: Setup, collect: Collect) -> None:
    # The third call waits at least so long. A client that was refused a stream for the server's messages asks for it
    # again after a second; then that waits as well.
    seconds = 0.8

    async def scenario() -> tuple[Points, Points, int, float]:
        limits = httpx.Limits(max_connections=2)
        async with (
            server(setup) as door,
            httpx.AsyncClient(limits=limits) as http,
            client(door, setup, http) as session,
        ):
            await session.call_tool("ok", {})
            before, gets, start = collect(), door.gets, anyio.current_time()
            door.closed = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(partial(session.call_tool, "ok"))
                await until(lambda: door.waiting == 2)
                await anyio.wait_all_tasks_blocked()
                await anyio.sleep(seconds)
                door.closed.set()
            return before, collect(), door.gets - gets, anyio.current_time() - start

    before, after, gets, elapsed = anyio.run(scenario)

    def long(points: Points) -> int:
        (point,) = points.select(WAIT)
        return sum(point.buckets[point.bounds.index(0.25) + 1 :])

    assert long(after) - long(before) in range(1, 2 + gets)
    waited = after.select(WAIT)[0].total - before.select(WAIT)[0].total
    assert seconds < waited < (3 + gets) * elapsed


def test_a_reused_connection_is_there_at_once(collect: Collect) -> None:
    async def scenario() -> tuple[Points, Points]:
        async with server() as door, client(door) as session:
            await session.call_tool("ok", {})
            before = collect()
            for _ in range(5):
                await session.call_tool("slow", {"seconds": 0.2})
            return before, collect()

    before, after = anyio.run(scenario)
    assert after.sum(WAIT) - before.sum(WAIT) >= 5
    # Not even on a busy machine it is as long as the calls themselves.
    assert after.select(WAIT)[0].total - before.select(WAIT)[0].total < 5 * 0.2


@pytest.mark.parametrize("setup", HTTP, ids=str)
def test_idle_connections_are_those_that_are_open_and_unused(setup: Setup, collect: Collect) -> None:
    used = 1 if setup is SSE else 0

    def idle(door: Door) -> int:
        (point,) = collect().select(IDLE, {"pool": door.base})
        return int(point.value)

    async def all_open_ones_are_idle(door: Door, at_least: int) -> None:
        await until(lambda: at_least <= idle(door) == door.open_sockets() - used)

    async def scenario() -> None:
        async with server(setup) as door:
            async with client(door, setup) as session:
                kept = 1 if setup in KEEPS else 0
                await session.call_tool("ok", {})
                await all_open_ones_are_idle(door, kept)
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(session.call_tool, "slow", {"seconds": 0.2})
                    if setup is not SSE:
                        # SSE replies elsewhere, so its calls are over as soon as they are sent.
                        await until(lambda: door.open_sockets() == 3 and idle(door) == 0)
                await all_open_ones_are_idle(door, kept if setup is SSE else 3 * kept)
            # Closed; and still there, as a number.
            assert idle(door) == 0
            async with client(door, setup):
                await all_open_ones_are_idle(door, 0)
        # The pools themselves are gone now.
        gc.collect()
        assert idle(door) == 0

    anyio.run(scenario)


def test_two_servers_are_told_apart(collect: Collect) -> None:
    async def scenario() -> tuple[Door, Door]:
        async with server() as one, server() as two, httpx.AsyncClient() as shared:
            async with client(one, http_client=shared) as first, client(two, http_client=shared) as second:
                await first.call_tool("ok", {})
                for _ in range(3):
                    await second.call_tool("ok", {})
                await until(lambda: collect().by("pool", IDLE) == {one.base: 1, two.base: 1})
            return one, two

    one, two = anyio.run(scenario)
    points = collect()
    assert len(one.ports) < len(two.ports)
    for door in (one, two):
        assert_it_is_what_came_in(points, door)
    assert points.by("pool", IDLE) == {}


def test_only_what_the_sdk_sends_to_the_endpoint_counts(collect: Collect) -> None:
    """The application uses its client for requests of its own, before, meanwhile and after."""

    async def scenario() -> tuple[Door, int]:
        async with server() as door, server() as other, httpx.AsyncClient() as http:
            await http.get(f"{door.base}/elsewhere")
            async with client(door, http_client=http) as session:
                await session.call_tool("ok", {})
                for base in (door.base, other.base, door.base):
                    await http.get(f"{base}/elsewhere")
                await session.call_tool("ok", {})
                # The application's idle connection to the other server is not one to the endpoint.
                await until(lambda: collect().sum(IDLE) == door.open_sockets() > 0)
                assert other.open_sockets() == 1
            await http.get(f"{door.base}/elsewhere")
            return door, 4

    door, own = anyio.run(scenario)
    points = collect()
    assert set(points.by("pool", WAIT)) == {door.base}
    assert points.sum(WAIT) == len(door.ports) - own
    # The first was opened by the application.
    assert points.sum(CREATED) == door.connections - 1


def test_requests_next_to_an_sse_session_do_not_count(collect: Collect) -> None:
    async def scenario() -> tuple[Door, int]:
        async with server(SSE) as door, httpx.AsyncClient() as http, client(door, SSE) as session:
            await http.get(f"{door.base}/elsewhere")
            await session.call_tool("ok", {})
            await http.get(f"{door.base}/elsewhere")
            return door, len(door.ports) - 2

    door, count = anyio.run(scenario)
    points = collect()
    assert points.sum(WAIT, {"pool": door.base}) == count
    assert points.sum(CREATED) == door.connections - 1


def test_redirects_ask_the_pool_once_more_each(collect: Collect) -> None:
    async def scenario() -> Door:
        async with server(moved=True) as door, client(door) as session:
            await session.call_tool("ok", {})
        return door

    door = anyio.run(scenario)
    assert len(door.ports) >= 6
    assert_it_is_what_came_in(collect(), door)


def test_authentication_that_asks_twice_counts_twice(collect: Collect) -> None:
    class Twice(httpx.Auth):
        def auth_flow(self, request: Any) -> Any:
            yield request
            yield request

    async def scenario() -> Door:
        async with server(STATEFUL) as door, httpx.AsyncClient(auth=Twice()) as http, client(door, http_client=http):
            await http.get(f"{door.base}/elsewhere")
            return door

    door = anyio.run(scenario)
    # Twice the application's own request.
    assert collect().sum(WAIT) == len(door.ports) - 2


def test_authentication_elsewhere_does_not_count(collect: Collect) -> None:
    class Asks(httpx.Auth):
        def __init__(self, url: str) -> None:
            self.url = url

        def auth_flow(self, request: Any) -> Any:
            yield httpx.Request("GET", self.url)
            yield request

    async def scenario() -> tuple[Door, Door]:
        async with (
            server() as door,
            server() as issuer,
            httpx.AsyncClient(auth=Asks(f"{issuer.base}/elsewhere")) as http,
            client(door, http_client=http),
        ):
            pass
        return door, issuer

    door, issuer = anyio.run(scenario)
    assert len(issuer.ports) == len(door.ports)
    points = collect()
    assert_it_is_what_came_in(points, door)
    assert set(points.by("pool", WAIT)) == {door.base}


def test_a_client_with_a_base_url_takes_a_path(collect: Collect) -> None:
    async def scenario() -> Door:
        async with (
            server() as door,
            httpx.AsyncClient(base_url=door.base) as http,
            setups.client_over(streamable_http_client("/mcp", http_client=http)) as session,
        ):
            await session.call_tool("ok", {})
        return door

    door = anyio.run(scenario)
    assert_it_is_what_came_in(collect(), door)


def test_an_endpoint_may_be_a_url_of_the_http_library(collect: Collect) -> None:
    async def scenario() -> Door:
        async with server() as door:
            transport = streamable_http_client(httpx.URL(f"{door.base}/mcp"))
            async with setups.client_over(transport) as session:
                await session.call_tool("ok", {})
        return door

    door = anyio.run(scenario)
    points = collect()
    assert_it_is_what_came_in(points, door)
    sizes = {"mcp.method.name": "tools/call"}
    assert [points.sum("mcp.request.size", {ROLE: role, **sizes}) for role in ("client", "server")] == [1, 1]


def test_through_a_proxy_the_pool_is_named_after_the_endpoint(collect: Collect) -> None:
    """The server is its own proxy here."""

    async def scenario() -> Door:
        async with (
            server() as door,
            httpx.AsyncClient(proxy=door.base.replace("127.0.0.1", "localhost")) as http,
            client(door, http_client=http) as session,
        ):
            await session.call_tool("ok", {})
            await until(lambda: collect().by("pool", IDLE) == {door.base: 1})
        return door

    door = anyio.run(scenario)
    assert_it_is_what_came_in(collect(), door)


def test_a_refused_connection_is_not_created(collect: Collect) -> None:
    sent: list[dict[str, Any]] = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def hook(request: Any) -> None:
            sent.append(request.extensions)

        async def scenario() -> None:
            # ConnectError in a group, or a closed connection, whichever is seen first.
            with anyio.fail_after(10), pytest.raises(BaseException):  # noqa: B017
                async with (
                    httpx.AsyncClient(event_hooks={"request": [hook]}) as http,
                    setups.client_over(streamable_http_client(f"{url}/mcp", http_client=http)),
                ):
                    pytest.fail("there is nobody")
            with anyio.fail_after(10), pytest.raises(BaseException):  # noqa: B017
                async with setups.client_over(sse_client(f"{url}/sse")):
                    pytest.fail("there is nobody")

        anyio.run(scenario)
    points = collect()
    assert_nothing_was_counted(points)
    assert [point.attributes["pool"] for point in points.select(IDLE)] == [url]
    # The request is the application's: nothing of ours is left in it.
    assert sent
    assert [each for each in sent if "trace" in each] == []


def test_a_tunnel_that_the_proxy_refuses_is_not_created(collect: Collect) -> None:
    asked: list[bytes] = []

    async def refuse(stream: Any) -> None:
        async with stream:
            asked.append(await stream.receive())
            await stream.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    async def scenario() -> None:
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, refuse)
            port = listener.extra(SocketAttribute.local_port)
            async with httpx.AsyncClient(proxy=f"http://127.0.0.1:{port}") as http:
                with anyio.fail_after(10), pytest.raises(BaseException):  # noqa: B017
                    async with setups.client_over(streamable_http_client("https://mcp.invalid/mcp", http_client=http)):
                        pytest.fail("there is no tunnel")
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    assert asked[0].startswith(b"CONNECT mcp.invalid:443 ")
    assert_nothing_was_counted(collect())
    assert [point.attributes["pool"] for point in collect().select(IDLE)] == ["https://mcp.invalid:443"]


def test_a_request_that_gives_up_waiting_is_not_there(collect: Collect) -> None:
    async def scenario() -> Door:
        limits, timeout = httpx.Limits(max_connections=1), httpx.Timeout(10, pool=0.1)
        async with server() as door, httpx.AsyncClient(limits=limits, timeout=timeout) as http:
            # PoolTimeout takes the whole transport with it.
            with anyio.fail_after(60), pytest.raises(BaseException) as raised:
                async with client(door, http_client=http) as session, anyio.create_task_group() as tasks:
                    for _ in range(2):
                        tasks.start_soon(session.call_tool, "slow", {"seconds": 5})
            assert "PoolTimeout" in "".join(traceback.format_exception(raised.value))
        return door

    door = anyio.run(scenario)
    assert_it_is_what_came_in(collect(), door)


def test_the_applications_hooks_and_traces_see_what_they_always_saw() -> None:
    """Instrumented or not: the same hooks in the client, the same requests, the same events of httpcore."""

    async def scenario() -> tuple[list[str], list[str]]:
        events: list[str] = []
        methods: list[str] = []
        extensions: list[dict[str, Any]] = []

        async def trace(name: str, info: Any) -> None:
            events.append(name)

        async def hook(request: Any) -> None:
            methods.append(request.method)
            request.extensions["trace"] = trace
            extensions.append(request.extensions)

        async with (
            server() as door,
            httpx.AsyncClient(event_hooks={"request": [hook]}) as http,
            client(door, http_client=http) as session,
        ):
            await session.call_tool("ok", {})
            hooks = list(http.event_hooks["request"])
        assert hooks[0] is hook
        assert [each for each in hooks if each.__module__.endswith("http_pool")] == []
        assert all(each["trace"] is trace for each in extensions)
        return events, methods

    plain = anyio.run(scenario)
    MCPInstrumentor().instrument()
    try:
        instrumented = anyio.run(scenario)
    finally:
        MCPInstrumentor().uninstrument()
    assert sorted(instrumented[0]) == sorted(plain[0])
    assert sorted(instrumented[1]) == sorted(plain[1])
    assert "http11.response_closed.complete" in plain[0]


def test_a_connection_and_its_requests_are_what_they_were_when_it_has_been_used(collect: Collect) -> None:
    seen: list[Any] = []
    extensions: list[dict[str, Any]] = []

    async def hook(request: Any) -> None:
        extensions.append(request.extensions)

    async def scenario() -> None:
        async with (
            server() as door,
            httpx.AsyncClient(event_hooks={"request": [hook]}) as http,
            client(door, http_client=http) as session,
        ):
            await session.call_tool("ok", {})
            seen.extend(http._transport._pool.connections)

    anyio.run(scenario)
    assert seen
    assert all("handle_async_request" not in vars(each) for each in seen)
    assert {key for each in extensions for key in each} == {"timeout"}


def test_streams_of_one_http2_connection_reuse_it(collect: Collect) -> None:
    async def scenario() -> Door:
        door = Door(streams=False)
        app = setups.http_app(example.build(**({} if V2 else STATEFUL.settings)), STATEFUL)
        async with (
            setups.serve_http2(door.before(app)) as door.base,
            httpx.AsyncClient(http1=False, http2=True) as http,
            client(door, http_client=http) as session,
        ):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(session.call_tool, "slow", {"seconds": 0.1})
            await session.call_tool("ok", {})
        return door

    door = anyio.run(scenario)
    assert door.connections == 1
    assert len(door.ports) >= 6
    assert_it_is_what_came_in(collect(), door)


def test_an_http2_connection_that_the_second_request_had_to_open_is_created(collect: Collect) -> None:
    class Backend(httpcore.AnyIOBackend):
        def __init__(self) -> None:
            self.connecting = anyio.Event()

        async def connect_tcp(self, *args: Any, **kwargs: Any) -> Any:
            if not self.connecting.is_set():
                self.connecting.set()
                await anyio.sleep_forever()
            connect: Any = httpcore.AnyIOBackend.connect_tcp
            return await connect(self, *args, **kwargs)

    async def scenario() -> Door:
        door = Door(streams=False)
        app = setups.http_app(example.build(**({} if V2 else STATEFUL.settings)), STATEFUL)
        backend = Backend()
        async with (
            setups.serve_http2(door.before(app)) as door.base,
            httpx.AsyncClient(http1=False, http2=True) as http,
            anyio.create_task_group() as tasks,
        ):
            http._transport._pool._network_backend = backend
            given_up = anyio.CancelScope()

            async def give_up() -> None:
                with given_up:
                    async with client(door, http_client=http):
                        pass

            async def stop() -> None:
                pool = http._transport._pool
                await until(lambda: len(pool._requests) == 2)
                await anyio.sleep(0.1)
                given_up.cancel()

            tasks.start_soon(give_up)
            await backend.connecting.wait()
            tasks.start_soon(stop)
            async with client(door, http_client=http) as session:
                await session.call_tool("ok", {})
        return door

    door = anyio.run(scenario)
    # The pool takes no further request on the one whose first request gave up.
    assert door.connections == 2
    assert_it_is_what_came_in(collect(), door)


def test_what_a_trace_of_the_application_raises_passes_through(
    collect: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    async def trace(name: str, info: Any) -> None:
        raise LookupError(name)

    async def hook(request: Any) -> None:
        request.extensions["trace"] = trace

    async def scenario() -> None:
        async with server() as door, httpx.AsyncClient(event_hooks={"request": [hook]}) as http:
            transport = import_module("mcp.client.streamable_http").StreamableHTTPTransport(f"{door.base}/mcp")
            transport.session_id = "any"
            # It logs what it meets.
            await transport.terminate_session(client=http)

    anyio.run(scenario)
    assert "Session termination failed: connection.connect_tcp.started" in caplog.text
    assert "a metric was lost" not in caplog.text
    assert_nothing_was_counted(collect())


def test_event_loops_in_threads_count_together(collect: Collect) -> None:
    doors: list[Door] = []

    async def scenario() -> None:
        async with server() as door, client(door) as session:
            doors.append(door)
            for _ in range(20):
                await session.call_tool("ok", {})

    threads = [threading.Thread(target=anyio.run, args=(scenario,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # A scrape in the middle of it.
        assert all(point.value >= 0 for point in collect().select(IDLE))
    for thread in threads:
        thread.join()
    points = collect()
    assert len(doors) == 4
    for door in doors:
        assert_it_is_what_came_in(points, door)
        assert points.sum(IDLE, {"pool": door.base}) == 0


def test_uninstrument_leaves_the_pool_and_the_client_alone(collect: Collect) -> None:
    async def scenario() -> None:
        async with server() as door, httpx.AsyncClient() as http, client(door, http_client=http) as session:
            await session.call_tool("ok", {})
            before = collect()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.call_tool, "slow", {"seconds": 0.1})
                await until(lambda: collect().sum(WAIT) > before.sum(WAIT))
                MCPInstrumentor().uninstrument()
            await session.call_tool("ok", {})
            after = collect()
            assert after.sum(WAIT) == before.sum(WAIT) + 1
            assert after.select(IDLE) == []
            assert http.event_hooks == {"request": [], "response": []}

    assert [hasattr(each, "__wrapped__") for each in patched()] == [True] * 7
    anyio.run(scenario)
    assert [hasattr(each, "__wrapped__") for each in patched()] == [False] * 7


def test_a_second_instrument_counts_once_and_goes_on_with_what_is_open(collect: Collect) -> None:
    async def scenario() -> None:
        async with server() as door, client(door) as session:
            await session.call_tool("ok", {})
            MCPInstrumentor().uninstrument()
            MCPInstrumentor().instrument()
            await session.call_tool("ok", {})

    anyio.run(scenario)
    instrumented = patched()
    MCPInstrumentor().uninstrument()
    assert [each.__wrapped__ for each in instrumented] == patched()


@pytest.mark.skipif(not V2, reason="httpx2 only")
@pytest.mark.parametrize("first", ["alias", "instrument"])
def test_httpx_as_an_alias_of_httpx2_counts_once(first: str) -> None:
    alias = "import httpx2\n        httpx2.alias_httpx()"
    instrument = """reader = InMemoryMetricReader()
        MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))"""
    steps = (alias, instrument) if first == "alias" else (instrument, alias)
    printed = in_a_fresh_process(f"""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry_instrumentation_mcp import MCPInstrumentor
        {steps[0]}
        {steps[1]}
        import anyio, httpcore, httpcore2
        assert httpcore is httpcore2
        from tests.points import Points
        from tests.sdk import test_pool as t
        async def scenario():
            async with t.server() as door, t.client(door) as session:
                await session.call_tool("ok", {{}})
            return door
        door = anyio.run(scenario)
        t.assert_it_is_what_came_in(Points.of(reader), door)
        print("once")
    """)
    assert printed == "once\n"
