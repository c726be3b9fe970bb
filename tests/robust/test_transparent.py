"""An instrumented peer says the same as a bare one, byte for byte, and the application sees the same exceptions.

The same corpus goes to both: valid and invalid messages, malformed JSON, wrong types, huge, deep, with ids that are
used twice and answers to questions nobody asked, before the session is open and after.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import Points
from ..sdk import example, setups
from ..sdk.generation import V2, ClientSession, SDKError, Server, memory_streams, types
from ..sdk.http import HEADERS, low_level
from ..sdk.setups import SETUPS
from .corpus import corpus
from .hostile import INITIALIZED, initialize

Collect = Callable[[], Points]

LAST = json.dumps({"jsonrpc": "2.0", "id": "the last", "method": "ping"}).encode()
MESSAGES = 240


@contextlib.contextmanager
def peer(kind: str, instrumented: bool, **pipes: Any) -> Generator[Any]:
    """A server in a process of its own, which ends with the test."""
    command = [sys.executable, "-m", "tests.robust.peer", kind, *(["--instrumented"] if instrumented else [])]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(setups.HERE.parent.parent)
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def over_stdio(messages: list[bytes], instrumented: bool) -> list[bytes]:
    """All that a stdio server writes, line by line, sorted: handlers run side by side."""
    lines: list[bytes] = []
    done = threading.Event()
    with peer("stdio", instrumented, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        output = server.stdout

        def read() -> None:
            for line in output:
                lines.append(line)
                if b'"the last"' in line:
                    done.set()
            done.set()

        reader = threading.Thread(target=read)
        reader.start()
        for message in (json.dumps(initialize()).encode(), json.dumps(INITIALIZED).encode(), *messages):
            server.stdin.write(message + b"\n")
        server.stdin.flush()
        # What runs in threads of its own is done soon after what came last.
        done.wait(0.5)
        server.stdin.write(LAST + b"\n")
        server.stdin.flush()
        assert done.wait(30)
        server.stdin.close()
        assert server.wait(30) == 0
        reader.join(30)
    return sorted(lines)


def test_a_stdio_server_writes_the_same_bytes() -> None:
    messages = [each for each in corpus(MESSAGES) if b"\n" not in each]
    bare, instrumented = (over_stdio(messages, each) for each in (False, True))
    assert len(bare) > MESSAGES / 4
    assert instrumented == bare


def over_http(kind: str, messages: list[bytes], headers: dict[str, str], instrumented: bool) -> list[Any]:
    """Status, content type and body of every answer, in order; what the server chose at random left out."""
    answers: list[Any] = []
    with peer(kind, instrumented, stderr=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stderr is not None
        told: bytes = next(line for line in server.stderr if line.startswith(b"http://"))
        url = urlsplit(told.decode().strip())
        assert url.hostname is not None
        # The rest of what it has to say about the corpus is nobody's business, but it must not wait for a reader.
        threading.Thread(target=server.stderr.read, daemon=True).start()
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        headers = dict(headers)
        for message in messages:
            connection.request("POST", "/mcp", message, headers)
            response = connection.getresponse()
            body = response.read()
            session = response.getheader("mcp-session-id")
            if session is not None and "mcp-session-id" not in headers:
                headers["mcp-session-id"] = session
            answers.append((response.status, response.getheader("content-type"), _without_chance(body, session)))
        connection.close()
        server.stdin.close()
        assert server.wait(30) == 0
    return answers


def _without_chance(body: bytes, session: str | None) -> bytes:
    if session is not None:
        body = body.replace(session.encode(), b"SESSION")
    # A server that starts again has another address; 2.x tells the time in nothing else than this.
    return re.sub(rb"127\.0\.0\.1:\d+", b"ADDRESS", body)


OPENING = [json.dumps(initialize()).encode(), json.dumps(INITIALIZED).encode()]
KINDS: dict[str, tuple[list[bytes], dict[str, str]]] = {
    "http": (OPENING, HEADERS),
    "http-stateless-json": ([], HEADERS),
    **({"http-2026": ([], HEADERS | {"mcp-protocol-version": "2026-07-28"})} if V2 else {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_http_server_answers_with_the_same_bytes(kind: str) -> None:
    opening, headers = KINDS[kind]
    # Over HTTP an id that is in use is another matter in each order; one after another none is.
    messages = [*opening, *corpus(MESSAGES // 2)]
    bare, instrumented = (over_http(kind, messages, headers, each) for each in (False, True))
    assert len({status for status, _, _ in bare}) > 1
    assert instrumented == bare


class Told(Exception):
    """An exception of the application's own."""


