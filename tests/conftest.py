"""Fixtures for all tests."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from .points import Points


@pytest.fixture(scope="session", autouse=True)
def say_what_is_tested(record_testsuite_property: Callable[[str, object], None]) -> None:
    """For who reads the report (``--junitxml``)."""
    record_testsuite_property("python", platform.python_version())
    record_testsuite_property("mcp", version("mcp"))


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
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
