"""Exchanges of 2026-07-28 whose client, handler or surroundings do what they seldom do, driven as ASGI servers do."""

from __future__ import annotations

import gc
import json
import logging
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import STATUS, Points
from .generation import V2, Server, types
from .test_modern import HEADERS, META

pytestmark = pytest.mark.skipif(not V2, reason="mcp 1.x does not speak 2026-07-28")

Collect = Callable[[], Points]
BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "one", "arguments": {}, "_meta": META | {"io.modelcontextprotocol/logLevel": "info"}},
    }
).encode()
WHOLE = {"type": "http.request", "body": BODY, "more_body": False}
GONE = {"type": "http.disconnect"}


async def the_whole_way(context: Any) -> None:
    return


class Exchange:
    """A server with one tool, and one POST to it.

    Args:
        tool: What the tool does before it answers.
        says: What the client says, one ASGI message after the other; then it waits.
        json: Whether the server answers in JSON, and so does not look whether the client is still there.
    """

    def __init__(
        self, tool: Callable[[Any], Awaitable[None]] = the_whole_way, says: Any = (WHOLE,), *, json: bool = False
    ) -> None:
        self.tool = tool
        self.json = json
        self.says = list(says)
        self.is_called = anyio.Event()
        self.leaves = anyio.Event()
        self.scope: dict[str, Any] = {}
        self.sent: list[Any] = []

    async def _call_tool(self, context: Any, params: Any) -> Any:
        self.is_called.set()
        await self.tool(context)
        return types.CallToolResult(content=[types.TextContent(type="text", text="done")])

    async def _list_tools(self, context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=[types.Tool(name="one", input_schema={"type": "object"})])

    async def receive(self) -> Any:
        if self.says:
            return self.says.pop(0)
        if not self.leaves.is_set():
            await self.leaves.wait()
        return GONE

    async def send(self, message: Any) -> None:
        if self.leaves.is_set():
            # As ASGI 2.4 wants it.
            raise OSError
        self.sent.append(message)

    async def post(self, around: Callable[[Any], Any] = lambda manager: manager.asgi_app) -> None:
        module = import_module("mcp.server.streamable_http_manager")
        server = Server("low", on_list_tools=self._list_tools, on_call_tool=self._call_tool)
        manager = module.StreamableHTTPSessionManager(server, json_response=self.json)
        headers = [(b"host", b"127.0.0.1"), (b"mcp-method", b"tools/call"), (b"mcp-name", b"one")]
        headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        self.scope |= {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": headers}
        async with manager.run():
            await around(manager)(self.scope, self.receive, self.send)

    @property
    def reply(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    backend = request.param
    pytest.importorskip(backend)
    return lambda scenario: anyio.run(scenario, backend=backend)


def raising(expected: type[Exception]) -> Callable[[Any], Any]:
    """What a manager's application is run in that has to raise this."""

    def around(manager: Any) -> Any:
        async def app(*args: Any) -> None:
            with pytest.raises(expected):
                await manager.asgi_app(*args)

        return app

    return around


def assert_nothing_is_open(points: Points) -> None:
    assert points.sum("mcp.connections.active") == 0
    assert points.sum("mcp.requests.active") == 0


def assert_closed(points: Points, end: str = "closed") -> None:
    assert points.by(STATUS, "mcp.connection.duration") == {end: 1}
    assert points.sum("mcp.connection.errors") == 0
    assert_nothing_is_open(points)


def assert_measured(points: Points, exchange: Exchange) -> None:
    """One good call, its bytes and those of its reply."""
    assert points.by(STATUS, "mcp.requests.total") == {"ok": 1}
    assert [point.total for point in points.select("mcp.request.size")] == [len(BODY)]
    assert [point.total for point in points.select("mcp.response.size")] == [len(exchange.reply)]


def test_a_client_that_leaves_while_its_request_is_read_has_made_none(run: Any, collect: Collect) -> None:
    client_disconnect = import_module("starlette.requests").ClientDisconnect
    exchange = Exchange(says=[{"type": "http.request", "body": BODY[:20], "more_body": True}, GONE])
    run(lambda: exchange.post(raising(client_disconnect)))
    points = collect()
    assert_closed(points)
    assert points.sum("mcp.requests.total") == 0


async def _sleeps(context: Any) -> None:
    await anyio.sleep(30)


async def _notifies(context: Any) -> None:
    await context.session.send_log_message("info", "as an event")


async def _fails(context: Any) -> None:
    raise RuntimeError


async def _raises_instead(context: Any) -> None:
    try:
        await anyio.sleep(30)
    finally:
        raise RuntimeError("not a cancellation any more")


async def _answers_all_the_same(context: Any) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.2)


@pytest.mark.parametrize(
    ("tool", "status"),
    [
        (_sleeps, "cancelled"),
        (_raises_instead, "cancelled"),
        (_answers_all_the_same, "ok"),
    ],
    ids=["sleeps", "raises instead", "answers all the same"],
)
def test_a_client_that_leaves_while_its_tool_is_at_work_cancels(
    tool: Callable[[Any], Awaitable[None]], status: str, run: Any, collect: Collect
) -> None:
    exchange = Exchange(tool)

    async def leave() -> None:
        await exchange.is_called.wait()
        exchange.leaves.set()

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            await exchange.post()

    run(scenario)
    points = collect()
    assert_closed(points)
    assert points.by(STATUS, "mcp.requests.total") == {status: 1}


def test_an_exchange_cut_from_outside_has_lost_its_request(run: Any, collect: Collect) -> None:
    exchange = Exchange(_sleeps)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.post)
            await exchange.is_called.wait()
            tasks.cancel_scope.cancel()

    run(scenario)
    points = collect()
    assert_closed(points, "shutdown")
    assert points.by(STATUS, "mcp.requests.total") == {"connection_lost": 1}


