"""Nothing is kept for instruments that nobody reads, and nothing is missed once somebody does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View

from opentelemetry_instrumentation_mcp.metrics.buffers import self_check
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.drain_policy import CAP
from opentelemetry_instrumentation_mcp.metrics.buffers.sink import SLICE
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink, UpDownCounterSink
from opentelemetry_instrumentation_mcp.metrics.buffers.value_buffer import ValueBuffer

from ..points import Points


@pytest.fixture(autouse=True)
def checked() -> None:
    self_check.check()


def _buffers(meter: Any) -> tuple[BufferSet, ValueBuffer, ValueBuffer]:
    buffer_set = BufferSet()
    events = buffer_set.buffer(
        CounterSink(meter.create_counter("c"), {}), HistogramSink(meter.create_histogram("h"), {})
    )
    return buffer_set, events, buffer_set.buffer(UpDownCounterSink(meter.create_up_down_counter("u"), {}))


def _dropping() -> MeterProvider:
    view = View(instrument_name="*", aggregation=DropAggregation())
    off = AlwaysOffExemplarFilter()
    return MeterProvider([InMemoryMetricReader()], exemplar_filter=off, shutdown_on_exit=False, views=[view])


@pytest.mark.parametrize(
    "meter",
    [
        lambda: NoOpMeter("unread"),
        lambda: MeterProvider(shutdown_on_exit=False).get_meter("unread"),
        lambda: _dropping().get_meter("unread"),
    ],
    ids=["no SDK", "no reader", "dropped by a View"],
)
def test_a_cell_that_nobody_reads_keeps_nothing(meter: Callable[[], Any]) -> None:
    buffer_set, events, steps = _buffers(meter())
    for _ in range(1000):
        steps.add(1)
        events.add(0.5)
        assert not events.values
        assert len(steps.values) <= 1 + SLICE
    buffer_set.drain()
    assert not events.values
    # Only when the SDK has got and dropped the first one can one know of the View.
    assert sum(steps.values) in (999, 1000)


def test_an_instrument_read_by_one_of_two_readers_is_read() -> None:
    reader = InMemoryMetricReader()
    deaf = InMemoryMetricReader(preferred_aggregation={Histogram: DropAggregation(), Counter: DropAggregation()})
    meter = MeterProvider([deaf, reader], shutdown_on_exit=False).get_meter("read")
    buffer_set, events, _ = _buffers(meter)
    for _ in range(10):
        events.add(0.5)
    buffer_set.drain()
    assert Points.of(reader).sum("h") == 10


def test_an_instrument_that_a_view_drops_costs_the_others_of_its_cell_nothing() -> None:
    reader = InMemoryMetricReader()
    view = View(instrument_name="h", aggregation=DropAggregation())
    meter = MeterProvider([reader], shutdown_on_exit=False, views=[view]).get_meter("read")
    buffer_set, events, _ = _buffers(meter)
    for _ in range(10):
        events.add(0.5)
    buffer_set.drain()
    assert Points.of(reader).sum("c") == 10


def test_a_reader_that_is_added_later_gets_what_happens_from_then_on() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this SDK cannot add a reader")
    buffer_set, events, steps = _buffers(provider.get_meter("late"))
    for _ in range(10):
        events.add(0.5)
        steps.add(1)
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    events.add(0.5)
    # The first one is a series' begin.
    assert Points.of(reader).sum("h") == 1
    events.add(0.5)
    steps.add(-1)
    buffer_set.drain()
    points = Points.of(reader)
    assert (points.sum("c"), points.sum("h"), points.sum("u")) == (2, 2, 9)

    # That there is nobody any more is noticed when a buffer is full, not by every request.
    provider.remove_metric_reader(reader)
    for _ in range(CAP):
        events.add(0.5)
    another = InMemoryMetricReader()
    provider.add_metric_reader(another)
    events.add(0.5)
    assert Points.of(another).sum("h") == 1


def test_a_meter_may_be_switched_off_and_on() -> None:
    reader = InMemoryMetricReader()
    provider: Any = MeterProvider([reader], shutdown_on_exit=False)
    if not hasattr(provider, "_set_meter_configurator"):
        pytest.skip("this SDK cannot switch meters off")
    config = import_module("opentelemetry.sdk.metrics._internal")._MeterConfig
    buffer_set, events, _ = _buffers(provider.get_meter("switched"))
    for enabled in (True, False, True):
        switch = config(is_enabled=enabled)

        def configure(_: object, switch: Any = switch) -> Any:
            return switch

        provider._set_meter_configurator(meter_configurator=configure)
        for _ in range(CAP + 10):
            events.add(0.5)
        assert bool(events.values) is enabled
        buffer_set.drain()
    assert Points.of(reader).sum("h") == 2 * (CAP + 10)


def test_a_touch_counts_once_there_is_a_reader() -> None:
    provider = MeterProvider(shutdown_on_exit=False)
    if not hasattr(provider, "add_metric_reader"):
        pytest.skip("this SDK cannot add a reader")
    _, events, _ = _buffers(provider.get_meter("late"))
    events.begin_at_zero()
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    assert not Points.of(reader).select("c")
    events.begin_at_zero()
    assert [point.value for point in Points.of(reader).select("c")] == [0]


_LATE_PROVIDER = """
import json, sys
from opentelemetry.metrics import get_meter, set_meter_provider
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink, UpDownCounterSink

meter = get_meter("late")
buffer_set = BufferSet()
events = buffer_set.buffer(CounterSink(meter.create_counter("c"), {}), HistogramSink(meter.create_histogram("h"), {}))
steps = buffer_set.buffer(UpDownCounterSink(meter.create_up_down_counter("u"), {}))
for _ in range(1000):
    events.add(0.5)
    steps.add(1)
for _ in range(990):
    steps.add(-1)
kept = [len(events.values), len(steps.values) < 20, "opentelemetry.sdk.metrics" in sys.modules]

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
for _ in range(500):
    events.add(0.5)
steps.add(-1)
buffer_set.drain()
for _ in range(500):
    events.add(0.5)
steps.add(-1)
buffer_set.drain()
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
(scope,) = [scope for scope in scopes if scope.scope.name == "late"]
points = {metric.name: metric.data.data_points[0] for metric in scope.metrics}
print(json.dumps([kept, points["c"].value, points["h"].count, points["u"].value]))
"""


def test_before_a_provider_is_set_nothing_is_kept_but_what_is_open() -> None:
    done = subprocess.run([sys.executable, "-c", _LATE_PROVIDER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0, True, False], 1000, 1000, 8]
