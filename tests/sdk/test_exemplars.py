"""A sampled span around a request gives the request's histograms an exemplar, in every collection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from . import setups
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


def _traces(reader: InMemoryMetricReader, metric: str) -> set[int | None]:
    data = reader.get_metrics_data()
    points: list[Any] = [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for one in scope.metrics
        if one.name == metric
        for point in one.data.data_points
    ]
    return {exemplar.trace_id for point in points for exemplar in point.exemplars}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_each_collection_has_an_exemplar_of_a_clients_requests(setup: Setup, reader: InMemoryMetricReader) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            for _ in range(3):
                with tracer.start_as_current_span("agent step") as span:
                    for _ in range(5):
                        await link.session.call_tool("ok", {})
                assert span.get_span_context().trace_id in _traces(reader, "mcp.client.operation.duration")

    anyio.run(scenario)
