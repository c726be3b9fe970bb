"""Instruments made from catalogue rows, and the attribute sets they may hold.

Each instrument admits a bounded number of attribute sets. The last tenth of the bound is kept for folded ones, so that
a set past it can still say what it is about: its tool or prompt name becomes ``_OTHER`` first, then its ``error.type``,
then every value. A quarter is kept from the client's role: what servers elsewhere are called, list and answer is theirs
to choose, and may not crowd out what a server of this process has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter

from . import bulk, catalogue
from .bulk import Attributes, Reach
from .catalogue import Instrument, Metric
from .labels import OTHER
from .sinks import CountOf, Distribution, Sink, SumOf
from .vocabulary import Role

_FOLDS = ((catalogue.TOOL, catalogue.PROMPT), (catalogue.ERROR_TYPE, catalogue.RPC_STATUS_CODE))

_CLIENT = Role.CLIENT.value

_Key = tuple[tuple[str, str | int], ...]
_I = TypeVar("_I", Counter, UpDownCounter, Histogram)


class Bound:
    """Decides which attribute sets one instrument may hold.

    Args:
        metric: The catalogue row; sets are folded within its attribute keys.
        limit: The most sets there can ever be, folded ones included.
    """

    def __init__(self, metric: Metric, limit: int) -> None:
        self._keys = metric.attributes
        self._limit = max(limit, 1)
        self._plain_limit = self._limit - max(self._limit // 10, 1)
        self._admitted: set[_Key] = set()
        self._of_clients = 0
        self._lock = threading.RLock()

    def admit(self, values: Mapping[str, str | int | None]) -> Attributes:
        """The attribute set to use for ``values``: keys of this metric that have a value, folded if need be."""
        attributes: Attributes = {}
        for key in self._keys:
            value = values.get(key)
            if value is not None:
                attributes[key] = value
        with self._lock:
            if self._take(attributes, self._plain_limit):
                return attributes
            for folded in self._folded(attributes):
                # The set in which everything is folded must always find room: it is the one that ends the row.
                if self._take(folded, self._limit - 1):
                    return folded
            last: Attributes = dict.fromkeys(self._keys, OTHER)
            self._take(last, self._limit)
            return last

    def _take(self, attributes: Attributes, limit: int) -> bool:
        key: _Key = tuple(attributes.items())
        if key in self._admitted:
            return True
        if len(self._admitted) >= limit:
            return False
        if attributes.get(catalogue.ROLE) == _CLIENT:
            if self._of_clients >= limit - limit // 4:
                return False
            self._of_clients += 1
        self._admitted.add(key)
        return True

    @staticmethod
    def _folded(attributes: Attributes) -> Iterator[Attributes]:
        folded = dict(attributes)
        for keys in _FOLDS:
            if any(key in folded for key in keys):
                folded.update({key: OTHER for key in keys if key in folded})
                yield dict(folded)


class _Bounded(Generic[_I]):
    """An instrument, its bound, and what it reaches."""

    def __init__(self, instrument: _I, bound: Bound) -> None:
        self.instrument = instrument
        self.reach = Reach(instrument)
        self.bound = bound


class Instruments:
    """Every synchronous instrument of the catalogue, created on one meter.

    Args:
        meter: Where they are created.
        limit: The most attribute sets each of them may hold.
    """

    def __init__(self, meter: Meter, limit: int) -> None:
        bulk.check()
        self._counters: dict[str, _Bounded[Counter]] = {}
        self._steps: dict[str, _Bounded[UpDownCounter]] = {}
        self._histograms: dict[str, _Bounded[Histogram]] = {}
        for metric in catalogue.CATALOGUE:
            bound = Bound(metric, limit)
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
            return CountOf(counter.instrument, counter.bound.admit(values), counter.reach)
        if metric.instrument is Instrument.UP_DOWN_COUNTER:
            steps = self._steps[metric.name]
            return SumOf(steps.instrument, steps.bound.admit(values), steps.reach)
        histogram = self._histograms[metric.name]
        return Distribution(histogram.instrument, histogram.bound.admit(values), histogram.reach)
