"""fastmcp 3 and 4 make spans of their own: one of each side remains, whichever is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..spans import CLIENT, SERVER, Spans, instrumented, spans_from_json
from . import setups
from .generation import V2

fastmcp: Any = pytest.importorskip("fastmcp")

MAJOR = int(version("fastmcp").split(".")[0])
RELEASE = tuple(map(int, version("fastmcp").split(".")[:2]))

ONCE = ("prompts/list", "prompts/get", "resources/list", "resources/read")


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans):
        yield spans


def build() -> Any:
    server = fastmcp.FastMCP("fast")

    async def ok() -> str:
        return "fine"

    async def fail() -> str:
        raise ValueError("this tool always fails")

    def greeting() -> str:
        return "hello"

    def readme() -> str:
        return "text"

    server.tool(ok)
    server.tool(fail)
    server.prompt(greeting)
    server.resource("memo://readme")(readme)
    return server


async def use(client: Any) -> None:
    await client.list_tools()
    await client.list_prompts()
    await client.list_resources()
    await client.get_prompt("greeting")
    await client.read_resource("memo://readme")
    for _ in range(3):
        await client.call_tool("ok", {})
    # Said by a result, and refused.
    for name in ("fail", "no_such_tool"):
        with suppress(Exception):
            await client.call_tool(name, {})


STDIO_SERVER = """
import sys
from pathlib import Path
from tests.sdk.test_spans_fastmcp import build
from tests.spans import Spans, instrumented, spans_to_json
spans = Spans()
try:
    with instrumented(spans):
        build().run("stdio", show_banner=False)
finally:
    Path(sys.argv[1]).write_text(spans_to_json(spans.all))
"""


@pytest.mark.parametrize("transport", ["memory", "stdio", "http", "stateless"])
def test_a_call_has_one_span_on_each_side(transport: str, spans: Spans, tmp_path: Path) -> None:
    server, report = build(), tmp_path / "spans.json"

    async def call(target: Any) -> None:
        with spans.tracer.start_as_current_span("test"):
            async with fastmcp.Client(target) as client:
                await use(client)

    async def scenario() -> None:
        if transport == "memory":
            await call(server)
            return
        if transport == "stdio":
            stdio: Any = import_module("fastmcp.client.transports").StdioTransport
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
            arguments = ["-c", STDIO_SERVER, str(report)]
            await call(stdio(sys.executable, arguments, env=environment, keep_alive=False))
            return
        # Outside of the span: what a server runs in is no request's.
        async with setups.serve(server.http_app(stateless_http=transport == "stateless")) as base:
            await call(f"{base}/mcp")

    anyio.run(scenario)
    if transport == "stdio":
        spans.add(spans_from_json(report.read_text()))
    for kind in (SERVER, CLIENT):
        counts = spans.count(kind)
        assert counts["tools/call"] == 5, kind
        assert {method: counts[method] for method in ONCE} == dict.fromkeys(ONCE, 1), kind
    assert spans.count(CLIENT)["tools/list"] == 1
    # Servers ask themselves for their tools before they call one: fastmcp 3 does, and fastmcp 4 over HTTP.
    senders = {span.id for span in spans.of(CLIENT)}
    assert len([span for span in spans.of(SERVER, "tools/list") if span.parent in senders]) == 1
    for span in spans.of(SERVER, "tools/call"):
        assert span.trace == spans.named("test").trace
        assert span.parent in senders
    for kind in (SERVER, CLIENT):
        assert [span.error for span in spans.of(kind, "tools/call")].count(None) == 3, kind


@pytest.mark.skipif(MAJOR < 3, reason="fastmcp 2 makes no spans")
def test_the_span_of_a_server_has_what_fastmcp_says(spans: Spans) -> None:
    async def scenario() -> None:
        async with fastmcp.Client(build()) as client:
            await client.call_tool("ok", {})

    anyio.run(scenario)
    span = spans.one(SERVER, "tools/call")
    assert span.name == "tools/call ok"
    assert span.attributes["fastmcp.server.name"] == "fast"
    assert span.attributes["gen_ai.operation.name"] == "execute_tool"
    assert span.scope == ("fastmcp" if V2 else "opentelemetry_instrumentation_mcp")


@pytest.mark.skipif(MAJOR < 3, reason="fastmcp 2 makes no spans")
def test_both_spans_of_a_request_have_its_id_and_the_code_of_an_error(spans: Spans) -> None:
    async def scenario() -> None:
        async with fastmcp.Client(build()) as client:
            await client.call_tool("ok", {})
            with suppress(Exception):
                await client.get_prompt("no_such_prompt")

    anyio.run(scenario)
    for method in ("tools/call", "prompts/get"):
        sent, served = spans.one(CLIENT, method), spans.one(SERVER, method)
        assert isinstance(sent.attributes["jsonrpc.request.id"], str)
        assert sent.attributes["jsonrpc.request.id"] == served.attributes["jsonrpc.request.id"]
        assert ("rpc.response.status_code" in sent.attributes) == (method == "prompts/get")
        assert sent.attributes.get("rpc.response.status_code") == served.attributes.get("rpc.response.status_code")
    assert spans.one(CLIENT, "tools/call").attributes["gen_ai.operation.name"] == "execute_tool"


@pytest.mark.skipif(MAJOR < 3, reason="fastmcp 2 makes no spans")
def test_what_a_mounted_server_handles_says_its_own_name_not_that_of_the_request(spans: Spans) -> None:
    outer = fastmcp.FastMCP("outer")
    outer.mount(build(), **{"namespace" if MAJOR >= 3 else "prefix": "in"})

    async def scenario() -> None:
        async with fastmcp.Client(outer) as client:
            await client.call_tool("in_ok", {})
            with suppress(Exception):
                await client.call_tool("in_fail", {})

    anyio.run(scenario)
    below = SERVER if RELEASE < (4, 2) else "INTERNAL"
    senders = {span.id for span in spans.of(CLIENT)}
    for tool, error in (("ok", None), ("fail", "tool_error")):
        (request,) = (span for span in spans.of(SERVER, "tools/call") if span.parent in senders and tool in span.name)
        mounted = spans.named(f"tools/call {tool}")
        assert (mounted.kind, mounted.trace) == (below, request.trace)
        assert request.attributes["gen_ai.tool.name"] == f"in_{tool}"
        assert mounted.attributes["gen_ai.tool.name"] == tool
        assert "rpc.response.status_code" not in mounted.attributes
        assert mounted.error == request.error == error


@pytest.mark.skipif(MAJOR < 3, reason="fastmcp 2 makes no spans")
def test_nothing_of_it_is_left_in_fastmcp() -> None:
    modules: list[Any] = [import_module("fastmcp.server.telemetry"), import_module("fastmcp.client.telemetry")]
    before = [module.get_tracer for module in modules]
    with instrumented(Spans()):
        assert [module.get_tracer for module in modules] != before
    assert [module.get_tracer for module in modules] == before
