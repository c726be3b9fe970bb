"""The measurement: rounds of alternating blocks.

A round starts every process anew, so that where the loader happens to put things is part of the noise and not of the
result. After a warm-up the processes take turns, a block of calls each, forwards and backwards (A B C, C B A), so that
whatever drifts meets all of them alike. Together the blocks of one process last as long as the scrape interval, and one
of them has one scrape in it. What a round says is one value; the result is the median over the rounds.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

from .cpu import cpus, pin
from .statistics import Estimate, estimate, percentile
from .subjects import BARE, Launch, Scenario, Subject, started

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """How long and how often.

    Attributes:
        rounds: How many times everything is started anew.
        interval: Seconds of calls between two scrapes.
        block: Seconds of one block, about.
        warm_up: Calls before anything is measured.
        at_once: Calls in flight at saturation.
        bursts: Blocks at saturation in each round; 0 leaves them out.
    """

    rounds: int = 10
    interval: float = 5.0
    block: float = 0.1
    warm_up: int = 300
    at_once: int = 16
    bursts: int = 4


@dataclass
class Readings:
    """What one process showed in one round.

    Attributes:
        calls: How many calls its blocks had.
        cpu: CPU seconds of those.
        latencies: Seconds of each call, where the driver sees them.
        rates: Calls per second of each burst.
    """

    calls: int = 0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])

    def figures(self) -> dict[str, float]:
        """The values of this round, by what they are."""
        figures = {"cpu": self.cpu / self.calls}
        if self.latencies:
            figures |= {"p50": percentile(self.latencies, 50), "p99": percentile(self.latencies, 99)}
        if self.rates:
            figures["rate"] = percentile(self.rates, 50)
        return figures


Round = dict[str, dict[str, float]]
"""By launch, then by figure."""


def progress(text: str) -> None:
    """Say on stderr what is going on, in the place of what was said before."""
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class Comparison:
    """What the rounds of one scenario say."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds

    def launches(self) -> list[str]:
        """What was compared, in the order it was asked for."""
        return list({launch: None for each in self._rounds for launch in each})

    def bare(self, figure: str) -> float | None:
        """The median of the bare process, in seconds (``rate``: calls per second)."""
        values = [each[BARE.name][figure] for each in self._rounds if figure in each[BARE.name]]
        return estimate(values).middle if values else None

    def difference(self, launch: str, figure: str) -> Estimate | None:
        """How much more than the bare process of the same round, in percent of it."""
        pairs = [
            (each[BARE.name][figure], each[launch][figure])
            for each in self._rounds
            if figure in each[BARE.name] and figure in each.get(launch, {})
        ]
        return estimate([100 * (other - bare) / bare for bare, other in pairs]) if pairs else None


_ORDERS: Final = 2
_MOST_SECONDS: Final = 3.0


def turns(subjects: Sequence[_T], block: int) -> list[_T]:
    """Who comes when: every second block backwards, and another one first after every two."""
    shift = block // _ORDERS % len(subjects)
    order = [*subjects[shift:], *subjects[:shift]]
    return order if block % _ORDERS == 0 else order[::-1]


async def measure_round(scenario: Scenario, launches: Sequence[Launch], plan: Plan) -> Round:
    """Start everything, measure, end everything.

    Raises:
        ProgramError: One of the processes failed.
    """
    pinned, other = cpus() or (None, None)
    pin(os.getpid(), other)
    async with AsyncExitStack() as stack:
        subjects = [await stack.enter_async_context(started(launch, scenario, pinned, other)) for launch in launches]
        for subject in subjects:
            await _warm_up(subject, max(plan.warm_up, scenario.traffic.tools, scenario.traffic.sessions))
            await subject.scrape()
        calls, seconds = await _calls_in(plan.block, subjects[0])
        readings = {subject.name: Readings() for subject in subjects}
        gc.collect()
        gc.freeze()
        blocks = max(2, round(plan.interval / seconds))
        for block in range(blocks):
            for subject in turns(subjects, block):
                await _block(subject, calls, readings[subject.name], scraped=block == blocks // 2)
        if scenario.is_server and not scenario.traffic.rate:
            for burst in range(plan.bursts):
                for subject in turns(subjects, burst):
                    await _burst(subject, 2 * calls, readings[subject.name], plan)
        gc.unfreeze()
    return {name: each.figures() for name, each in readings.items()}


async def _warm_up(subject: Subject, calls: int) -> None:
    """Make some calls, fewer where each takes long."""
    end = time.perf_counter() + _MOST_SECONDS
    while calls > 0 and time.perf_counter() < end:
        await subject.calls(min(calls, 10))
        calls -= 10


async def _calls_in(seconds: float, subject: Subject) -> tuple[int, float]:
    """How many calls take about that long, and how long they take."""
    tried = 5
    begin = time.perf_counter()
    await subject.calls(tried)
    one = (time.perf_counter() - begin) / tried
    calls = max(5, round(seconds / one))
    return calls, calls * one


async def _block(subject: Subject, calls: int, readings: Readings, *, scraped: bool) -> None:
    before = subject.cpu_seconds()
    if scraped:
        latencies, _ = await asyncio.gather(subject.calls(calls), subject.scrape())
    else:
        latencies = await subject.calls(calls)
    readings.cpu += subject.cpu_seconds() - before
    readings.calls += calls
    readings.latencies += latencies


async def _burst(subject: Subject, calls: int, readings: Readings, plan: Plan) -> None:
    begin = time.perf_counter()
    await subject.calls(calls, plan.at_once)
    readings.rates.append(calls / (time.perf_counter() - begin))
