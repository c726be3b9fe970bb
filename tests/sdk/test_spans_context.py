"""Whose child a span is: across a session's two sides, beside HTTP's own spans, and with many traces at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from ..spans import CLIENT, SERVER, FoundSpan, Spans, instrumented
from . import example, setups
from .example import raw
from .generation import V2, VERSION, Context
from .http import HEADERS, INITIALIZE, httpx
from .setups import SETUPS, Setup

MEMORY, HTTP, SSE = (next(each for each in SETUPS if each.name == name) for name in ("memory", "http", "sse"))
# Those with two sides that make spans.
TRACED = [each for each in SETUPS if each.transport != "stdio" and each.name != "memory-2026"]
CALLS = 200


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans):
        yield spans


@pytest.mark.parametrize("setup", TRACED, ids=str)
def test_among_interleaved_calls_no_span_gets_a_foreign_parent(setup: Setup, spans: Spans) -> None:
    async def work(number: int) -> str:
        with spans.tracer.start_as_current_span(f"inner {number}"):
            await anyio.sleep(number % 7 / 1000)
        return str(number)

    async def call(session: Any, number: int) -> None:
        with spans.tracer.start_as_current_span(f"outer {number}"):
            await anyio.sleep(number % 5 / 1000)
            result = await session.call_tool("work", {"number": number})
        assert result.content[0].text == str(number)

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            link.server.add_tool(work)
            await link.session.list_tools()
            async with anyio.create_task_group() as tasks:
                for number in range(CALLS):
                    tasks.start_soon(call, link.session, number)

    anyio.run(scenario)
    by_id = {(span.trace, span.id): span for span in spans.all}
    parents = {span.id: by_id.get((span.trace, span.parent)) for span in spans.all}
    found = {span.name: span for span in spans.all if span.name.startswith("inner")}
    assert len(found) == CALLS
    server_spans: set[str] = set()
    for number in range(CALLS):
        chain: list[FoundSpan] = [found[f"inner {number}"]]
        while (above := parents[chain[-1].id]) is not None:
            chain.append(above)
        inner, server, client, outer = chain
        assert (inner.name, outer.name) == (f"inner {number}", f"outer {number}")
        assert (server.kind, client.kind) == (SERVER, CLIENT)
        assert server.attributes["mcp.method.name"] == client.attributes["mcp.method.name"] == "tools/call"
        server_spans.add(server.id)
    assert len(server_spans) == CALLS


def meta_of(context: Any) -> dict[str, Any]:
    meta = context.request_context.meta
    if meta is None:
        return {}
    return dict(meta) if V2 else {key: value for key, value in meta.model_dump().items() if value is not None}


async def seen_meta(setup: Setup, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What a tool sees of the ``_meta`` it is called with, what a progress callback is told, and what was given."""
    seen: list[dict[str, Any]] = []
    told: dict[str, Any] = {}

    async def look(ctx: Any) -> str:
        seen.append(meta_of(ctx))
        await ctx.report_progress(1, 2, "half")
        return "seen"

    look.__annotations__["ctx"] = Context

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.update(done=done, total=total, message=message)

    params: dict[str, Any] = {"name": "look", "arguments": {}, "_meta": given}
    async with setups.connect(setup) as link:
        link.server.add_tool(look)
        await raw(link.session, "tools/call", params)
        await link.session.call_tool("look", {}, progress_callback=progress)
        await link.session.call_tool("look", {})
    return seen[0], {**seen[1], "told": told}, {**seen[2], "given": params["_meta"]}


@pytest.mark.parametrize("setup", [MEMORY, HTTP], ids=str)
def test_user_code_sees_the_meta_it_would_see_and_the_keys_of_the_propagators(setup: Setup) -> None:
    mine = {"example.com/mine": {"a": [1, None]}, "progressToken": "mine"}
    bare = anyio.run(seen_meta, setup, dict(mine))
    with instrumented(Spans()):
        spans = anyio.run(seen_meta, setup, dict(mine))
    for with_spans, without in zip(spans, bare, strict=True):
        added = with_spans.pop("traceparent")
        assert isinstance(added, str)
        assert len(added) == 55
        # 2.x propagates what is current even without an SDK, which is nothing here.
        assert with_spans == without
    assert mine == {"example.com/mine": {"a": [1, None]}, "progressToken": "mine"}


REMOTE = "00-11111111111111111111111111111111-2222222222222222-01"
OTHER = "00-33333333333333333333333333333333-4444444444444444-01"


