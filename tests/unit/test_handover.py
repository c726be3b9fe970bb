from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter as Multiset
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, cast

import pytest
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader

from opentelemetry_instrumentation_mcp.metrics.buffers import histogram_writer, self_check, value_buffer
from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.drain_policy import BUDGET, CAP, FIRST, BufferBudget
from opentelemetry_instrumentation_mcp.metrics.buffers.sink import SLICE, Sink
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink, UpDownCounterSink
from opentelemetry_instrumentation_mcp.metrics.buffers.value_buffer import Part, ValueBuffer

from ..points import Points


class _Kept(Sink):
    """A sink that keeps what it takes, one list for each time."""

    def __init__(self) -> None:
        self.taken: list[list[float]] = []

    def take(self, values: Sequence[float]) -> None:
        self.taken.append(list(values))


class _Broken(Sink):
    def take(self, values: Sequence[float]) -> None:
        raise RuntimeError("no metric today")


@pytest.fixture
def meter(provider: MeterProvider) -> Meter:
    return provider.get_meter("handover")


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    # Threads change places as often as they can, so that a lost update shows in a short test.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def _at_once(*jobs: Callable[[], None]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_first_value_goes_through_at_once() -> None:
    sink = _Kept()
    BufferSet().buffer(sink).add(0.5)
    assert sink.taken == [[0.5]]


def test_later_values_wait_for_a_drain_and_come_in_order() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer = buffer_set.buffer(sink)
    for value in (1.0, 2.0, 3.0):
        buffer.add(value)
    assert sink.taken == [[1.0]]
    buffer_set.drain()
    assert sink.taken == [[1.0], [2.0, 3.0]]


def test_a_drain_hands_over_nothing_twice() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer = buffer_set.buffer(sink)
    buffer.add(1.0)
    buffer.add(2.0)
    buffer_set.drain()
    buffer_set.drain()
    assert sink.taken == [[1.0], [2.0]]


def test_a_cell_that_nobody_collects_hands_over_when_it_is_full_and_has_more_room_from_then_on() -> None:
    sink = _Kept()
    buffer = BufferSet().buffer(sink)
    values = [float(value) for value in range(1 + 4 * CAP)]
    for value in values:
        buffer.add(value)
    assert [len(taken) for taken in sink.taken] == [1, 32, 32, 64, 128, 256, 512, CAP, CAP, CAP]
    assert [value for taken in sink.taken for value in taken] == values
    assert buffer.values == []


def test_a_cell_that_is_collected_in_time_stays_small() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer = buffer_set.buffer(sink)
    for _ in range(CAP):
        for _ in range(FIRST - 1):
            buffer.add(1.0)
        buffer_set.drain()
    for _ in range(FIRST):
        buffer.add(1.0)
    assert len(sink.taken[-1]) == FIRST


