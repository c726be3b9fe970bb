"""What several threads do to the buffers at once: nothing is lost, nothing is counted twice.

Threads change places after every microsecond, on a build with the GIL; on a free-threaded build they run at the same
time. Every test here passes on either, or it says which part of the docstring of
:mod:`~.metrics.buffers.value_buffer` is wrong.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from operator import add

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from opentelemetry_instrumentation_mcp.metrics.buffers.buffer_set import BufferSet
from opentelemetry_instrumentation_mcp.metrics.buffers.sinks import CounterSink, HistogramSink, UpDownCounterSink
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.outcome import CANCELLED, OK, TOOL_ERROR

from ..points import METHOD, STATUS, TOOL, Points
from .recording import INBOUND, Collect, Registry, begin, connect

THREADS = 4
VALUES = 250_000
"""Of each thread: a million in all."""

CALLS = 5_000
"""Of each thread."""

pytestmark = pytest.mark.usefixtures("nothing_is_swallowed")


@pytest.fixture(autouse=True)
def hasty_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def _while_somebody_reads(work: Callable[[int], None], read: Callable[[], object]) -> int:
    """Run ``work`` in each of the threads, and ``read`` over and over meanwhile; returns how often it was read."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    reads = 0
    while any(thread.is_alive() for thread in threads):
        read()
        reads += 1
    for thread in threads:
        thread.join()
    return reads


def _total(points: Points, histogram: str) -> float:
    return sum(point.total for point in points.select(histogram))


def test_a_million_values_of_several_threads_arrive_once_each(provider: MeterProvider, collect: Collect) -> None:
    meter = provider.get_meter("threads")
    buffer_set = BufferSet()
    values = buffer_set.buffer(
        CounterSink(meter.create_counter("values"), {}), HistogramSink(meter.create_histogram("sizes"), {})
    )
    steps = buffer_set.buffer(UpDownCounterSink(meter.create_up_down_counter("steps"), {}))

    def work(number: int) -> None:
        for value in range(VALUES // 2):
            values.add(value % 1000)
            steps.add(1 if value % 2 else -1)

    def read() -> None:
        buffer_set.drain()
        collect()

    assert _while_somebody_reads(work, read) > 1
    buffer_set.drain()
    points = collect()
    assert points.sum("values") == points.sum("sizes") == THREADS * VALUES // 2
    assert _total(points, "sizes") == THREADS * sum(value % 1000 for value in range(VALUES // 2))
    assert points.sum("steps") == 0


def test_rows_of_several_threads_stay_whole(provider: MeterProvider, collect: Collect) -> None:
    meter = provider.get_meter("threads")
    buffer_set = BufferSet()
    # A row is (n, -n): one that was torn, lost or doubled shows in one of the columns.
    first = CounterSink(meter.create_counter("rows"), {})
    sums = UpDownCounterSink(meter.create_up_down_counter("differences"), {})
    rows = buffer_set.rows(2, [(lambda columns: columns[0], first), (lambda columns: map(add, *columns), sums)])

    def work(number: int) -> None:
        for value in range(1, VALUES // 5):
            rows.keep((value, -value))

    _while_somebody_reads(work, buffer_set.drain)
    buffer_set.drain()
    points = collect()
    assert points.sum("rows") == THREADS * (VALUES // 5 - 1)
    assert points.sum("differences") == 0


def test_requests_of_several_threads_are_counted_once_each(recorder: Recorder, collect: Collect) -> None:
    tools = [f"tool-{number}" for number in range(20)]
    outcomes = (OK, TOOL_ERROR, CANCELLED)

    def work(number: int) -> None:
        # Each thread has an event loop of its own: connections are of one thread, series are of all.
        connection = connect(recorder, server_name="calculator", registry=Registry(tools=tools))
        for call in range(CALLS):
            request = begin(connection, INBOUND, "tools/call", {"name": tools[call % len(tools)]})
            request.measured(100, response=False)
            request.end(outcomes[call % len(outcomes)])
            request.measured(200, response=True)

    assert _while_somebody_reads(work, collect) > 1
    points = collect()
    calls = {METHOD: "tools/call"}
    assert sum(points.by(TOOL, "mcp.requests.total", calls).values()) == THREADS * CALLS
    assert points.by(TOOL, "mcp.requests.total", calls) == dict.fromkeys(tools, THREADS * CALLS // len(tools))
    assert points.by(STATUS, "mcp.requests.total", calls) == {
        outcome.status: THREADS * len(range(CALLS)[start :: len(outcomes)]) for start, outcome in enumerate(outcomes)
    }
    assert points.sum("mcp.requests.active", calls) == 0
    for size, metric in ((100, "mcp.request.size"), (200, "mcp.response.size")):
        assert points.sum(metric, calls) == THREADS * CALLS
        assert _total(points, metric) == THREADS * CALLS * size
