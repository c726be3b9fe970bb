"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from .points import Points


@pytest.fixture
def collect() -> Iterator[Callable[[], Points]]:
    """The SDK of this process is instrumented; the value collects what was recorded."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=provider)
    try:
        yield lambda: Points.of(reader)
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
