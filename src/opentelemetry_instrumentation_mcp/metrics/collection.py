"""What happens when a reader collects: cells are handed over, memory and idle connections are observed.

It runs before the synchronous instruments of the same collection are read (``MeasurementConsumer.collect``), which is
what makes a scrape exact. The SDK keeps the first callback an instrument was ever given, so a callback cannot belong to
a recorder: it asks which ones are at work on its provider now.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import psutil
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider

from ..core.fail_open import contained, report
from . import catalogue

if TYPE_CHECKING:
    from .recorder import Recorder

_live: set[Recorder] = set()
"""Recorders between their creation and :meth:`Recorder.retire`; usually one."""


def _collect(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    """What happens when a reader of ``provider`` collects: cells are drained, memory is observed.

    It runs before the synchronous instruments of the same collection are read (``MeasurementConsumer.collect``), which
    is what makes a scrape exact. The SDK keeps the first callback an instrument was ever given, so it cannot belong to
    a recorder: it asks which ones are at work on its provider now.
    """
    observations: list[Observation] = []
    try:
        for recorder in tuple(_live):
            if _resolved(recorder.provider) is _resolved(provider):
                _drain(recorder)
                observations = _memory.observe() or []
    except Exception as error:
        report("collection.collect", error)
    return observations


def _idle_connections(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    observations: list[Observation] = []
    try:
        for recorder in tuple(_live):
            if _resolved(recorder.provider) is _resolved(provider):
                observations += _observe_idle(recorder) or []
    except Exception as error:
        report("collection.idle_connections", error)
    return observations


@contained
def _observe_idle(recorder: Recorder) -> list[Observation]:
    return [Observation(count, {catalogue.POOL: pool}) for pool, count in recorder.idle_by_pool().items()]


def _resolved(provider: MeterProvider | None) -> MeterProvider:
    return get_meter_provider() if provider is None else provider


@contained
def _drain(recorder: Recorder) -> None:
    recorder.drain()


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


def begin(recorder: Recorder, meter: Meter) -> None:
    """Serve the collections of a recorder's provider from now on."""
    memory, idle = catalogue.MEMORY_USAGE, catalogue.POOL_IDLE
    for metric, callback in ((memory, _collect), (idle, _idle_connections)):
        meter.create_observable_up_down_counter(
            metric.name, [partial(callback, recorder.provider)], metric.unit, metric.description
        )
    _live.add(recorder)


def end(recorder: Recorder) -> None:
    """Serve them no longer."""
    _live.discard(recorder)