def test_a_send_that_raises_after_the_clients_end_is_no_crash(run: Any, collect: Collect) -> None:
    async def notifies_and_sleeps(context: Any) -> None:
        await context.session.send_log_message("info", "as an event")
        await anyio.sleep(30)

    exchange = Exchange(notifies_and_sleeps)

    async def send(message: Any) -> None:
        exchange.leaves.set()
        raise OSError

    exchange.send = send
    run(lambda: exchange.post(raising(Exception)))
    points = collect()
    assert_closed(points)
    assert points.by(STATUS, "mcp.requests.total") == {"cancelled": 1}


def test_a_reply_to_a_request_that_took_too_long_is_the_reply(run: Any, collect: Collect) -> None:
    """In JSON mode an error is answered though the scope around it is cancelled."""

    def fails() -> None:
        time.sleep(0.3)
        raise RuntimeError

    async def works_in_a_thread(context: Any) -> None:
        await anyio.to_thread.run_sync(fails)

    exchange = Exchange(works_in_a_thread, json=True)

    async def scenario() -> None:
        with anyio.move_on_after(0.1):
            await exchange.post()

    run(scenario)
    points = collect()
    assert b"-32603" in exchange.reply
    assert points.by(STATUS, "mcp.requests.total") == {"server_error": 1}
    assert_nothing_is_open(points)


def test_a_tool_that_sees_that_its_client_is_gone_is_cancelled(run: Any, collect: Collect) -> None:
    async def looks(context: Any) -> None:
        exchange.leaves.set()
        while not await context.request.is_disconnected():
            await anyio.sleep(0.01)
        raise RuntimeError

    exchange = Exchange(looks, json=True)
    run(lambda: exchange.post(raising(OSError)))
    points = collect()
    assert_closed(points)
    assert points.by(STATUS, "mcp.requests.total") == {"cancelled": 1}


@pytest.mark.parametrize("copies", [False, True], ids=["as it is", "copied"])
def test_a_server_that_answers_for_another_in_its_scope_gets_its_own_answer(
    copies: bool, run: Any, collect: Collect
) -> None:
    inner = Exchange()

    async def asks(context: Any) -> None:
        inner.scope = context.request.scope
        await inner.post(copying if copies else handling)

    outer = Exchange(asks)
    run(lambda: outer.post(copying if copies else handling))
    points = collect()
    assert points.by(STATUS, "mcp.requests.total") == {"ok": 2}
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 2}
    assert_nothing_is_open(points)
    for exchange in (inner, outer):
        assert json.loads(exchange.reply)["result"]["content"][0]["text"] == "done"
    assert sum(point.total for point in points.select("mcp.response.size")) == len(inner.reply) + len(outer.reply)


