"""A process with a metrics page, by our reader or by the stock exporter's, for the same series.

python -m benchmarks.scale.page ours|stock PORT TOOLS

The stock one has no part of ours in the way: plain instruments that hold what a recorder has recorded elsewhere. Orders
come by stdin, one a line: ``work N`` makes N calls (in the stock process for a provider without a reader: the work is
the same, and none of a scrape's business), ``watch`` begins to look how late the event loop is, ``lag`` ends it. Each
is answered by one line.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
    Sum,
)
from prometheus_client import start_http_server

from opentelemetry_instrumentation_mcp.distro.prometheus import PrometheusReader
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.limits import Limits

from .traffic import Calls

TICK: Final = 0.001
"""Seconds the event loop means to sleep."""


def _ours(port: int, tools: int) -> Calls:
    os.environ |= {OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1", OTEL_EXPORTER_PROMETHEUS_PORT: str(port)}
    return _recorded(MeterProvider([PrometheusReader()]), tools)


def _stock(port: int, tools: int) -> Calls:
    elsewhere = InMemoryMetricReader()
    _recorded(MeterProvider([elsewhere]), tools)
    data = elsewhere.get_metrics_data()
    assert data is not None
    provider = MeterProvider([PrometheusMetricReader()])
    for scope in (scope for resource in data.resource_metrics for scope in resource.scope_metrics):
        meter = provider.get_meter(scope.scope.name, scope.scope.version)
        for metric in scope.metrics:
            _repeat(metric, meter)
    start_http_server(port, "127.0.0.1")
    return _recorded(MeterProvider(), tools)


def _recorded(provider: MeterProvider, tools: int) -> Calls:
    calls = Calls(Recorder(provider, Limits(names=max(tools, 1))), tools)
    calls.many(10 * tools)
    return calls


def _repeat(metric: Metric, meter: Any) -> None:
    """Record what the points of a metric say, on an instrument of its own."""
    if isinstance(metric.data, Histogram):
        points = metric.data.data_points
        bounds = [] if not points else list(points[0].explicit_bounds)
        histogram = meter.create_histogram(
            metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=bounds
        )
        for point in points:
            for value, count in _values(point):
                for _ in range(count):
                    histogram.record(value, point.attributes)
        return
    monotonic = isinstance(metric.data, Sum) and metric.data.is_monotonic
    create = meter.create_counter if monotonic else meter.create_up_down_counter
    counter = create(metric.name, metric.unit, metric.description)
    for point in metric.data.data_points:
        assert isinstance(point, NumberDataPoint)
        counter.add(point.value, point.attributes)


def _values(point: HistogramDataPoint) -> list[tuple[float, int]]:
    """A value in every bucket, and how often it is to be recorded."""
    bounds = [*point.explicit_bounds, point.max]
    return [(bound, count) for bound, count in zip(bounds, point.bucket_counts, strict=True) if count]


class _Lag:
    """How late the event loop wakes from a short sleep, at worst."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._worst = 0.0

    def watch(self) -> None:
        # A full collection takes longer than all else, and comes with two scrapes of three: which ones is chance.
        gc.collect()
        self._worst = 0.0
        self._task = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(TICK)
            self._worst = max(self._worst, time.perf_counter() - begin - TICK)

    def end(self) -> float:
        if self._task is not None:
            self._task.cancel()
        return self._worst


async def obey(calls: Calls) -> None:
    """Do what stdin says until it ends."""
    lag = _Lag()
    print("ready", flush=True)
    while order := (await asyncio.to_thread(sys.stdin.readline)).split():
        answer = 0.0
        if order[0] == "work":
            calls.many(int(order[1]))
        elif order[0] == "watch":
            lag.watch()
        elif order[0] == "lag":
            answer = lag.end()
        print(answer, flush=True)


def main(kind: str, port: int, tools: int) -> None:
    asyncio.run(obey(_ours(port, tools) if kind == "ours" else _stock(port, tools)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
