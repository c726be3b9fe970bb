"""In bulk equals one by one: two providers of one kind, one fed by ``record``, the other by buffers."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

from opentelemetry_instrumentation_mcp.metrics.buffers import self_check
from opentelemetry_instrumentation_mcp.metrics.buffers.batch import Batch
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.histogram_writer import HistogramWriter, InstrumentReaders
from opentelemetry_instrumentation_mcp.metrics.buffers.sink import SLICE
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import HistogramSink
from opentelemetry_instrumentation_mcp.metrics.buffers.value_buffer import ValueBuffer
from opentelemetry_instrumentation_mcp.metrics.labels import Attributes

# Each refused value is a line.
logging.getLogger("opentelemetry.sdk.metrics._internal.instrument").setLevel(logging.ERROR)

_NAMES = ("one", "two")
_ATTRIBUTES: tuple[Attributes, ...] = (
    {},
    {"tool": "a", "port": 1},
    {"tool": "a", "port": 2},
    {"tool": "b", "port": 1},
)

_NUMBERS = [0, 0.0, 1, 0.1, 0.2, 0.30000000000000004, 2.5, 5, 1e-9, 1e300, 7.0, 10, 100]
_values = st.one_of(
    st.sampled_from(_NUMBERS), st.floats(0, 1e6, allow_nan=False), st.integers(0, 10**9), st.floats(0, 20)
)
# What record() refuses, infinities and nan from SDK 1.44 on. Earlier ones take them, and some aggregations raise.
_refuses_nan = tuple(map(int, version("opentelemetry-sdk").split(".")[:2])) >= (1, 44)
_odd_values = st.sampled_from([-1.0, -0.0, *((math.inf, -math.inf, math.nan) if _refuses_nan else ())])
_boundaries = st.lists(st.sampled_from([-1.0, *_NUMBERS]), unique=True, max_size=8).map(sorted)

_aggregations = st.one_of(
    st.just(DropAggregation()),
    st.just(ExponentialBucketHistogramAggregation(max_size=20)),
    st.just(SumAggregation()),
    st.just(LastValueAggregation()),
    st.builds(ExplicitBucketHistogramAggregation, _boundaries, st.booleans()),
    st.builds(ExplicitBucketHistogramAggregation, st.none(), st.booleans()),
)


@dataclass(frozen=True)
class _Viewed:
    instrument: str
    aggregation: Aggregation | None
    keys: frozenset[str] | None

    def view(self, number: int) -> View:
        # A last value is that of the last buffer, where a filter makes one series of several.
        keys = None if isinstance(self.aggregation, LastValueAggregation) else self.keys
        return View(
            instrument_name=self.instrument,
            name=None if "*" in self.instrument else f"view{number}",
            aggregation=self.aggregation,
            attribute_keys=None if keys is None else set(keys),
        )


_views = st.lists(
    st.builds(
        _Viewed,
        st.sampled_from(["one", "two", "*"]),
        st.none() | _aggregations,
        st.none() | st.frozensets(st.sampled_from(["tool", "port"])),
    ),
    max_size=3,
)
_readers = st.lists(
    st.tuples(
        st.sampled_from([AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE]),
        st.sampled_from([None, None, None, ExponentialBucketHistogramAggregation(max_size=20)]),
    ),
    min_size=1,
    max_size=3,
)


@dataclass(frozen=True)
class _Record:
    instrument: int
    attributes: int
    values: list[float]


_steps = st.lists(
    st.one_of(
        st.builds(
            _Record,
            st.integers(0, len(_NAMES) - 1),
            st.integers(0, len(_ATTRIBUTES) - 1),
            st.one_of(st.lists(_values, max_size=40), st.lists(_values | _odd_values, max_size=6)),
        ),
        st.integers(0, 2),  # A collection by this reader.
        st.just("drain"),
    ),
    max_size=25,
)


class _Side:
    """One provider with its readers and histograms."""

    def __init__(self, readers: Sequence[tuple[Any, Any]], views: Sequence[_Viewed], boundaries: list[float]) -> None:
        self.readers = [
            InMemoryMetricReader({Histogram: temporality}, {Histogram: aggregation} if aggregation else None)
            for temporality, aggregation in readers
        ]
        self.provider = MeterProvider(
            self.readers,
            Resource.get_empty(),
            AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
            views=[view.view(number) for number, view in enumerate(views)],
        )
        meter = self.provider.get_meter("bulk")
        self.histograms = [
            meter.create_histogram(name, explicit_bucket_boundaries_advisory=boundaries) for name in _NAMES
        ]

    def collect(self, reader: int) -> dict[Any, list[Any]]:
        data = self.readers[reader % len(self.readers)].get_metrics_data()
        points: dict[Any, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                # Some releases have metrics of their own.
                for metric in scope.metrics if scope.scope.name == "bulk" else ():
                    for point in metric.data.data_points:
                        key = (metric.name, type(point).__name__, tuple(sorted((point.attributes or {}).items())))
                        points.setdefault(key, []).append(_numbers(point))
        return points


def _numbers(point: Any) -> dict[str, Any]:
    """Every field but the times, which are not those of the other side."""
    fields = {name: getattr(point, name) for name in point.__dataclass_fields__}
    for name in ("positive", "negative"):
        if name in fields:
            # How many empty buckets there are at the ends depends on the order of the values.
            counts = enumerate(fields[name].bucket_counts, fields[name].offset)
            fields[name] = [(index, count) for index, count in counts if count]
    return {name: value for name, value in fields.items() if "time" not in name and name != "exemplars"}


def _assert_alike(in_bulk: dict[Any, list[Any]], one_by_one: dict[Any, list[Any]], merged: bool) -> None:
    assert in_bulk.keys() == one_by_one.keys()
    for key, points in one_by_one.items():
        for ours, theirs in zip(in_bulk[key], points, strict=True):
            for name, value in theirs.items():
                if merged and name in ("sum", "value"):
                    # Several buffers feed one series: each comes in its order, but they come one after another.
                    assert ours[name] == pytest.approx(value)
                elif merged and name in ("min", "max"):
                    assert ours[name] == value  # 0 or 0.0
                else:
                    assert repr(ours[name]) == repr(value), (key, name)


@given(_readers, _views, _boundaries, _steps)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_cells_come_to_what_record_comes_to(
    readers: list[tuple[Any, Any]], views: list[_Viewed], boundaries: list[float], steps: list[Any]
) -> None:
    self_check.check()
    theirs = _Side(readers, views, boundaries)
    ours = _Side(readers, views, boundaries)
    buffer_set = BufferSet()
    buffers: dict[tuple[int, int], ValueBuffer] = {}
    all_readers = [InstrumentReaders(histogram) for histogram in ours.histograms]
    merged = any(view.keys is not None for view in views)
    for step in [*steps, 0, 1, 2]:
        if isinstance(step, _Record):
            where = (step.instrument, step.attributes)
            if where not in buffers:
                sink = HistogramSink(
                    ours.histograms[step.instrument], _ATTRIBUTES[step.attributes], all_readers[step.instrument]
                )
                buffers[where] = buffer_set.buffer(sink)
            for value in step.values:
                theirs.histograms[step.instrument].record(value, _ATTRIBUTES[step.attributes])
                buffers[where].add(value)
        elif isinstance(step, int):
            buffer_set.drain()
            _assert_alike(ours.collect(step), theirs.collect(step), merged)
        else:
            buffer_set.drain()
    assert not any(buffer.values for buffer in buffers.values())


@pytest.fixture
def checked() -> None:
    self_check.check()


def _writer(side: _Side, attributes: Attributes) -> HistogramWriter:
    return HistogramWriter(InstrumentReaders(side.histograms[0]), attributes)


_CUMULATIVE, _DELTA = (AggregationTemporality.CUMULATIVE, None), (AggregationTemporality.DELTA, None)


@pytest.mark.usefixtures("checked")
def test_values_are_added_in_bulk_once_their_series_exist() -> None:
    side = _Side([_CUMULATIVE, _DELTA], [], [1.0])
    writer = _writer(side, {"k": "v"})
    assert not writer.add(Batch([0.5]))
    side.histograms[0].record(0.5, {"k": "v"})
    assert writer.add(Batch([0.5, 2.0]))
    for reader in range(2):
        ((point,),) = side.collect(reader).values()
        assert (point["count"], point["sum"], list(point["bucket_counts"])) == (3, 3.0, [2, 1])


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_values_that_record_may_refuse_are_left_to_it(value: float) -> None:
    side = _Side([_CUMULATIVE], [], [1.0])
    side.histograms[0].record(0.5)
    assert not _writer(side, {}).add(Batch([0.5, value, 0.5]))


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize(
    "aggregation", [ExponentialBucketHistogramAggregation(), SumAggregation(), LastValueAggregation()]
)
def test_one_view_that_needs_record_leaves_all_readers_and_views_untouched(aggregation: Aggregation) -> None:
    views = [_Viewed("one", None, None), _Viewed("one", aggregation, None)]
    side, untouched = (_Side([_CUMULATIVE, _CUMULATIVE], views, [1.0]) for _ in range(2))
    side.histograms[0].record(0.5)
    untouched.histograms[0].record(0.5)
    writer = _writer(side, {})
    assert not writer.is_open()
    assert not writer.add(Batch([0.5]))
    for reader in range(2):
        _assert_alike(side.collect(reader), untouched.collect(reader), merged=False)


@pytest.mark.usefixtures("checked")
def test_a_series_discarded_by_one_reader_leaves_the_other_untouched() -> None:
    side = _Side([_CUMULATIVE, _DELTA], [], [1.0])
    side.histograms[0].record(0.5)
    writer = _writer(side, {})
    assert writer.add(Batch([0.5]))
    before = side.collect(0)
    side.collect(1)
    if not writer.add(Batch([0.5])):  # SDK 1.45 and later
        assert repr(side.collect(0)) == repr(before)


@pytest.mark.usefixtures("checked")
def test_a_collection_between_the_look_and_the_lock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The delta collection comes at the worst moment: after the series was found, before it is locked.
    side = _Side([_DELTA], [], [1.0])
    side.histograms[0].record(0.5)
    writer = _writer(side, {})
    collected: list[Any] = []

    class Late(Batch):
        def counts(self, boundaries: tuple[float, ...]) -> list[int]:
            if not collected:
                collected.append(side.collect(0))
            return super().counts(boundaries)

    added = writer.add(Late([0.5, 2.0]))
    collected.append(side.collect(0))
    counts = [point["count"] for points in collected for (point,) in points.values()]
    assert counts == ([1, 2] if added else [1])


@pytest.mark.usefixtures("checked")
def test_a_reader_that_comes_later_gets_its_values_too() -> None:
    side = _Side([_CUMULATIVE], [], [1.0])
    if not hasattr(side.provider, "add_metric_reader"):
        pytest.skip("this SDK cannot add a reader")
    buffer = BufferSet().buffer(HistogramSink(side.histograms[0], {}))
    buffer.add(0.5)
    late = InMemoryMetricReader()
    side.provider.add_metric_reader(late)
    side.readers.append(late)
    buffer.add(0.5)
    buffer.add(0.5)
    buffer.drain()
    counts = [point["count"] for reader in range(2) for (point,) in side.collect(reader).values()]
    assert counts == [3, 2]


@pytest.mark.usefixtures("checked")
def test_past_the_cardinality_limit_values_go_where_record_puts_them() -> None:
    side = _Side([_CUMULATIVE], [], [1.0])
    buffer_set = BufferSet()
    buffers = [buffer_set.buffer(HistogramSink(side.histograms[0], {"n": number})) for number in range(2010)]
    for _ in range(3):
        for buffer in buffers:
            buffer.add(0.5)
        buffer_set.drain()
    theirs = _Side([_CUMULATIVE], [], [1.0])
    for _ in range(3):
        for number in range(2010):
            theirs.histograms[0].record(0.5, {"n": number})
    _assert_alike(side.collect(0), theirs.collect(0), merged=False)


@pytest.mark.usefixtures("checked")
def test_a_cell_without_a_series_of_its_own_goes_slowly_until_it_gets_one() -> None:
    side = _Side([_DELTA], [], [1.0])
    buffer_set, instrument_readers = BufferSet(), InstrumentReaders(side.histograms[0])
    for number in range(2000):
        buffer_set.buffer(HistogramSink(side.histograms[0], {"n": number}, instrument_readers)).add(0.5)
    buffer = buffer_set.buffer(HistogramSink(side.histograms[0], {"n": 2000}, instrument_readers))
    lengths: list[int] = []
    for _ in range(100):
        buffer.add(0.5)
        lengths.append(len(buffer.values))
    buffer.drain()
    if not any(("otel.metric.overflow", True) in attributes for _, _, attributes in side.collect(0)):
        pytest.skip("this SDK has no cardinality limit")
    assert max(lengths) <= SLICE
    # The collection has made room.
    for _ in range(100):
        buffer.add(0.5)
        lengths.append(len(buffer.values))
    assert max(lengths) > SLICE
    buffer.drain()
    assert [point["count"] for (point,) in side.collect(0).values()] == [100]
