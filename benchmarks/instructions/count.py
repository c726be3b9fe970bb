"""The program that runs under callgrind: it counts one path, bare and instrumented, and prints what it counted."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.instrumentation.auto_instrumentation import initialize  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from .callgrind import Counter
from .paths import PATHS, Call

WARM_UP = 20
"""Calls before the count: caches fill, and the interpreter specialises its bytecode."""


async def _calls(call: Call, count: int) -> None:
    for _ in range(count):
        await call()


@contextmanager
def _settled() -> Generator[None]:
    """What there is already is not looked through again by the garbage collections that the counted code causes."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _count_collection(counter: Counter, reader: MetricReader) -> int:
    with _settled():
        counter.start()
        reader.collect()
        return counter.stop()


async def _count_calls(counter: Counter, call: Call, count: int) -> float:
    await _calls(call, WARM_UP)
    with _settled():
        counter.start()
        await _calls(call, count)
        return counter.stop() / count


async def _as_it_is(counter: Counter, path: str, count: int) -> float:
    async with PATHS[path]() as call:
        return await _count_calls(counter, call, count)


async def _instrumented(counter: Counter, path: str, count: int) -> tuple[float, float]:
    """Instructions of one call and of its hand-over to the instruments, when a reader collects."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=provider)
    try:
        async with PATHS[path]() as call:
            await _calls(call, WARM_UP)
            reader.collect()
            counted = await _count_calls(counter, call, count)
            # The warm-up's values are handed over with those of the calls that were counted.
            full = _count_collection(counter, reader)
            empty = _count_collection(counter, reader)
            return counted, (full - empty) / (count + WARM_UP)
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


async def _launched(counter: Counter, path: str, count: int) -> float:
    """Instructions of one call when everything is set up as ``opentelemetry-instrument`` does it. Not to be undone."""
    # A port of the system's choice: nobody scrapes here.
    os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] = "0"
    initialize()
    return await _as_it_is(counter, path, count)


async def _main(path: str, count: int) -> dict[str, float]:
    counter = Counter()
    # Once for nothing: modules are imported when they are first needed.
    async with PATHS[path]() as call:
        await _calls(call, 1)
    bare = await _as_it_is(counter, path, count)
    instrumented, hand_over = await _instrumented(counter, path, count)
    again = await _as_it_is(counter, path, count)
    launched = await _launched(counter, path, count)
    return {
        "bare": bare,
        "bare_again": again,
        "instrumented": instrumented,
        "launched": launched,
        "hand_over": hand_over,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(sys.argv[1], int(sys.argv[2])))))
