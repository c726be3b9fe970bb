"""Without somebody who wants spans there is nothing of them: not a module, not a patch, not a key on the wire."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler

from opentelemetry_instrumentation_mcp.core.environment_variables import OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT

from ..spans import CLIENT, SERVER, Spans, instrumented
from . import setups
from .generation import V2
from .setups import HANDSHAKE
from .snapshot import import_everything, leftovers, snapshot
from .test_uninstrument import in_a_fresh_process

HTTP = next(each for each in HANDSHAKE if each.name == "http")

_BEGIN = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry_instrumentation_mcp import MCPInstrumentor

exporter = InMemorySpanExporter()
with_exporter, without = TracerProvider(), TracerProvider()
with_exporter.add_span_processor(SimpleSpanProcessor(exporter))
"""
_USE = """
import json
import anyio
from tests.sdk import setups
from tests.sdk.setups import SETUPS

async def use():
    async with setups.connect(next(each for each in SETUPS if each.name == "http")) as link:
        seen = []
        line = link.wire.line
        link.wire.line = lambda text, *, to_server: (seen.append(text), line(text, to_server=to_server))
        # What an HTTP server in front of this client has taken over: somebody who does not want to be sampled.
        parent = trace.NonRecordingSpan(trace.SpanContext(1, 2, True, trace.TraceFlags(0)))
        with trace.use_span(parent):
            await link.session.call_tool("ok", {})
        return seen
"""
_REPORT = """
seen = anyio.run(use)
ours = [name for name in sys.modules if name.startswith("opentelemetry_instrumentation_mcp.") and "mcp.tracing" in name]
ours += [name for name in sys.modules if name.startswith("opentelemetry_instrumentation_mcp.") and "spans" in name]
print(sorted(ours))
assert any("tools/call" in str(text) for text in seen)
print([text for text in map(str, seen) if "traceparent" in text])
"""
_IDLE = "['opentelemetry_instrumentation_mcp.sdk.spans']\n"


@pytest.mark.parametrize(
    "instrument",
    [
        "MCPInstrumentor().instrument()",
        "MCPInstrumentor().instrument(tracer_provider=trace.NoOpTracerProvider())",
        "MCPInstrumentor().instrument(tracer_provider=without)",
        pytest.param(
            "trace.set_tracer_provider(without); MCPInstrumentor().instrument()",
            marks=pytest.mark.skipif(V2, reason="2.x makes its own spans with whatever provider there is"),
        ),
    ],
)
def test_nothing_is_imported_and_nothing_is_propagated(instrument: str) -> None:
    printed = in_a_fresh_process(_BEGIN + instrument + "\n" + _USE + _REPORT)
    idle, propagated = printed.splitlines()
    assert idle + "\n" == _IDLE
    if V2:
        # The SDK passes on what is current, as it does without this package.
        bare = in_a_fresh_process(_BEGIN + _USE + _REPORT).splitlines()[1]
        assert propagated == bare
        assert "-01'" not in propagated
    else:
        assert propagated == "[]"


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_provider_is_found_whenever_it_is_set(when: str) -> None:
    setting = "trace.set_tracer_provider(with_exporter)\n"
    code = _BEGIN
    for step, own in (("before", "MCPInstrumentor().instrument()\n"), ("between", _USE), ("after", "")):
        code += (setting if step == when else "") + own
    printed = in_a_fresh_process(
        code
        + """
async def use_twice():
    with trace.get_tracer("test").start_as_current_span("test"):
        async with setups.connect(next(each for each in SETUPS if each.name == "memory")) as link:
            await link.session.call_tool("ok", {})
anyio.run(use_twice)
spans = [span for span in exporter.get_finished_spans() if "tools/call" in span.name]
print([(span.kind.name, span.context.trace_id == exporter.get_finished_spans()[-1].context.trace_id) for span in spans])
print([span.attributes.get("gen_ai.operation.name") for span in spans])
"""
    )
    assert printed == "[('SERVER', True), ('CLIENT', True)]\n['execute_tool', 'execute_tool']\n"


@pytest.mark.skipif(not V2, reason="1.x makes no spans that could be added to")
@pytest.mark.parametrize("where", ["variable", "option"])
def test_enrichment_can_be_switched_off(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with setups.connect(HTTP) as link:
            await link.session.call_tool("ok", {})

    def added() -> set[str]:
        spans = Spans()
        options: dict[str, Any] = {"span_enrichment": False} if where == "option" else {}
        with instrumented(spans, **options):
            anyio.run(scenario)
        keys = {key for kind in (SERVER, CLIENT) for key in spans.one(kind, "tools/call").attributes}
        return {key for key in keys if key.startswith(("network.", "server.", "client."))}

    if where == "variable":
        assert added()
        monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT, "false")
    assert added() == set()


def test_every_class_and_module_is_as_it_was() -> None:
    import_everything()
    before = snapshot()
    for _ in range(2):
        with instrumented(Spans()):
            during = snapshot()
            assert {name for name, value in before.items() if during[name] is not value}
        after = snapshot()
        assert after.keys() == before.keys()
        assert [name for name, value in before.items() if after[name] is not value] == []
    assert leftovers() == []


class Faulty(Sampler):
    """A part of somebody's pipeline that raises."""

    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug in a sampler")

    def get_description(self) -> str:
        return "faulty"


class FaultyEnd(SpanProcessor):
    """Likewise, at the end of a span."""

    def on_end(self, span: Any) -> None:
        raise RuntimeError("a bug in a processor")


@pytest.mark.skipif(V2, reason="2.x lets its spans' errors reach the application")
@pytest.mark.parametrize("fault", ["sampler", "processor"])
def test_a_fault_in_the_pipeline_costs_a_span_and_no_call(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> str:
        async with setups.connect(HTTP) as link:
            return str((await link.session.call_tool("ok", {})).content[0].text)

    spans = Spans(**({"sampler": Faulty()} if fault == "sampler" else {}))
    if fault == "processor":
        spans.provider.add_span_processor(FaultyEnd())
    with instrumented(spans, faults=True):
        assert anyio.run(scenario) == "fine"
    assert any("RuntimeError at test_spans_off.py" in record.getMessage() for record in caplog.records)
