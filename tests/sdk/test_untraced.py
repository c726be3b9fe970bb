"""Spans of 2.x that nobody records cost less with this package, and a handler sees no difference.

The scenarios run in two processes for each transport, bare and instrumented: a global tracer provider is set once.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from opentelemetry_instrumentation_mcp.sdk.v2.untraced import Propagator

from .generation import V2
from .test_uninstrument import in_a_fresh_process

pytestmark = pytest.mark.skipif(not V2, reason="1.x makes no spans by itself")

_INSTRUMENT: Final = """
from opentelemetry_instrumentation_mcp import MCPInstrumentor
MCPInstrumentor().instrument()
"""
_SCENARIOS: Final = """
import json
import anyio
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from mcp.server._otel import otel_span
from tests.sdk import setups
from tests.sdk.setups import SETUPS

found = {}
seen = []

async def look() -> str:
    span = trace.get_current_span()
    of = span.get_span_context()
    seen.append([type(span).__name__, of.trace_id, of.span_id, span is trace.INVALID_SPAN, len(context.get_current())])
    return "looked"

async def leave() -> str:
    context.attach(baggage.set_baggage("left", "by a tool"))
    return "left"

async def fail() -> str:
    raise ValueError("of the tool's own")

def keep(name):
    found[name] = seen[:]
    seen.clear()

async def close_elsewhere():
    async def wait():
        with otel_span("abandoned", kind=trace.SpanKind.SERVER):
            await anyio.sleep(0)

    waiting = wait()
    waiting.send(None)
    context.attach(context.set_value("here", 1))
    waiting.close()
    return dict(context.get_current()).get("here")

async def main(setup):
    async with setups.connect(next(each for each in SETUPS if each.name == setup)) as link:
        for tool in (look, leave, fail):
            link.server.add_tool(tool)
        call = link.session.call_tool
        await link.session.list_tools()

        await call("look", {})
        keep("nothing")
        await call("look", {}, meta={"traceparent": f"00-{7:032x}-{9:016x}-01"})
        keep("incoming")
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(5, 6, False, trace.TraceFlags(1)))):
            await call("look", {})
        seen.append(trace.get_current_span() is trace.INVALID_SPAN)
        keep("own")
        await call("leave", {})
        seen.append(dict(baggage.get_all()))
        await call("look", {})
        keep("left")
        result = await call("fail", {})
        seen.append([result.is_error, result.content[0].text])
        keep("raised")

        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        await call("look", {})
        spans = [[span.name, span.kind.name] for span in exporter.get_finished_spans() if "look" in span.name]
        found["late"] = sorted(spans)

async def all_of(setup):
    async with anyio.create_task_group() as tasks:
        async def closing():
            found["closed"] = await close_elsewhere()
        tasks.start_soon(closing)
    await main(setup)

anyio.run(all_of, SETUP)
print(json.dumps(found))
"""


@cache
def seen(setup: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the scenarios see bare, and what they see instrumented."""
    code = f"SETUP = {setup!r}\n{_SCENARIOS}"
    bare, ours = (json.loads(in_a_fresh_process(before + code)) for before in ("", _INSTRUMENT))
    return bare, ours


