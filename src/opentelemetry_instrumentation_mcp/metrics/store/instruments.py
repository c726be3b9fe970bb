"""Instruments made from catalogue rows, each with the attribute sets it may hold (:mod:`.attribute_sets`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

from .. import catalogue
from ..buffers import self_check
from ..buffers.histogram_writer import InstrumentReaders
from ..buffers.sink import Sink
from ..buffers.sinks import CounterSink, HistogramSink, UpDownCounterSink
from ..catalogue import Instrument, Metric
from .attribute_sets import AttributeSets

_I = TypeVar("_I", Counter, UpDownCounter, Histogram)


class _Bounded(Generic[_I]):
    """An instrument, its bound, and what it reaches."""

    def __init__(self, instrument: _I, bound: AttributeSets) -> None:
        self.instrument = instrument
        self.instrument_readers = InstrumentReaders(instrument)
        self.bound = bound


class Instruments:
    """Every synchronous instrument of the catalogue, created on one meter.

    Args:
        meter: Where they are created.
        limit: The most attribute sets each of them may hold.
    """

    def __init__(self, meter: Meter, limit: int) -> None:
        self_check.check()
        self._counters: dict[str, _Bounded[Counter]] = {}
        self._steps: dict[str, _Bounded[UpDownCounter]] = {}
        self._histograms: dict[str, _Bounded[Histogram]] = {}
        for metric in catalogue.CATALOGUE:
            bound = AttributeSets(metric, limit)
            name, unit, description = metric.name, metric.unit, metric.description
            if metric.instrument is Instrument.COUNTER:
                self._counters[name] = _Bounded(meter.create_counter(name, unit, description), bound)
            elif metric.instrument is Instrument.UP_DOWN_COUNTER:
                self._steps[name] = _Bounded(meter.create_up_down_counter(name, unit, description), bound)
            elif metric.instrument is Instrument.HISTOGRAM:
                histogram = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=metric.buckets
                )
                self._histograms[name] = _Bounded(histogram, bound)

    def sink(self, metric: Metric, values: Mapping[str, str | int | None]) -> Sink:
        """Where values of ``metric`` with these attributes go; keys the metric does not have are ignored."""
        if metric.instrument is Instrument.COUNTER:
            counter = self._counters[metric.name]
            return CounterSink(counter.instrument, counter.bound.admit(values), counter.instrument_readers)
        if metric.instrument is Instrument.UP_DOWN_COUNTER:
            steps = self._steps[metric.name]
            return UpDownCounterSink(steps.instrument, steps.bound.admit(values), steps.instrument_readers)
        histogram = self._histograms[metric.name]
        return HistogramSink(histogram.instrument, histogram.bound.admit(values), histogram.instrument_readers)