def shown(error: BaseException | None) -> Any:
    """What an application can tell exceptions by."""
    if error is None:
        return None
    inner = getattr(error, "exceptions", ())
    return (
        type(error),
        repr(getattr(error, "error", error)) if not inner else "",
        [shown(each) for each in inner],
        shown(error.__cause__),
        type(error.__context__),
        error.__suppress_context__,
    )


async def everything_that_raises(setup: setups.Setup) -> list[Any]:
    """The exceptions and results of calls that go wrong in every way."""
    found: list[Any] = []

    async def call(function: Callable[[], Any]) -> None:
        try:
            found.append(repr(await function()))
        except Exception as error:
            found.append(shown(error))

    async with setups.connect(setup) as link:
        session = link.session
        short: Any = 0.05 if V2 else timedelta(seconds=0.05)
        await call(lambda: session.call_tool("ok", {}))
        await call(lambda: session.call_tool("fail", {}))
        await call(lambda: session.call_tool("nobody", {}))
        await call(lambda: session.call_tool("large", {"size": "much"}))
        await call(lambda: session.get_prompt("broken"))
        await call(lambda: session.get_prompt("nobody"))
        await call(lambda: session.read_resource("memo://nothing"))
        await call(lambda: example.raw(session, "nothing/known"))
        await call(lambda: example.raw(session, "tools/call", {"name": 5}))
        await call(lambda: session.call_tool("slow", {"seconds": 0.2}, read_timeout_seconds=short))
        with anyio.move_on_after(0.05) as scope:
            await session.call_tool("slow", {"seconds": 0.2})
        found.append(scope.cancelled_caught)
        if setup.asks_back:
            await call(lambda: session.call_tool("ask", {}))
        progress: list[Any] = []

        async def told(*values: Any) -> None:
            progress.append(values)

        await call(lambda: session.call_tool("tell", {}, progress_callback=told))
        # What was given up is still at work in some servers; a session that ends meanwhile ends in more than one way.
        await anyio.sleep(0.25)
        found.append(progress)
    await call(lambda: session.send_ping() if not setup.modern else session.list_tools())
    return found


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_an_application_sees_the_same_results_and_exceptions(setup: setups.Setup) -> None:
    bare = anyio.run(everything_that_raises, setup)
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider([InMemoryMetricReader()]))
    try:
        instrumented = anyio.run(everything_that_raises, setup)
    finally:
        instrumentor.uninstrument()
    assert _unique(instrumented) == _unique(bare)


def _unique(found: Any) -> str:
    # Names of ports, sessions and objects differ from run to run.
    return re.sub(r"0x[0-9a-f]+|:\d{4,5}\b|[0-9a-f]{32}", "*", repr(found))


def test_the_exception_of_a_stream_is_the_very_object(collect: Collect) -> None:
    """A stream of the application's own breaks in its own way, and its owner recognises the exception."""
    broken = Told("broken")

    class Breaking:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.is_broken = False

        async def __aenter__(self) -> Any:
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            await self.aclose()

        async def aclose(self) -> None:
            await self.inner.aclose()

        async def send(self, item: Any) -> None:
            if self.is_broken:
                raise broken
            await self.inner.send(item)

    async def scenario() -> None:
        server = low_level(example.build())
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            write = Breaking(near[1])
            async with ClientSession(near[0], write) as session:
                await session.initialize()
                write.is_broken = True
                with pytest.raises(Told) as raised:
                    await session.send_ping()
                assert raised.value is broken
                assert broken.__cause__ is None
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    assert collect().sum("mcp.requests.active") == 0


