"""Resident memory after a million requests, bare and instrumented side by side."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from ..overhead.cpu import cpus
from ..overhead.subjects import BARE, INSTRUMENTED, Scenario, Subject, started
from .figures import Figure

MEBIBYTE: Final = 2**20
MOST_GROWTH: Final = 5
"""Mebibytes that instrumentation may add to what a bare process has grown by."""

_SCENARIOS: Final = (Scenario("in memory", ("memory",)), Scenario("stdio", ("stdio",)))
_WARM_UP: Final = 2000
_PORTION: Final = 500
_SCRAPE_SECONDS: Final = 5.0


async def _load(subject: Subject, calls: int) -> tuple[int, int]:
    """Make the calls, with a scrape now and then; resident bytes before and after them."""
    await subject.calls(_WARM_UP, 8)
    await subject.scrape()
    before = subject.resident_bytes()
    scraped = time.monotonic()
    for _ in range(calls // _PORTION):
        await subject.calls(_PORTION, 8)
        if time.monotonic() - scraped > _SCRAPE_SECONDS:
            scraped = time.monotonic()
            await subject.scrape()
    await subject.scrape()
    return before, subject.resident_bytes()


async def after(requests: int) -> list[Figure]:
    """How much larger a process is after so many requests, and how much it has grown by them."""
    pinned, other = cpus() or (None, None)
    figures: list[Figure] = []
    for scenario in _SCENARIOS:
        async with AsyncExitStack() as stack:
            # Time does not matter here, so each has a processor of its own, if there are two.
            ours, bare = [
                await stack.enter_async_context(started(launch, scenario, cpu, other))
                for launch, cpu in ((INSTRUMENTED, pinned), (BARE, other))
            ]
            (before, end), (bare_before, bare_end) = await asyncio.gather(_load(ours, requests), _load(bare, requests))
        growth, bare_growth = (end - before) / MEBIBYTE, (bare_end - bare_before) / MEBIBYTE
        figures += [
            Figure(
                f"{scenario.name}: growth over {requests:,} requests",
                growth,
                bare_growth,
                "MiB",
                f"within {MOST_GROWTH} MiB of bare",
                growth - bare_growth <= MOST_GROWTH,
            ),
            Figure(f"{scenario.name}: resident at the end", end / MEBIBYTE, bare_end / MEBIBYTE, "MiB"),
        ]
    return figures
