"""Buffers that nobody collects, and the longest time one request spends on handing over: the recorder by itself."""

from __future__ import annotations

import gc
import time
from typing import Any, Final

from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from opentelemetry_instrumentation_mcp.metrics.catalogue import REQUESTS_TOTAL
from opentelemetry_instrumentation_mcp.metrics.events import Recorder

from ..overhead.statistics import percentile
from .figures import Figure
from .traffic import Calls

LONGEST_MS: Final = 1.0
"""Milliseconds that a drain may take of the thread of an event loop."""

MOST_WAITING: Final = 100_000
"""Values that may wait for a collection that never comes: less than 4 MB of them."""

_TOOLS: Final = 100
_PORTION: Final = 997


def _waiting(recorder: Recorder) -> int:
    """How many values wait in all buffers."""
    shared: Any = vars(recorder)["_shared"]
    return sum(len(buffer.values) for buffer in shared.buffers._buffer_set._buffers)


def never_scraped(requests: int) -> list[Figure]:
    """How many values wait when nobody collects, and how many are lost."""
    reader = InMemoryMetricReader()
    recorder = Recorder(MeterProvider([reader]))
    calls = Calls(recorder, _TOOLS)
    most = 0
    for _ in range(requests // _PORTION):
        calls.many(_PORTION)
        most = max(most, _waiting(recorder))
    requests = requests // _PORTION * _PORTION
    counted = _counted(reader)
    recorder.retire()
    title = f"never scraped, {requests:,} requests, {_TOOLS} tools"
    return [
        Figure(f"{title}: most values waiting", most, None, "values", f"<= {MOST_WAITING:,}", most <= MOST_WAITING),
        Figure(f"{title}: counted at last", counted, requests, "requests", "equal", counted == requests),
    ]


def _counted(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    return sum(
        int(getattr(point, "value", 0))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == REQUESTS_TOTAL.name
        for point in metric.data.data_points
    )


def longest_drain(requests: int) -> list[Figure]:
    """The longest a thread is busy with one request, in CPU time: most of them append, some have to drain.

    One in 10,000 is left out of the limit, since what else runs on a machine lengthens one or another.
    """
    exponential = View(instrument_type=Histogram, aggregation=ExponentialBucketHistogramAggregation())
    figures: list[Figure] = []
    for way, views in (("in bulk", []), ("by the fallback", [exponential])):
        recorder = Recorder(MeterProvider([InMemoryMetricReader()], views=views))
        calls = Calls(recorder, _TOOLS)
        # The first of everything makes instruments and series.
        calls.many(_TOOLS)
        milliseconds: list[float] = []
        # A garbage collection is no drain.
        gc.collect()
        gc.disable()
        for _ in range(requests):
            begin = time.thread_time_ns()
            calls.one()
            milliseconds.append((time.thread_time_ns() - begin) / 1e6)
        gc.enable()
        recorder.retire()
        most = percentile(milliseconds, 99.99)
        title = f"a request with its drains {way}"
        figures += [
            Figure(f"{title}, 9,999 of 10,000", most, None, "ms", f"<= {LONGEST_MS:g} ms", most <= LONGEST_MS),
            Figure(f"{title}, the longest of {requests:,}", max(milliseconds), None, "ms"),
        ]
    return figures