@pytest.mark.skipif(not V2, reason="mcp 1.x has no middleware")
def test_a_middleware_sees_the_very_exception_and_the_very_parameters(collect: Collect) -> None:
    raised = Told("by a handler")
    seen: list[Any] = []

    async def call_tool(context: Any, params: Any) -> Any:
        seen.append(context)
        raise raised

    async def watch(context: Any, call_next: Any) -> Any:
        seen.append(context)
        try:
            return await call_next(context)
        except Told as error:
            seen.append(error)
            raise

    server = Server("own", on_call_tool=call_tool)
    server.middleware.append(watch)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                with contextlib.suppress(SDKError):
                    await example.raw(session, "tools/call", {"name": "x", "arguments": {}})
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    assert seen[-1] is raised


class Recorded:
    """A stream that keeps a copy of every message that passes, as it was, and the message itself."""

    def __init__(self, inner: Any, kept: list[tuple[Any, Any]]) -> None:
        self._inner = inner
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Any:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> Any:
        return await self._inner.__aexit__(*exc_info)

    async def send(self, item: Any) -> None:
        self._kept.append((item.message, copy.deepcopy(item.message)))
        await self._inner.send(item)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        item = await self._inner.__anext__()
        self._kept.append((item.message, copy.deepcopy(item.message)))
        return item

    async def receive(self) -> Any:
        item = await self._inner.receive()
        self._kept.append((item.message, copy.deepcopy(item.message)))
        return item


def messages_of_a_session() -> list[Any]:
    """Every message both sides of a session sent and got, each as it was when it passed and as it is at the end."""
    kept: list[tuple[Any, Any]] = []

    async def scenario() -> None:
        server = low_level(example.build())
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            ends = [Recorded(stream, kept) for stream in (*near, *far)]
            tasks.start_soon(server.run, ends[2], ends[3], server.create_initialization_options())
            async with ClientSession(ends[0], ends[1], **example.CALLBACKS) as session:
                await session.initialize()
                for name in ("ok", "fail", "nobody", "tell", "ask"):
                    await session.call_tool(name, {})
                meta = {"progressToken": 7, "example.org/own": {"deep": [1]}}
                await example.raw(session, "tools/call", {"name": "ok", "arguments": {}, "_meta": meta})
                await session.list_tools()
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    found: list[Any] = []
    for message, before in kept:
        assert message == before
        found.append(message.model_dump(exclude_unset=True))
    return sorted(found, key=repr)


def test_no_message_and_no_meta_is_changed_on_its_way(collect: Collect) -> None:
    instrumented = messages_of_a_session()
    assert collect().sum("mcp.requests.total")
    MCPInstrumentor().uninstrument()
    bare = messages_of_a_session()
    MCPInstrumentor().instrument(meter_provider=MeterProvider([InMemoryMetricReader()]))
    assert len(bare) > 30
    assert instrumented == bare


@pytest.mark.skipif(not V2, reason="mcp 1.x has no connection without streams")
def test_no_parameters_are_changed_where_they_are_handed_over_as_they_are(collect: Collect) -> None:
    """In process a 2026-07-28 request is no message: the handler gets what the caller gave."""
    got: list[Any] = []

    async def call_tool(context: Any, params: Any) -> Any:
        got.append(params.model_dump(by_alias=True, exclude_unset=True))
        return types.CallToolResult(content=[])

    setup = next(each for each in SETUPS if each.name == "memory-2026")

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            low_level(link.server).add_request_handler("tools/call", types.CallToolRequestParams, call_tool)
            params = {"name": "x", "arguments": {"deep": [1, {"a": 2}]}, "_meta": {"example.org/own": [1]}}
            before = copy.deepcopy(params)
            await example.raw(link.session, "tools/call", params)
            assert params == before
            assert got[0]["arguments"] == before["arguments"]
            assert got[0]["_meta"]["example.org/own"] == [1]
            assert not [key for key in got[0]["_meta"] if "otel" in key or key == "traceparent"]

    anyio.run(scenario)
    assert collect().sum("mcp.requests.total")