def handling(manager: Any) -> Any:
    return manager.handle_request


def copying(manager: Any) -> Any:
    """A manager whose scope somebody copies behind the SDK's edge."""
    original = manager._handle_request

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        await original(dict(scope), receive, send)

    manager._handle_request = handle
    return manager.asgi_app


def test_nothing_of_a_cancelled_tool_is_kept(collect: Collect, monkeypatch: pytest.MonkeyPatch) -> None:
    # The records that pytest keeps have the exception, too.
    monkeypatch.setattr(logging.getLogger("mcp.server.runner"), "disabled", True)

    class Local:
        pass

    locals_: list[weakref.ref[Local]] = []

    async def raises(context: Any) -> None:
        local = Local()
        locals_.append(weakref.ref(local))
        # A cancellation is kept by the SDK until the collector comes; the application's own error is not.
        with suppress(BaseException):
            await anyio.sleep(30)
        raise RuntimeError

    exchange = Exchange(raises)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.post)
            await exchange.is_called.wait()
            exchange.leaves.set()

    gc.collect()
    gc.disable()
    try:
        anyio.run(scenario)
        assert [local() for local in locals_] == [None]
    finally:
        gc.enable()
    assert collect().by(STATUS, "mcp.requests.total") == {"cancelled": 1}


@pytest.mark.parametrize("json", [False, True], ids=["SSE", "JSON"])
@pytest.mark.parametrize("tool", [the_whole_way, _notifies, _fails], ids=["the whole way", "notifies", "fails"])
def test_an_exchange_leaves_nothing_to_the_collector(
    json: bool, tool: Callable[[Any], Awaitable[None]], collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mcp.server.runner"), "disabled", True)
    exchange = Exchange(tool, json=json)
    gc.collect()
    gc.disable()
    try:
        anyio.run(exchange.post)
        ours = "opentelemetry_instrumentation_mcp.sdk"
        kept = [type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith(ours)]
    finally:
        gc.enable()
    assert exchange.reply
    assert [name for name in kept if name in ("Answer", "_AnswerBehind", "_Exchange")] == []


def test_a_tool_that_nobody_finishes_is_no_fault(collect: Collect, caplog: pytest.LogCaptureFixture) -> None:
    class Waits:
        def __await__(self) -> Any:
            yield

    async def waits(context: Any) -> None:
        await Waits()

    exchange = Exchange(waits)
    made: list[Any] = []

    async def scenario() -> None:
        def around(manager: Any) -> Any:
            async def app(*args: Any) -> None:
                made.append(manager.asgi_app(*args))
                made[0].send(None)

            return app

        exchange.json = True
        await exchange.post(around)

    anyio.run(scenario)
    made[0].close()
    points = collect()
    assert_nothing_is_open(points)
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry_instrumentation_mcp")]


def test_a_notification_after_the_end_is_none(run: Any, collect: Collect) -> None:
    contexts: list[Any] = []

    async def keeps(context: Any) -> None:
        contexts.append(context)

    exchange = Exchange(keeps)

    async def scenario() -> None:
        await exchange.post()
        await contexts[0].session.send_log_message("info", "too late")

    run(scenario)
    points = collect()
    assert_closed(points)
    assert_measured(points, exchange)
    assert points.sum("mcp.notifications.total") == 0


@pytest.mark.parametrize("copies", [False, True], ids=["as it is", "copied"])
def test_a_scope_copied_by_the_application_costs_nothing(copies: bool, run: Any, collect: Collect) -> None:
    exchange = Exchange()
    scopes: list[Any] = [exchange.scope]

    def around(manager: Any) -> Any:
        original = manager._handle_request

        async def handle(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(dict(scope) if copies else scope)
            await original(scopes[-1], receive, send)

        manager._handle_request = handle
        return manager.asgi_app

    run(lambda: exchange.post(around))
    points = collect()
    assert_closed(points)
    assert_measured(points, exchange)
    ours = "opentelemetry_instrumentation_mcp"
    assert [key for scope in scopes[:1] for key in scope if key.startswith(ours)] == []
    # A copy may keep what the original had when it was made, and nothing of the exchange.
    assert [value.exchange for value in scopes[-1].values() if type(value).__module__.startswith(ours)] in ([], [None])
