"""A sampled span around a request gives the request's histograms an exemplar, in every collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from . import setups
from .generation import V2
from .setups import SETUPS, Setup


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=provider)
    try:
        yield reader
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


def _spans(reader: InMemoryMetricReader, metric: str) -> set[tuple[int | None, int | None]]:
    data = reader.get_metrics_data()
    points: list[Any] = [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for one in scope.metrics
        if one.name == metric
        for point in one.data.data_points
    ]
    return {(exemplar.trace_id, exemplar.span_id) for point in points for exemplar in point.exemplars}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_each_collection_has_an_exemplar_of_a_clients_requests(setup: Setup, reader: InMemoryMetricReader) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

    async def scenario() -> None:
        # On 1.x a request ends in the session's own task, which has the span that was current when it was opened.
        with tracer.start_as_current_span("session") as span:
            async with setups.connect(setup) as link:
                for _ in range(3):
                    with tracer.start_as_current_span("step") if V2 else nullcontext(span) as span:
                        for _ in range(5):
                            await link.session.call_tool("ok", {})
                    exemplar = span.get_span_context()
                    seen = _spans(reader, "mcp.client.operation.duration")
                    assert (exemplar.trace_id, exemplar.span_id) in seen

    anyio.run(scenario)
