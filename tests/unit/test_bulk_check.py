"""What is done where the SDK is not as known: values go through ``record``, a few at a time, and none is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from opentelemetry_instrumentation_mcp.metrics.buffers import histogram_writer, self_check
from opentelemetry_instrumentation_mcp.metrics.buffers.batch import Batch
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.drain_policy import CAP
from opentelemetry_instrumentation_mcp.metrics.buffers.histogram_writer import HistogramWriter, InstrumentReaders
from opentelemetry_instrumentation_mcp.metrics.buffers.sink import SLICE
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink

from ..points import Points

_AGGREGATION: Any = import_module("opentelemetry.sdk.metrics._internal.aggregation")
_CONSUMER: Any = import_module("opentelemetry.sdk.metrics._internal.measurement_consumer")
_MATCH: Any = import_module("opentelemetry.sdk.metrics._internal._view_instrument_match")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram_writer, "_verdict", None)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "opentelemetry_instrumentation_mcp")
    return caplog


class _Foreign(Histogram):
    """An instrument of somebody else's, around the SDK's."""

    def __init__(self, inner: Histogram) -> None:
        self._inner = inner
        self.recorded: list[float] = []

    def record(
        self, amount: float, attributes: Mapping[str, Any] | None = None, context: Context | None = None
    ) -> None:
        self.recorded.append(amount)
        self._inner.record(amount, attributes, context)


def _is_trusted(provider: MeterProvider) -> bool:
    histogram = provider.get_meter("trust").create_histogram("trusted")
    histogram.record(1)
    return HistogramWriter(InstrumentReaders(histogram), {}).add(Batch([1.0]))


@pytest.mark.usefixtures("unchecked")
def test_nothing_is_trusted_before_the_check_and_this_sdk_after_it(
    provider: MeterProvider, log: pytest.LogCaptureFixture
) -> None:
    assert not _is_trusted(provider)
    self_check.check()
    assert _is_trusted(provider)
    assert not log.records


@pytest.mark.usefixtures("unchecked")
def test_an_sdk_that_adds_otherwise_is_recorded_into_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
    provider: MeterProvider,
    collect: Callable[[], Points],
    log: pytest.LogCaptureFixture,
) -> None:
    aggregate = _AGGREGATION._ExplicitBucketHistogramAggregation.aggregate

    def twice(self: Any, measurement: Any, *more: Any) -> None:
        aggregate(self, measurement, *more)
        self._sum += measurement.value

    monkeypatch.setattr(_AGGREGATION._ExplicitBucketHistogramAggregation, "aggregate", twice)
    self_check.check()
    self_check.check()
    assert [record.levelname for record in log.records] == ["INFO"]

    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(provider.get_meter("other").create_histogram("h"), {}))
    for _ in range(100):
        buffer.add(1.0)
    buffer_set.drain()
    (point,) = collect().select("h")
    assert (point.value, point.total) == (100, 200.0)


@pytest.mark.usefixtures("unchecked")
def test_an_sdk_that_discards_a_series_after_it_was_read_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, provider: MeterProvider, log: pytest.LogCaptureFixture
) -> None:
    # What is added between the two would be lost.
    def read_then_discard(self: Any, temporality: AggregationTemporality, start: int) -> Any:
        with self._lock:
            points = [one.collect(temporality, start) for one in self._attributes_aggregation.values()]
            if temporality is AggregationTemporality.DELTA:
                self._attributes_aggregation = {}
        return [point for point in points if point is not None] or None

    monkeypatch.setattr(_MATCH._ViewInstrumentMatch, "collect", read_then_discard)
    self_check.check()
    assert not _is_trusted(provider)
    assert [record.levelname for record in log.records] == ["INFO"]


@pytest.mark.usefixtures("unchecked")
def test_a_check_that_fails_altogether_is_one_line(
    monkeypatch: pytest.MonkeyPatch, provider: MeterProvider, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(_AGGREGATION._ExplicitBucketHistogramAggregation, "collect")
    self_check.check()
    assert [record.levelname for record in log.records] == ["INFO"]
    assert not _is_trusted(provider)


def test_a_shape_that_is_not_known_is_recorded_into_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
    provider: MeterProvider,
    collect: Callable[[], Points],
    log: pytest.LogCaptureFixture,
) -> None:
    # The storages of this SDK have another name.
    self_check.check()
    consumer = _CONSUMER.SynchronousMeasurementConsumer

    def consume(self: Any, measurement: Any) -> None:
        for storage in self.elsewhere.values():
            storage.consume_measurement(measurement)

    histogram: Any = provider.get_meter("other").create_histogram("h")
    measurements = histogram._measurement_consumer
    monkeypatch.setattr(consumer, "consume_measurement", consume)
    measurements.elsewhere = measurements._reader_storages
    del measurements._reader_storages
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    for _ in range(100):
        buffer.add(1.0)
    buffer_set.drain()
    measurements._reader_storages = measurements.elsewhere
    (point,) = collect().select("h")
    assert point.value == 100
    assert [record.levelname for record in log.records] == ["DEBUG"]


def test_one_by_one_a_request_records_a_slice_at_most_and_none_is_lost(
    provider: MeterProvider, collect: Callable[[], Points]
) -> None:
    self_check.check()
    foreign = _Foreign(provider.get_meter("other").create_histogram("h"))
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(foreign, {"k": "v"}))
    for value in range(1000):
        before = len(foreign.recorded)
        buffer.add(float(value))
        assert len(foreign.recorded) - before <= SLICE
        assert len(buffer.values) <= SLICE
    buffer_set.drain()
    assert foreign.recorded == list(map(float, range(1000)))
    (point,) = collect().select("h")
    assert (point.value, point.total) == (1000, sum(range(1000)))


def test_a_cell_that_must_be_recorded_one_by_one_all_of_a_sudden_gives_a_slice_at_a_time(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this SDK cannot add a reader")
    self_check.check()
    buffer = BufferSet().buffer(HistogramSink(provider.get_meter("other").create_histogram("h"), {}))
    # As many as it takes to get all the room there is.
    for _ in range(2 * CAP):
        buffer.add(0.0)
    buffer.drain()
    for value in range(CAP - 1):
        buffer.add(float(value))
    assert len(buffer.values) == CAP - 1
    late = InMemoryMetricReader(preferred_aggregation={SdkHistogram: ExponentialBucketHistogramAggregation()})
    provider.add_metric_reader(late)
    held = [len(buffer.values)]
    while held[-1] >= SLICE:
        buffer.add(1.0)
        held.append(len(buffer.values))
        assert held[-2] + 1 - held[-1] <= SLICE
    buffer.drain()
    assert Points.of(reader).sum("h") == 3 * CAP - 1 + len(held) - 1


def test_a_drain_hands_over_everything_however_slow(provider: MeterProvider) -> None:
    foreign = _Foreign(provider.get_meter("other").create_histogram("h"))
    counter: Counter = provider.get_meter("other").create_counter("c")
    buffer = BufferSet().buffer(CounterSink(counter, {}), HistogramSink(foreign, {}))
    buffer.add(0.0)
    buffer.values.extend(map(float, range(1, 100)))
    buffer.drain()
    assert foreign.recorded == list(map(float, range(100)))


def test_bulk_and_one_by_one_instruments_of_one_cell_take_the_same_values() -> None:
    reader = InMemoryMetricReader()
    view = View(instrument_name="slow", aggregation=ExponentialBucketHistogramAggregation())
    meter = MeterProvider([reader], shutdown_on_exit=False, views=[view]).get_meter("mixed")
    self_check.check()
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(*(HistogramSink(meter.create_histogram(name), {}) for name in ("quick", "slow")))
    for value in range(100):
        buffer.add(float(value))
    buffer_set.drain()
    data = reader.get_metrics_data()
    assert data is not None
    points: list[Any] = [
        point
        for scope in data.resource_metrics[0].scope_metrics
        if scope.scope.name == "mixed"
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    assert [(point.count, point.sum) for point in points] == [(100, 4950.0)] * 2