def test_cells_that_a_request_fills_evenly_are_full_at_once() -> None:
    # One request in many pays for all of them. Each full at a time of its own would be in the 99th percentile.
    buffer_set = BufferSet()
    sinks = [_Kept() for _ in range(14)]
    buffers = [
        buffer_set.buffer(*sinks[:1]),
        buffer_set.buffer(*sinks[1:2]),
        buffer_set.buffer(*sinks[2:5]),
        buffer_set.buffer(*sinks[5:8]),
    ]
    parts: list[tuple[Part, Sink]] = [(itemgetter(column), sinks[8 + column]) for column in range(6)]
    rows = buffer_set.rows(6, parts)
    late: list[int] = []
    for request in range(10 * CAP):
        before = sum(len(sink.taken) for sink in sinks)
        for buffer in buffers:
            buffer.add(1.0)
        # What a request adds to twice is full twice as often, one time of them with the others.
        buffers[0].add(1.0)
        rows.keep([1.0] * 6)
        if sum(len(sink.taken) for sink in sinks) > before:
            late.append(request)
    # The first value of each went through at once.
    assert late[:5] == [0, 16, 32, 64, 128]
    assert [request for request in late if request > CAP] == [CAP // 2 * times for times in range(3, 20)]


@pytest.mark.parametrize("number", [1, 3, 6, 30, 900])
def test_rows_hand_over_so_many_at_once_that_all_sinks_together_take_little(number: int) -> None:
    sinks = [_Kept() for _ in range(number)]
    rows = BufferSet().rows(2, [(itemgetter(0), sink) for sink in sinks])
    for row in range(8 * CAP):
        rows.keep([float(row), 0.0])
    portions = sinks[0].taken
    assert all(sink.taken == portions for sink in sinks)
    most = max(map(len, portions))
    assert CAP <= most * number <= max(6 * CAP, SLICE * number)
    taken = [value for portion in portions for value in portion]
    assert taken == [float(row) for row in range(len(taken))]
    assert len(taken) + len(rows.values) // 2 == 8 * CAP


def test_no_more_room_is_given_than_there_is(hasty_threads: None) -> None:
    budget = BufferBudget()
    given: list[int] = []

    def take() -> None:
        given.append(sum(budget.take(64) for _ in range(BUDGET // 64)))

    _at_once(*[take] * 4)
    # Who was refused because another thread was at it asks again.
    take()
    assert sum(given) == BUDGET // 64


def test_every_sink_of_a_cell_takes_the_same_values() -> None:
    buffer_set, one, two = BufferSet(), _Kept(), _Kept()
    buffer = buffer_set.buffer(one, two)
    for value in (1.0, 2.0, 3.0):
        buffer.add(value)
    buffer_set.drain()
    assert one.taken == two.taken == [[1.0], [2.0, 3.0]]


def test_a_drain_reaches_every_cell() -> None:
    buffer_set, sinks = BufferSet(), [_Kept() for _ in range(3)]
    for buffer in [buffer_set.buffer(sink) for sink in sinks]:
        buffer.add(1.0)
        buffer.add(2.0)
    buffer_set.drain()
    assert [sink.taken for sink in sinks] == [[[1.0], [2.0]]] * 3


def test_a_value_added_while_a_cell_is_drained_waits_for_the_next_drain() -> None:
    class Busy(_Kept):
        def take(self, values: Sequence[float]) -> None:
            super().take(values)
            if values[0] == 2.0:
                buffer.add(3.0)

    buffer_set, sink = BufferSet(), Busy()
    buffer = buffer_set.buffer(sink)
    buffer.add(1.0)
    buffer.add(2.0)
    buffer_set.drain()
    assert sink.taken == [[1.0], [2.0]]
    buffer_set.drain()
    assert sink.taken == [[1.0], [2.0], [3.0]]


def test_a_value_added_between_the_copy_and_the_deletion_is_kept() -> None:
    class Interrupted(list[float]):
        """Another thread gets its turn whenever a part of the list was copied."""

        def __getitem__(self, index: Any) -> Any:
            copy = list(self)[cast("slice", index)]
            self.append(99.0)
            return copy

    sink = _Kept()
    buffer = BufferSet().buffer(sink)
    buffer.values = Interrupted([1.0, 2.0])
    buffer.drain()
    assert sink.taken == [[1.0, 2.0]]
    assert list(buffer.values) == [99.0]


def test_a_drain_waits_for_one_that_is_half_done() -> None:
    # Otherwise a collection would miss values that have left the buffer and not arrived yet.
    class Slow(_Kept):
        def take(self, values: Sequence[float]) -> None:
            taking.set()
            assert proceed.wait(10)
            super().take(values)

    taking, proceed, drained = threading.Event(), threading.Event(), threading.Event()
    sink = Slow()
    buffer = BufferSet().buffer(sink)
    buffer.values.append(1.0)

    def drain_too() -> None:
        assert taking.wait(10)
        buffer.drain()
        drained.set()

    threads = [threading.Thread(target=buffer.drain), threading.Thread(target=drain_too)]
    for thread in threads:
        thread.start()
    assert taking.wait(10)
    assert not drained.wait(0.05)
    proceed.set()
    for thread in threads:
        thread.join()
    assert drained.is_set()
    assert sink.taken == [[1.0]]


def test_a_drain_that_never_ends_costs_a_line_and_not_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler of a signal flushes in the main thread, which had the buffer in its hands when the signal came."""
    monkeypatch.setattr(value_buffer, "DRAIN_SECONDS", 0.2)
    buffer_set, other = BufferSet(), _Kept()
    flush = threading.Thread(target=buffer_set.drain, daemon=True)
    has_ended: list[bool] = []

    class Interrupted(_Kept):
        def take(self, values: Sequence[float]) -> None:
            if not has_ended:
                flush.start()
                flush.join(30)
                has_ended.append(not flush.is_alive())
            super().take(values)

    interrupted = Interrupted()
    buffers = [buffer_set.buffer(interrupted), buffer_set.buffer(other)]
    for value in (1.0, 2.0):
        buffers[1].add(value)
    buffers[0].add(3.0)

    assert has_ended == [True]
    assert other.taken == [[1.0], [2.0]]
    assert [record for record in caplog.records if "TimeoutError" in record.getMessage()]
    # Nothing is lost by it.
    buffers[0].add(4.0)
    buffer_set.drain()
    assert interrupted.taken == [[3.0], [4.0]]


def test_a_request_waits_for_no_drain() -> None:
    class Slow(_Kept):
        def take(self, values: Sequence[float]) -> None:
            taking.set()
            assert proceed.wait(10)
            super().take(values)

    taking, proceed = threading.Event(), threading.Event()
    sink = Slow()
    buffer = BufferSet().buffer(sink)
    buffer.values.append(1.0)
    drain = threading.Thread(target=buffer.drain)
    drain.start()
    assert taking.wait(10)
    for _ in range(2 * CAP):
        # Would never come back if it waited: this thread is the one to let the drain proceed.
        buffer.add(2.0)
    proceed.set()
    drain.join()
    assert sink.taken == [[1.0]]
    buffer.add(2.0)
    buffer.drain()
    assert sum(map(len, sink.taken)) == 2 + 2 * CAP


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_during_a_drain_can_drain() -> None:
    class Slow(_Kept):
        def take(self, values: Sequence[float]) -> None:
            taking.set()
            assert proceed.wait(10)

    taking, proceed = threading.Event(), threading.Event()
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(Slow(), _Kept())
    buffer.values.append(1.0)
    drain = threading.Thread(target=buffer_set.drain)
    drain.start()
    assert taking.wait(10)
    child = os.fork()
    if not child:
        # Nothing of pytest may run in here.
        try:
            signal.alarm(10)
            proceed.set()
            buffer_set.drain()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    proceed.set()
    drain.join()
    assert status == 0


def test_a_request_that_ends_within_a_hand_over_is_kept_for_the_next() -> None:
    # A garbage collection may end requests anywhere, also while the SDK holds a lock that it does not take twice.
    class Collecting(_Kept):
        def take(self, values: Sequence[float]) -> None:
            self.other.add(9.0)
            self.own.add(9.0)
            super().take(values)

        other: ValueBuffer
        own: ValueBuffer

    buffer_set, sink, other = BufferSet(), Collecting(), _Kept()
    sink.own, sink.other = buffer_set.buffer(sink), buffer_set.buffer(other)
    sink.own.add(1.0)
    assert (sink.taken, other.taken) == ([[1.0]], [])
    sink.other.add(8.0)
    assert other.taken == [[9.0], [8.0]]
    assert sink.own.values == [9.0]


def test_a_cell_that_keeps_nothing_waits_for_its_turn() -> None:
    # There may be no later value to see to this one.
    class Slow(_Kept):
        def take(self, values: Sequence[float]) -> None:
            taking.set()
            time.sleep(0.02)
            super().take(values)

    taking = threading.Event()
    buffer_set, sink = BufferSet(), Slow()
    buffer_set.keep_nothing()
    buffer = buffer_set.buffer(sink)
    first = threading.Thread(target=buffer.add, args=(1.0,))
    first.start()
    assert taking.wait(10)
    buffer.add(2.0)
    first.join()
    assert sink.taken == [[1.0], [2.0]]


def test_many_cells_that_nobody_collects_keep_little_altogether() -> None:
    buffer_set = BufferSet()
    buffers = [buffer_set.buffer(_Kept()) for _ in range(3000)]
    most = [0] * len(buffers)
    for _ in range(1000):
        for number, buffer in enumerate(buffers):
            buffer.add(1.0)
            most[number] = max(most[number], len(buffer.values))
    assert sum(most) <= BUDGET + SLICE * len(buffers)
    assert min(most) >= SLICE - 1


def test_the_first_drain_compares_bulk_with_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram_writer, "_verdict", None)
    BufferSet().drain()
    assert histogram_writer._verdict  # pyright: ignore[reportPrivateUsage]


def test_a_touch_shows_the_sinks_that_the_series_exists() -> None:
    sink = _Kept()
    BufferSet().buffer(sink).begin_at_zero()
    assert sink.taken == [[]]


def test_a_touched_cell_is_not_touched_again() -> None:
    sink = _Kept()
    buffer = BufferSet().buffer(sink)
    buffer.begin_at_zero()
    buffer.begin_at_zero()
    assert sink.taken == [[]]


def test_a_cell_with_values_needs_no_touch() -> None:
    sink = _Kept()
    buffer = BufferSet().buffer(sink)
    buffer.add(1.0)
    buffer.begin_at_zero()
    assert sink.taken == [[1.0]]


def test_a_ledger_that_passes_through_hands_over_what_it_has_and_keeps_nothing_from_then_on() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer = buffer_set.buffer(sink)
    buffer.add(1.0)
    buffer.add(2.0)
    buffer_set.keep_nothing()
    assert sink.taken == [[1.0], [2.0]]
    buffer.add(3.0)
    buffer.add(4.0)
    assert sink.taken == [[1.0], [2.0], [3.0], [4.0]]


def test_a_cell_made_after_that_keeps_nothing_either() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer_set.keep_nothing()
    buffer = buffer_set.buffer(sink)
    buffer.add(1.0)
    buffer.add(2.0)
    assert sink.taken == [[1.0], [2.0]]


def test_values_keep_their_order_when_a_slow_sink_becomes_quick_in_between() -> None:
    class Warming(_Kept):
        def is_quick(self) -> bool:
            return bool(self.taken)

    sink = Warming()
    buffer = BufferSet().buffer(sink)
    # As other threads append while one is at the first value.
    buffer.values.extend(map(float, range(2 * SLICE)))
    buffer.add(-1.0)
    buffer.drain()
    assert [value for values in sink.taken for value in values] == [*map(float, range(2 * SLICE)), -1.0]


def test_a_sink_that_raises_costs_its_own_cell_only(caplog: pytest.LogCaptureFixture) -> None:
    buffer_set = BufferSet()
    kept = [_Kept(), _Kept()]
    before, broken, after = buffer_set.buffer(kept[0]), buffer_set.buffer(_Broken()), buffer_set.buffer(kept[1])
    before.values.append(1.0)
    broken.values.append(2.0)
    after.values.append(3.0)
    buffer_set.drain()
    assert [sink.taken for sink in kept] == [[[1.0]], [[3.0]]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_sink_that_raises_does_not_keep_other_cells_from_passing_through() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    broken, after = buffer_set.buffer(_Broken()), buffer_set.buffer(sink)
    broken.values.append(2.0)
    after.values.append(3.0)
    buffer_set.keep_nothing()
    after.add(4.0)
    assert sink.taken == [[3.0], [4.0]]


def test_a_cell_is_of_use_again_after_its_sink_has_raised() -> None:
    class OnceBroken(_Kept):
        def take(self, values: Sequence[float]) -> None:
            super().take(values)
            if len(self.taken) == 1:
                raise RuntimeError

    sink = OnceBroken()
    buffer = BufferSet().buffer(sink)
    with pytest.raises(RuntimeError):
        buffer.add(1.0)
    buffer.add(2.0)
    buffer.drain()
    assert sink.taken == [[1.0], [2.0]]


def test_a_counter_is_given_the_number_of_values(meter: Meter, collect: Callable[[], Points]) -> None:
    CounterSink(meter.create_counter("c"), {"k": "v"}).take([0.5, 7.0, -1.0])
    (point,) = collect().select("c")
    assert (point.attributes, point.value) == ({"k": "v"}, 3)


def test_an_updowncounter_is_given_the_sum_of_the_values(meter: Meter, collect: Callable[[], Points]) -> None:
    UpDownCounterSink(meter.create_up_down_counter("u"), {"k": "v"}).take([1, 1, -1, 1])
    (point,) = collect().select("u")
    assert (point.attributes, point.value) == ({"k": "v"}, 2)


def test_a_histogram_is_given_every_value(meter: Meter, collect: Callable[[], Points]) -> None:
    histogram = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    HistogramSink(histogram, {"k": "v"}).take([0.5, 1.0, 1.5, 9.0])
    (point,) = collect().select("h")
    assert (point.attributes, point.value, point.total) == ({"k": "v"}, 4, 12.0)
    assert point.buckets == [2, 1, 1]


def test_a_touched_counter_is_there_at_zero_and_a_touched_histogram_is_not(
    meter: Meter, collect: Callable[[], Points]
) -> None:
    buffer = BufferSet().buffer(
        CounterSink(meter.create_counter("c"), {}),
        UpDownCounterSink(meter.create_up_down_counter("u"), {}),
        HistogramSink(meter.create_histogram("h"), {}),
    )
    buffer.begin_at_zero()
    assert {point.metric: point.value for point in collect().all} == {"c": 0, "u": 0}


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_append_while_others_drain_and_collect_lose_nothing_and_double_nothing(
    temporality: AggregationTemporality,
) -> None:
    reader = InMemoryMetricReader({Counter: temporality, Histogram: temporality, UpDownCounter: temporality})
    provider = MeterProvider([reader])
    meter = provider.get_meter("threads")
    buffer_set = BufferSet()
    durations = buffer_set.buffer(
        CounterSink(meter.create_counter("c"), {}),
        HistogramSink(meter.create_histogram("h", explicit_bucket_boundaries_advisory=[100.0]), {}),
    )
    steps = buffer_set.buffer(UpDownCounterSink(meter.create_up_down_counter("u"), {}))
    writers, each = 4, 2500
    collections: list[Points] = []
    finished = threading.Event()

    def append() -> None:
        for value in range(each):
            steps.add(1)
            durations.add(float(value))
            steps.add(-1)

    def drain() -> None:
        while not finished.is_set():
            buffer_set.drain()

    def read() -> None:
        while not finished.is_set():
            collections.append(Points.of(reader))
            finished.wait(0.001)

    helpers = [threading.Thread(target=helper) for helper in (drain, drain, read)]
    for helper in helpers:
        helper.start()
    _at_once(*[append] * writers)
    finished.set()
    for helper in helpers:
        helper.join()
    buffer_set.drain()
    collections.append(Points.of(reader))
    provider.shutdown()

    counted = collections if temporality is AggregationTemporality.DELTA else collections[-1:]
    points = [point for collection in counted for point in collection.all]
    assert sum(point.value for point in points if point.metric == "c") == writers * each
    assert sum(point.value for point in points if point.metric == "u") == 0
    histogram = [point for point in points if point.metric == "h"]
    assert sum(point.value for point in histogram) == writers * each
    assert sum(point.total for point in histogram) == writers * sum(range(each))
    assert sum(point.buckets[0] for point in histogram) == writers * 101


@pytest.mark.usefixtures("hasty_threads")
def test_each_value_of_each_thread_is_handed_over_once() -> None:
    buffer_set, sink = BufferSet(), _Kept()
    buffer = buffer_set.buffer(sink)
    writers, each = 4, 2500
    finished = threading.Event()

    def append(first: int) -> Callable[[], None]:
        def job() -> None:
            for value in range(first, first + each):
                buffer.add(float(value))

        return job

    def drain() -> None:
        while not finished.is_set():
            buffer_set.drain()

    drains = [threading.Thread(target=drain) for _ in range(3)]
    for thread in drains:
        thread.start()
    _at_once(*(append(writer * each) for writer in range(writers)))
    finished.set()
    for thread in drains:
        thread.join()
    buffer_set.drain()

    handed_over = Multiset(value for values in sink.taken for value in values)
    assert handed_over == Multiset(float(value) for value in range(writers * each))


def _start_of_the_histogram(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        point
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        if isinstance(point, HistogramDataPoint)
    ]
    return points[0].start_time_unix_nano


def test_a_series_starts_no_later_than_its_first_value(meter: Meter, reader: InMemoryMetricReader) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(HistogramSink(meter.create_histogram("h"), {}))
    buffer.add(0.5)
    added = time.time_ns()
    buffer_set.drain()
    assert _start_of_the_histogram(reader) <= added


def test_a_histogram_beside_a_touched_counter_starts_no_later_than_its_first_value(
    meter: Meter, reader: InMemoryMetricReader
) -> None:
    buffer_set = BufferSet()
    buffer = buffer_set.buffer(
        CounterSink(meter.create_counter("c"), {}), HistogramSink(meter.create_histogram("h"), {})
    )
    buffer.begin_at_zero()
    buffer.add(0.5)
    added = time.time_ns()
    buffer_set.drain()
    assert _start_of_the_histogram(reader) <= added


_WRITERS, _EACH, _CLASSES = 4, 250_000, 50


def _count(collections: Sequence[Points], metric: str) -> tuple[float, float, list[int]]:
    """Events, their sum and their buckets over some collections."""
    points = [point for collection in collections for point in collection.select(metric)]
    buckets = [sum(counts) for counts in zip(*(point.buckets for point in points), strict=True)]
    return sum(point.value for point in points), sum(point.total for point in points), buckets


def test_of_a_million_events_recorded_while_readers_collect_not_one_is_lost_or_doubled() -> None:
    # Every writer has an event loop's role: it never waits for a drain, and drains what is full.
    self_check.check()
    delta = {kind: AggregationTemporality.DELTA for kind in (Counter, Histogram, UpDownCounter)}
    readers = [InMemoryMetricReader(), InMemoryMetricReader(delta)]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    buffer_set = BufferSet()
    hand_over = provider.get_meter("threads")
    hand_over.create_observable_gauge("drain", [lambda _: buffer_set.drain() or ()])
    bounds = [float(bound) for bound in range(_WRITERS * _CLASSES - 1)]
    histograms = [hand_over.create_histogram(n, explicit_bucket_boundaries_advisory=bounds) for n in ("h", "g")]
    counter, steps = hand_over.create_counter("c"), hand_over.create_up_down_counter("u")
    # Two buffers feed the same series, as folded attribute sets do.
    buffers = [
        buffer_set.buffer(CounterSink(counter, {}), *(HistogramSink(h, {}) for h in histograms)) for _ in range(2)
    ]
    open_now = buffer_set.buffer(UpDownCounterSink(steps, {}))
    collections: list[list[Points]] = [[], []]
    finished = threading.Event()

    def write(writer: int) -> Callable[[], None]:
        values = [float(writer * _CLASSES + number) for number in range(_CLASSES)]

        def job() -> None:
            for turn in range(_EACH // _CLASSES):
                open_now.add(1)
                add = buffers[turn % 2].add
                for value in values:
                    add(value)
                open_now.add(-1)

        return job

    def read(number: int) -> Callable[[], None]:
        def job() -> None:
            while not finished.is_set():
                collections[number].append(Points.of(readers[number]))

        return job

    scrapers = [threading.Thread(target=read(number)) for number in range(2)]
    for scraper in scrapers:
        scraper.start()
    try:
        _at_once(*map(write, range(_WRITERS)))
    finally:
        finished.set()
        for scraper in scrapers:
            scraper.join()
    for number, reader in enumerate(readers):
        collections[number].append(Points.of(reader))
    provider.shutdown()

    events = _WRITERS * _EACH
    total = sum(range(_WRITERS * _CLASSES)) * (_EACH // _CLASSES)
    each_bucket = [_EACH // _CLASSES] * (_WRITERS * _CLASSES)
    for counted in (collections[0][-1:], collections[1]):
        for metric in ("h", "g"):
            assert _count(counted, metric) == (events, total, each_bucket)
        assert sum(points.sum("c") for points in counted) == events
        assert sum(points.sum("u") for points in counted) == 0
    # In between, too: what has been collected never becomes less.
    seen = [points.sum("c") for points in collections[0]]
    assert seen == sorted(seen)