class Instrumented:
    """An HTTP server with a span around each request, as an instrumentation of HTTP makes it, or without."""

    def __init__(self, spans: Spans, *, http_spans: bool) -> None:
        self._spans = spans
        self._http_spans = http_spans

    async def post(self, *messages: tuple[dict[str, Any], dict[str, str]]) -> None:
        """Open a session and post messages with these headers, one after another."""
        app = setups.http_app(example.build(), HTTP)
        if self._http_spans:
            asgi: Any = pytest.importorskip("opentelemetry.instrumentation.asgi")
            app = asgi.OpenTelemetryMiddleware(app, tracer_provider=self._spans.provider)
        async with setups.serve(app) as base, httpx.AsyncClient() as client:
            answer = await client.post(f"{base}/mcp", json=INITIALIZE, headers=HEADERS)
            session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
            initialized = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            for message, headers in ((initialized, {}), *messages):
                await client.post(f"{base}/mcp", json=message, headers={**HEADERS, **session, **headers})


def call(number: int, **meta: str) -> dict[str, Any]:
    params: dict[str, Any] = {"name": "ok", "arguments": {}}
    if meta:
        params["_meta"] = meta
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def by_request(spans: Spans) -> dict[str, FoundSpan]:
    return {span.attributes["jsonrpc.request.id"]: span for span in spans.of(SERVER, "tools/call")}


MESSAGES: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    (call(1, traceparent=REMOTE), {"traceparent": OTHER}),
    (call(2), {"traceparent": OTHER}),
    (call(3), {}),
)


@pytest.mark.skipif(V2, reason="2.x takes what is current for the parent, where the message brings none")
def test_the_parent_is_in_the_message_then_in_its_own_headers_and_never_that_of_the_session(spans: Spans) -> None:
    anyio.run(Instrumented(spans, http_spans=False).post, *MESSAGES)
    found = by_request(spans)
    assert found["1"].trace == "1" * 32
    assert found["1"].parent == "2" * 16
    assert found["2"].trace == "3" * 32
    assert found["2"].parent == "4" * 16
    assert found["3"].parent == ""
    assert spans.one(SERVER, "initialize").parent == ""
    assert all(span.links == [] for span in spans.all)


@pytest.mark.skipif(V2, reason="what 2.x links is its own affair")
def test_the_span_of_this_http_request_is_linked_or_the_parent(spans: Spans) -> None:
    anyio.run(Instrumented(spans, http_spans=True).post, *MESSAGES)
    http = {span.id: span for span in spans.all if "http" in span.scope or "asgi" in span.scope}
    posts = [span for span in http.values() if span.kind == SERVER and span.name.startswith("POST")]
    assert len(posts) == 5
    found = by_request(spans)
    # In its own trace, and linked to the request that brought it: one that began with the other header.
    assert found["1"].trace == "1" * 32
    assert found["1"].parent == "2" * 16
    (link,) = found["1"].links
    assert http[link].parent == "4" * 16
    assert http[found["2"].parent].trace == found["2"].trace == "3" * 32
    assert found["2"].links == []
    assert http[found["3"].parent].parent == ""
    # Each by a request of its own.
    assert len({link, found["2"].parent, found["3"].parent, spans.one(SERVER, "initialize").parent}) == 4


@pytest.mark.parametrize("setup", [HTTP, SSE], ids=str)
def test_spans_of_the_http_client_are_children_of_the_message_they_carry(setup: Setup, spans: Spans) -> None:
    instrumentation: Any = pytest.importorskip("opentelemetry.instrumentation.httpx")
    if not hasattr(instrumentation, "HTTPX2ClientInstrumentor" if V2 else "HTTPXClientInstrumentor"):
        pytest.skip("this release does not instrument the HTTP client of the SDK")
    if setup is SSE and VERSION < (1, 30):
        pytest.skip("before 1.30 the SDK posts by a method that others use as well")

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.call_tool("ok", {})

    kind = instrumentation.HTTPX2ClientInstrumentor if V2 else instrumentation.HTTPXClientInstrumentor
    one = kind()
    one.instrument(tracer_provider=spans.provider)
    try:
        anyio.run(scenario)
    finally:
        one.uninstrument()
    by_id = {span.id: span for span in spans.of(CLIENT)}
    posts = [span for span in spans.all if span.name == "POST" and span.kind == CLIENT]
    carried = [by_id[span.parent].name.removeprefix("MCP send ") for span in posts if span.parent]
    requests = ["initialize", "tools/call ok", "tools/list"]
    # 2.x has no span for a notification.
    assert carried == (requests if V2 else [requests[0], "notifications/initialized", *requests[1:]])
    assert len(posts) == 4
