"""More calls a second, more sessions, more tools, larger results: the comparison of processes, with other traffic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from ..overhead.cpu import cpus
from ..overhead.lines import Traffic
from ..overhead.rounds import Comparison, Plan, Round, measure_round, progress
from ..overhead.subjects import BARE, CONTROL, INSTRUMENTED, Scenario, Subject, started
from .figures import Figure

_STDIO: Final = ("stdio",)
_HTTP: Final = ("http",)

SCENARIOS: Final = (
    *(Scenario(f"{rate} calls/s, stdio", _STDIO, traffic=Traffic(rate=rate)) for rate in (10, 100, 300)),
    Scenario("as many calls as it can, stdio", _STDIO),
    *(Scenario(f"{n} sessions, http", _HTTP, posts=True, traffic=Traffic(sessions=n)) for n in (1, 10, 100, 1000)),
    *(Scenario(f"{n} tools, stdio", _STDIO, traffic=Traffic(tools=n)) for n in (10, 100, 1000)),
    Scenario("a result of 10 MB, stdio", _STDIO, traffic=Traffic(size=10_000_000)),
    Scenario("a result of 10 MB, http", _HTTP, posts=True, traffic=Traffic(size=10_000_000)),
)

IDLE_SECONDS: Final = 20.0
SCRAPE_SECONDS: Final = 5.0


async def compare(scenario: Scenario, rounds: int) -> list[Figure]:
    """CPU per call at this traffic."""
    measured: list[Round] = []
    for number in range(rounds):
        progress(f"{scenario.name}: round {number + 1} of {rounds}")
        measured.append(await measure_round(scenario, [BARE, INSTRUMENTED, CONTROL], Plan(rounds, bursts=0)))
    progress("")
    comparison = Comparison(measured)
    bare = comparison.bare("cpu")
    ours, control = (comparison.difference(launch.name, "cpu") for launch in (INSTRUMENTED, CONTROL))
    assert bare is not None
    assert ours is not None
    assert control is not None
    with_ours = 1e6 * bare * (1 + ours.middle / 100)
    note = f"{ours} %, A/A {control} %"
    return [Figure(f"{scenario.name}: CPU per call", with_ours, 1e6 * bare, "us", note=note)]


@asynccontextmanager
async def _both() -> AsyncGenerator[Sequence[Subject]]:
    pinned, other = cpus() or (None, None)
    async with AsyncExitStack() as stack:
        scenario = Scenario("idle", _STDIO)
        yield [
            await stack.enter_async_context(started(launch, scenario, pinned, other)) for launch in (INSTRUMENTED, BARE)
        ]


async def idle() -> list[Figure]:
    """CPU of a server that nobody calls, and that is scraped."""
    async with _both() as subjects:
        for subject in subjects:
            await subject.calls(50)
            await subject.scrape()
        before = [subject.cpu_seconds() for subject in subjects]
        end = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end:
            await asyncio.sleep(SCRAPE_SECONDS)
            for subject in subjects:
                await subject.scrape()
        ours, bare = (
            1000 * (subject.cpu_seconds() - begin) / IDLE_SECONDS
            for subject, begin in zip(subjects, before, strict=True)
        )
    return [Figure("idle, stdio, a scrape every 5 s: CPU", ours, bare, "ms/s")]
