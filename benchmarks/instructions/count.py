"""The program that runs under callgrind: it counts one path, in all modes, and prints what it counted.

Every mode is counted in a fork of its own. They share what has been imported and run before, and nothing of what they
change: not the patches, and not what these leave in the interpreter's caches.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points

from opentelemetry.instrumentation.auto_instrumentation import initialize  # pyright: ignore[reportMissingTypeStubs]
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from .callgrind import Counter
from .paths import PATHS, Call

WARM_UP = 100
"""Calls before the count: caches fill, and the interpreter specialises its bytecode."""

Counted = dict[str, float]


async def _calls(call: Call, count: int) -> None:
    for _ in range(count):
        await call()


async def _count_calls(counter: Counter, call: Call, calls: int) -> float:
    """Instructions of one call, garbage collection included.

    By itself the collector runs every so many allocations: in a few calls once more or once less, which is no property
    of a call. So it waits until the end, and looks only at what the calls have left.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    # Here and not before: a full collection empties the interpreter's free lists, and the first call fills them again.
    await _calls(call, WARM_UP)
    _wait_for_the_page()
    gc.collect(0)
    counter.start()
    await _calls(call, calls)
    gc.collect(0)
    return counter.stop() / calls


def _wait_for_the_page() -> None:
    """The first connection opens the page, on a thread of its own, once in a process; that is not part of a call."""
    for thread in threading.enumerate():
        if thread.name == "otel-mcp-endpoint":
            thread.join()


def _count_collection(counter: Counter, reader: MetricReader) -> int:
    gc.collect(0)
    counter.start()
    reader.collect()
    gc.collect(0)
    return counter.stop()


async def _as_it_is(path: str, calls: int) -> float:
    async with PATHS[path]() as call:
        return await _count_calls(Counter(), call, calls)


def _bare(path: str, calls: int) -> Counted:
    return {"bare": asyncio.run(_as_it_is(path, calls))}


def _bare_again(path: str, calls: int) -> Counted:
    return {"bare_again": asyncio.run(_as_it_is(path, calls))}


def _instrumented(path: str, calls: int) -> Counted:
    reader = InMemoryMetricReader()
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))

    async def count() -> Counted:
        counter = Counter()
        async with PATHS[path]() as call:
            # The first values of a series go through at once.
            await _calls(call, 1)
            reader.collect()
            counted = await _count_calls(counter, call, calls)
            # The warm-up's values are handed over with those of the calls that were counted.
            full = _count_collection(counter, reader)
            empty = _count_collection(counter, reader)
            return {"instrumented": counted, "hand_over": (full - empty) / (calls + WARM_UP)}

    return asyncio.run(count())


def _set_up(*off: str) -> None:
    """What ``opentelemetry-instrument`` does, without the instrumentations in ``off``.

    Nor with those of others, or the stock distro, where they are installed too: what they cost is not ours.
    """
    others = {each.name for each in entry_points(group="opentelemetry_instrumentor")} - {"mcp_sdk"}
    os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = ",".join(sorted({*others, *off}))
    os.environ["OTEL_PYTHON_DISTRO"] = "mcp"
    # A port of the system's choice: nobody scrapes here.
    os.environ["OTEL_EXPORTER_PROMETHEUS_PORT"] = "0"
    initialize()


def _launched(path: str, calls: int) -> Counted:
    _set_up()
    return {"launched": asyncio.run(_as_it_is(path, calls))}


def _switched_off(path: str, calls: int) -> Counted:
    _set_up("mcp_sdk")
    return {"switched_off": asyncio.run(_as_it_is(path, calls))}


def _disabled(path: str, calls: int) -> Counted:
    os.environ["OTEL_SDK_DISABLED"] = "true"
    _set_up()
    return {"disabled": asyncio.run(_as_it_is(path, calls))}


_MODES = (_bare, _bare_again, _instrumented, _launched, _switched_off, _disabled)


def _fork(mode: Callable[[str, int], Counted], path: str, calls: int) -> tuple[int, int]:
    """Let a child count a mode; its id, and the file descriptor to read what it counted from."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps(mode(path, calls)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    return child, reading


async def _once(path: str) -> None:
    """For nothing: modules are imported when they are first needed."""
    async with PATHS[path]() as call:
        await call()


def main(path: str, calls: int) -> None:
    asyncio.run(_once(path))
    counted: Counted = {}
    # Together: the machine may have more than one processor.
    for child, reading in [_fork(mode, path, calls) for mode in _MODES]:
        with open(reading, "rb") as answer:
            text = answer.read()
        if os.waitpid(child, 0)[1]:
            sys.exit("a mode could not be counted")
        counted |= json.loads(text)
    print(json.dumps(counted))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
