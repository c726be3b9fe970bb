"""The metrics of a sampled request carry its own span as an exemplar."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from ..spans import CLIENT, SERVER, Spans, instrumented
from . import setups
from .generation import V2
from .setups import SETUPS, Setup

OVER_STREAMS = [each for each in SETUPS if each.transport != "stdio"]


def exemplars(data: Any, metric: str) -> set[str]:
    """The spans of its exemplars, in one collection."""
    return {
        f"{exemplar.span_id:016x}"
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for one in scope.metrics
        if one.name == metric
        for point in one.data.data_points
        if point.attributes is not None and point.attributes["mcp.method.name"] == "tools/call"
        for exemplar in point.exemplars
        if exemplar.span_id is not None
    }


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


def record(setup: Setup, spans: Spans, reader: InMemoryMetricReader) -> None:
    async def scenario() -> None:
        async with setups.connect(setup) as link:
            for _ in range(3):
                await link.session.call_tool("ok", {})

    with instrumented(spans, meter_provider=MeterProvider([reader])):
        anyio.run(scenario)


@pytest.mark.parametrize("setup", OVER_STREAMS, ids=str)
def test_of_both_sides(setup: Setup, reader: InMemoryMetricReader) -> None:
    spans = Spans()
    record(setup, spans, reader)
    data = reader.get_metrics_data()
    sides: list[tuple[str, str]] = [("server", SERVER), ("client", CLIENT)]
    # In process without streams 2.x makes no CLIENT span.
    for side, kind in sides[: 1 if setup.name == "memory-2026" else 2]:
        found = exemplars(data, f"mcp.{side}.operation.duration")
        assert found
        assert found <= {span.id for span in spans.of(kind, "tools/call")}


def test_what_is_not_sampled_has_none(reader: InMemoryMetricReader) -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    record(next(each for each in SETUPS if each.name == "http"), spans, reader)
    assert spans.all == []
    assert exemplars(reader.get_metrics_data(), "mcp.server.operation.duration") == set()


@pytest.mark.parametrize("setup", OVER_STREAMS, ids=str)
def test_nothing_of_a_request_is_left_in_the_context_of_its_caller(setup: Setup) -> None:
    spans = Spans()

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.call_tool("fail", {})
            with spans.tracer.start_as_current_span("after"):
                pass
            with anyio.move_on_after(0.05):
                await link.session.call_tool("slow", {"seconds": 0.1})
            with spans.tracer.start_as_current_span("later"):
                pass
            for _ in range(2):
                await link.session.call_tool("ok", {})
            # Until the server is done with what was given up.
            await anyio.sleep(0.1)

    with instrumented(spans):
        anyio.run(scenario)
    assert spans.named("after").parent == ""
    assert spans.named("later").parent == ""
    calls = spans.of(SERVER if V2 and setup.name == "memory-2026" else CLIENT, "tools/call")
    assert {span.parent for span in calls} == {""}