@pytest.fixture(params=["memory", "memory-2026", "http", "http-2026"])
def both(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    return seen(request.param)


def test_nothing_is_current_in_a_handler(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    (bare,), (ours,) = both[0]["nothing"], both[1]["nothing"]
    assert ours[:4] == bare[:4] == ["NonRecordingSpan", 0, 0, True]
    # For the newer APIs the span that is none is a value in the context; here there is nothing.
    assert ours[4] <= bare[4]


def test_a_trace_that_comes_in_is_current_in_a_handler(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bare, ours = both
    assert ours["incoming"] == bare["incoming"]
    assert [each[:3] for each in ours["incoming"]] == [["NonRecordingSpan", 7, 9]]


def test_a_span_of_the_applications_own_goes_with_the_call(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bare, ours = both
    assert ours["own"] == bare["own"]
    assert ours["own"][0][1:3] == [5, 6]
    assert ours["own"][1] is True


def test_what_a_handler_leaves_in_its_context_ends_with_it(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bare, ours = both
    assert ours["left"][0] == bare["left"][0] == {}
    assert ours["left"][1][:4] == bare["left"][1][:4]


def test_what_a_handler_raises_comes_through(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    bare, ours = both
    assert ours["raised"] == bare["raised"]
    assert ours["raised"][0][0] is True


def test_a_provider_that_is_set_while_calls_are_made_gets_their_spans(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    bare, ours = both
    assert ours["late"] == bare["late"]
    assert ["tools/call look", "SERVER"] in ours["late"]


def test_a_coroutine_that_is_closed_elsewhere_leaves_that_context_alone(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    assert both[1]["closed"] == 1


def test_it_is_the_sdks_own_again_after_uninstrument() -> None:
    code = """
import mcp.server._otel, mcp.shared._otel, mcp.shared.jsonrpc_dispatcher
modules = (mcp.server._otel, mcp.shared.jsonrpc_dispatcher)
before = [module.otel_span is mcp.shared._otel.otel_span for module in modules]
MCPInstrumentor().uninstrument()
print(before, [module.otel_span is mcp.shared._otel.otel_span for module in modules])
"""
    assert in_a_fresh_process(_INSTRUMENT + code) == "[False, False] [True, True]\n"


_WHO_IS_CALLED: Final = """
import anyio
import mcp.server._otel as spans
from tests.sdk import setups
from tests.sdk.http import low_level
from tests.sdk.setups import SETUPS

called = []
original = spans.OpenTelemetryMiddleware.__call__

class Own(spans.OpenTelemetryMiddleware):
    async def __call__(self, ctx, call_next):
        called.append(ctx.method)
        return await original(self, ctx, call_next)

def somebodys(name, **options):
    called.append(name)
    return theirs(name, **options)

def wrapped(original, _, args, options):
    called.append(options["name"])
    return original(*args, **options)

async def main():
    async with setups.connect(next(each for each in SETUPS if each.name == "memory")) as link:
        call, low = link.session.call_tool, low_level(link.server)
        await call("ok", {})
        CHANGE
        await call("ok", {})
        print(called)

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("change", "called"),
    [
        ("pass", []),
        ("global theirs; theirs, spans.otel_span = spans.otel_span, somebodys", ["tools/call ok"]),
        ("import wrapt; spans.otel_span = wrapt.FunctionWrapper(spans.otel_span, wrapped)", ["tools/call ok"]),
        ("low.middleware[0] = Own()", ["tools/call"]),
        ("spans.OpenTelemetryMiddleware.__call__ = Own.__call__", ["tools/call"]),
    ],
    ids=[
        "nobody",
        "another function for spans",
        "a wrapper that is equal to it",
        "a class of the application's own",
        "another method",
    ],
)
def test_whoever_stands_in_the_middleware_is_called(change: str, called: list[str]) -> None:
    code = _WHO_IS_CALLED.replace("CHANGE", change)
    assert in_a_fresh_process(_INSTRUMENT + code) == f"{called}\n"


class _Other(TraceContextTextMapPropagator):
    """Somebody's own, who knows what it does."""


@pytest.mark.parametrize(
    ("propagator", "is_known"),
    [
        (CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]), True),
        (CompositePropagator([TraceContextTextMapPropagator()]), True),
        (CompositePropagator([W3CBaggagePropagator(), TraceContextTextMapPropagator()]), False),
        (CompositePropagator([W3CBaggagePropagator()]), False),
        (CompositePropagator([_Other(), W3CBaggagePropagator()]), False),
        (CompositePropagator([]), False),
        (_Other(), False),
    ],
)
def test_only_the_propagators_by_default_are_known(propagator: TextMapPropagator, is_known: bool) -> None:
    known, before = Propagator(), propagate.get_global_textmap()
    assert known.is_known()
    propagate.set_global_textmap(propagator)
    try:
        assert known.is_known() is is_known
    finally:
        propagate.set_global_textmap(before)
    assert known.is_known()
