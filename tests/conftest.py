"""Fixtures for all tests."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from . import ports
from .points import Points


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the report (``--junitxml``) say what is tested; once, and where tests run in several processes as well."""
    for item in items[:1]:
        item.user_properties += [("python", platform.python_version()), ("mcp", version("mcp"))]


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


@pytest.fixture
def free_port() -> int:
    """A port of the loopback on which nobody listens."""
    return ports.free_port()
