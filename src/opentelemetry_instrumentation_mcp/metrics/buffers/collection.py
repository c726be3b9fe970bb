"""What happens when a reader collects: buffers are handed over, memory and idle connections are observed.

It runs before the synchronous instruments of the same collection are read (``MeasurementConsumer.collect``), which is
what makes a scrape exact. The SDK keeps the first callback an instrument was ever given, so a callback cannot belong to
a recorder: it finds those that are at work on its provider now.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider

from ...core.fail_open import contained, guard
from .. import catalogue


class Collected(Protocol):
    """What is drained and observed when a reader collects."""

    provider: MeterProvider | None

    def drain(self) -> None:
        """Hand over what every buffer holds."""
        ...

    def idle_by_pool(self) -> Mapping[str, int]:
        """Idle connections of the client's HTTP pools, by bounded pool name."""
        ...


_live: set[Collected] = set()
"""Those between :func:`begin` and :func:`end`; usually one."""


def _collect(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    observations: list[Observation] = []
    with guard("a metric was lost in collection.collect"):
        for collected in _live_on(provider):
            _drain(collected)
            observations = _memory.observe() or []
    return observations


def _idle_connections(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    observations: list[Observation] = []
    with guard("a metric was lost in collection.idle_connections"):
        for collected in _live_on(provider):
            observations += _observe_idle(collected) or []
    return observations


def _live_on(provider: MeterProvider | None) -> list[Collected]:
    return [each for each in tuple(_live) if _resolved(each.provider) is _resolved(provider)]


@contained
def _observe_idle(collected: Collected) -> list[Observation]:
    return [Observation(count, {catalogue.POOL: pool}) for pool, count in collected.idle_by_pool().items()]


def _resolved(provider: MeterProvider | None) -> MeterProvider:
    return get_meter_provider() if provider is None else provider


@contained
def _drain(collected: Collected) -> None:
    collected.drain()


class _Memory:
    """The resident memory of this process. To find the process takes longer than to ask it."""

    def __init__(self) -> None:
        self._process: psutil.Process | None = None

    @contained
    def observe(self) -> list[Observation]:
        process = self._process
        if process is None or process.pid != os.getpid():
            # A handle from before a fork is the parent's.
            process = self._process = psutil.Process()
        return [Observation(process.memory_info().rss)]


_memory = _Memory()


def begin(collected: Collected, meter: Meter) -> None:
    """Serve the collections of its provider from now on."""
    memory, idle = catalogue.MEMORY_USAGE, catalogue.POOL_IDLE
    for metric, callback in ((memory, _collect), (idle, _idle_connections)):
        meter.create_observable_up_down_counter(
            metric.name, [partial(callback, collected.provider)], metric.unit, metric.description
        )
    _live.add(collected)


def end(collected: Collected) -> None:
    """Serve them no longer."""
    _live.discard(collected)
