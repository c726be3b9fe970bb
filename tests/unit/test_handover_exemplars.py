from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from opentelemetry_instrumentation_mcp.metrics.buffers import self_check
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.drain_policy import CAP, FIRST
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink
from opentelemetry_instrumentation_mcp.metrics.buffers.value_buffer import ValueBuffer

_BUCKETS = [1.0, 2.0, 3.0]


@pytest.fixture(autouse=True)
def checked() -> None:
    self_check.check()


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider.get_tracer("exemplars")  # pyright: ignore[reportReturnType]
    provider.shutdown()


@pytest.fixture
def unsampled() -> Iterator[Tracer]:
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    yield provider.get_tracer("exemplars")  # pyright: ignore[reportReturnType]
    provider.shutdown()


@pytest.fixture
def histogram(provider: MeterProvider) -> Instrument:
    return provider.get_meter("exemplars").create_histogram("h", explicit_bucket_boundaries_advisory=_BUCKETS)


def _exemplars(reader: InMemoryMetricReader, metric: str = "h") -> list[Any]:
    data = reader.get_metrics_data()
    return [
        exemplar
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for one in scope.metrics
        if one.name == metric
        for point in one.data.data_points
        for exemplar in point.exemplars
    ]


def _spanned(tracer: Tracer, buffer: ValueBuffer, value: float) -> tuple[float, int]:
    """Add a value within a span of its own; what its exemplar would be."""
    with tracer.start_as_current_span("request") as span:
        buffer.add(value)
    return value, span.get_span_context().trace_id


def _seen(exemplars: list[Any]) -> list[tuple[float, int | None]]:
    return [(exemplar.value, exemplar.trace_id) for exemplar in exemplars]


# Among them are those where the buffer has just been full, and where it is empty, when somebody collects.
@pytest.mark.parametrize("values", range(2, 2 * FIRST + 3))
def test_each_collection_has_an_exemplar_of_a_cell_with_a_sampled_span_around(
    values: int, tracer: Tracer, histogram: Instrument, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {"k": "v"}))
    for _ in range(4):
        sampled = [_spanned(tracer, buffer, 0.5 + number) for number in range(values)]
        buffer_set.drain()
        seen = _seen(_exemplars(reader))
        assert seen
        assert set(seen) <= set(sampled)


def test_a_counter_beside_it_has_one_too(
    tracer: Tracer, histogram: Instrument, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    counter = provider.get_meter("exemplars").create_counter("c")
    buffer = buffer_set.buffer(CounterSink(counter, {}), HistogramSink(histogram, {}))
    for _ in range(3):
        sampled = [_spanned(tracer, buffer, 0.5) for _ in range(5)]
        buffer_set.drain()
        (exemplar,) = _exemplars(reader, "c")
        assert (0.5, exemplar.trace_id) in sampled
        assert exemplar.value == 1


def test_an_exemplar_has_the_time_of_its_value(
    tracer: Tracer, histogram: Instrument, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    buffer.add(0.5)
    buffer_set.drain()
    with tracer.start_as_current_span("request") as span:
        buffer.add(0.5)
    buffer_set.drain()
    (exemplar,) = _exemplars(reader)
    ended: Any = span
    assert ended.start_time <= exemplar.time_unix_nano <= ended.end_time


def test_a_sampled_span_is_found_among_unsampled_ones(
    tracer: Tracer, unsampled: Tracer, histogram: Instrument, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    for _ in range(3):
        for _ in range(20):
            _spanned(unsampled, buffer, 0.5)
        sampled = _spanned(tracer, buffer, 1.5)
        _spanned(unsampled, buffer, 0.5)
        buffer_set.drain()
        assert _seen(_exemplars(reader)) == [sampled]


def test_a_sampled_span_is_found_after_values_without_any(
    tracer: Tracer, histogram: Instrument, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    for _ in range(3):
        for _ in range(20):
            buffer.add(0.5)
        sampled = {_spanned(tracer, buffer, 1.5) for _ in range(40)}
        buffer_set.drain()
        seen = _seen(_exemplars(reader))
        assert seen
        assert set(seen) <= sampled


def test_values_and_their_order_are_what_they_are_without_spans(
    tracer: Tracer, histogram: Instrument, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    values = [0.1, 0.2, 0.3, 0.1, 0.7, 0.1]
    for number, value in enumerate(values):
        if number % 2:
            _spanned(tracer, buffer, value)
        else:
            buffer.add(value)
    buffer_set.drain()
    expected = 0.0
    for value in values:
        expected += value
    data = reader.get_metrics_data()
    assert data is not None
    points: list[Any] = [
        point
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "h"
        for point in metric.data.data_points
    ]
    assert [(point.count, point.sum) for point in points] == [(len(values), expected)]


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_the_span_of_whoever_collects_is_no_exemplar(tracer: Tracer, temporality: AggregationTemporality) -> None:
    reader = InMemoryMetricReader({Histogram: temporality, Counter: temporality})
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("exemplars")
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(
        CounterSink(meter.create_counter("c"), {}), HistogramSink(meter.create_histogram("h"), {})
    )
    for _ in range(4):
        for _ in range(3):
            buffer.add(0.5)
        with tracer.start_as_current_span("GET /metrics"):
            buffer_set.drain()
        data = reader.get_metrics_data()
        assert data is not None
        assert not [
            exemplar
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
            for exemplar in point.exemplars or ()
        ]


def _kept_in_spans(provider: MeterProvider, tracer: Tracer) -> int:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(provider.get_meter("exemplars").create_histogram("unseen"), {}))
    buffer.add(0.5)
    for _ in range(3):
        _spanned(tracer, buffer, 0.5)
    return len(buffer.values)


def test_without_a_reader_that_shows_exemplars_no_span_is_looked_for(tracer: Tracer) -> None:
    off = MeterProvider([InMemoryMetricReader()], exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
    prometheus = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    both = MeterProvider([PrometheusMetricReader(), InMemoryMetricReader()], shutdown_on_exit=False)
    kept = [_kept_in_spans(provider, tracer) for provider in (off, prometheus, both)]
    for provider in (off, prometheus, both):
        provider.shutdown()
    assert kept == [3, 3, 2]


def test_without_spans_a_cell_is_looked_after_rarely(monkeypatch: pytest.MonkeyPatch, histogram: Instrument) -> None:
    looks = 0
    drain_due = ValueBuffer.drain_due

    def counted(self: ValueBuffer, value: float) -> None:
        nonlocal looks
        looks += 1
        drain_due(self, value)

    monkeypatch.setattr(ValueBuffer, "drain_due", counted)
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(histogram, {}))
    # As many as it takes to get all the room there is.
    for _ in range(2 * CAP):
        buffer.add(0.5)
    buffer_set.drain()
    looks = 0
    for _ in range(CAP):
        buffer.add(0.5)
    assert looks <= 2 + CAP.bit_length()
