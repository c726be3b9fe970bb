"""Whether adding in bulk does what recording one by one does, on this release of the SDK.

Imported by :mod:`.self_check` only, since it loads the SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from ..labels import Attributes
from .batch import Batch
from .histogram_writer import HistogramWriter, InstrumentReaders

_ATTRIBUTES: Final[Attributes] = {"kept": "a", "filtered": 1}
_ROUNDS: Final = ((0.1, 0.2, 0.3, 1, 1.5, 0.7), (7, 0.1, 0.1, 0.1, 0.0, 9.9))
_BULK, _ONE_BY_ONE = "bulk", "one_by_one"


def agree() -> bool:
    """Compare every field of every point: both temporalities, with and without a View, two collections."""
    readers = [
        InMemoryMetricReader({Histogram: AggregationTemporality.CUMULATIVE}),
        InMemoryMetricReader({Histogram: AggregationTemporality.DELTA}),
    ]
    provider = MeterProvider(
        readers,
        Resource.get_empty(),
        AlwaysOffExemplarFilter(),
        shutdown_on_exit=False,
        views=[
            View(
                instrument_name="viewed.*",
                attribute_keys={"kept"},
                aggregation=ExplicitBucketHistogramAggregation([0.2, 1.0], record_min_max=False),
            )
        ],
    )
    meter = provider.get_meter("self-check")
    pairs = [
        [
            meter.create_histogram(f"{kind}.{way}", explicit_bucket_boundaries_advisory=[0.1, 0.5, 1.0])
            for way in (_BULK, _ONE_BY_ONE)
        ]
        for kind in ("plain", "viewed")
    ]
    all_readers = [InstrumentReaders(in_bulk, trusted=True) for in_bulk, _ in pairs]
    agreed = True
    for values in _ROUNDS:
        for (in_bulk, one_by_one), instrument_readers in zip(pairs, all_readers, strict=True):
            agreed &= _record(in_bulk, one_by_one, instrument_readers, values)
        for reader in readers:
            leaves = [
                _Leaving(match)
                for instrument_readers in all_readers
                for match in instrument_readers.state().matches or ()
            ]
            agreed &= _alike(reader) and all([leaving.was_first() for leaving in leaves])
    provider.shutdown()
    return agreed


def _record(
    in_bulk: Instrument, one_by_one: Instrument, instrument_readers: InstrumentReaders, values: Sequence[float]
) -> bool:
    in_bulk.record(values[0], _ATTRIBUTES)
    for value in values:
        one_by_one.record(value, _ATTRIBUTES)
    return HistogramWriter(instrument_readers, _ATTRIBUTES).add(Batch(values[1:]))


def _alike(reader: InMemoryMetricReader) -> bool:
    ways: dict[str, list[Any]] = {_BULK: [], _ONE_BY_ONE: []}
    for name, point in _points(reader):
        kind, way = name.split(".")
        numbers = (point.count, point.sum, point.min, point.max, point.bucket_counts, point.explicit_bounds)
        ways[way].append((kind, dict(point.attributes or {}), numbers))
    return len(ways[_BULK]) == 2 and ways[_BULK] == ways[_ONE_BY_ONE]


def _points(reader: InMemoryMetricReader) -> Iterator[tuple[str, HistogramDataPoint]]:
    data = reader.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        for point in metric.data.data_points:
            if isinstance(point, HistogramDataPoint):
                yield metric.name, point


class _Leaving:
    """The lock of a series, and a look at when a collection that discards the series does so.

    It has to be before the collection takes the lock, and not after it: what is added in between would be lost.
    """

    def __init__(self, match: Any) -> None:
        (self._key,) = match._attributes_aggregation
        self._series = match._attributes_aggregation[self._key]
        self._match = match
        self._lock = self._series._lock
        self._was_there = self._is_there()
        self._series._lock = self

    def __enter__(self) -> None:
        self._lock.acquire()
        self._was_there = self._is_there()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _is_there(self) -> bool:
        return self._match._attributes_aggregation.get(self._key) is self._series

    def was_first(self) -> bool:
        """Whether the series, if it left, did so before its lock was taken. Puts the lock back."""
        self._series._lock = self._lock
        return self._was_there == self._is_there()
