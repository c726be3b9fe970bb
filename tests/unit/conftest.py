"""Fixtures of the unit tests: a provider that can be read, a recorder on it, and no memory of earlier failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.limits import Limits

from ..points import Points


@pytest.fixture(autouse=True)
def forget_earlier_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reports are rate-limited per process; a test must not depend on which one ran before it.
    monkeypatch.setattr("opentelemetry_instrumentation_mcp.core.fail_open._reports", {})


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


@pytest.fixture
def recorder(provider: MeterProvider) -> Iterator[Recorder]:
    recorder = Recorder(provider, Limits())
    yield recorder
    recorder.retire()


@pytest.fixture
def collect(reader: InMemoryMetricReader) -> Callable[[], Points]:
    return lambda: Points.of(reader)


@pytest.fixture
def nothing_is_swallowed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # The recorder contains its own failures; a test must not pass because of that.
    yield
    assert not [record for record in caplog.get_records("call") if "a metric was lost" in record.getMessage()]
