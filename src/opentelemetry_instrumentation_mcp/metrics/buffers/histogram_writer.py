"""Many values at once into a histogram of the OpenTelemetry SDK, equal to recording them one by one.

``Histogram.record`` costs 8 to 16 us a value, nearly all of it to find the series. Here the series of every reader and
view is found once, and the values of a batch are added to it in the order of their recording: counts, sum, minimum and
maximum are the same numbers, bit for bit.

No other module knows the SDK from inside, and this one trusts what it knows only after :mod:`.self_check` has compared
both ways on a provider of its own. Whatever it does not know, it declines, and the caller uses ``record``: other
aggregations than explicit buckets, series that do not exist (yet), values that ``record`` would refuse, other classes
than the SDK's own, and everything when the check has failed.

No lock of the SDK is held but the series' own, which ``record`` takes as well, so nobody waits longer than for that.
A delta collection of SDK 1.45 discards its series; it takes them out of the view first and reads them, each under its
lock, afterwards. A series that is still in the view while its lock is held will therefore be read with what is added.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

from opentelemetry.metrics import Instrument, NoOpCounter, NoOpHistogram, NoOpUpDownCounter

from ..labels import Attributes
from .batch import Batch

_logger = logging.getLogger("opentelemetry_instrumentation_mcp")

_Series = tuple[Any, Any, Any]
"""A view match, the key of an attribute set in it, and the aggregation that is there."""

_SDK: Final = "opentelemetry.sdk.metrics"
_NO_OPS: Final = (NoOpCounter, NoOpHistogram, NoOpUpDownCounter)


class _Sdk(NamedTuple):
    """The classes of the SDK this module knows, and how it keys series."""

    consumer: type
    match: type
    explicit: type
    drop: type
    always_off: type
    key: Callable[[Attributes], Any]


class ReaderState(NamedTuple):
    """Who reads an instrument, at one moment."""

    is_read: bool
    """False without an SDK, without a reader, with a disabled meter, and where Views drop the instrument everywhere."""
    takes_exemplars: bool
    """Whether a span around a value is of use to anybody."""
    matches: tuple[Any, ...] | None
    """The view matches of all readers that a :class:`HistogramWriter` adds to; None where only ``record`` will do."""
    real: Any = None
    """The instrument behind a proxy of the API."""
    readers: Any = None
    """The SDK's storages by reader, replaced when a reader comes or goes."""
    size: int = 0
    enabled: bool = True
    final: bool = True
    """Whether this holds until :meth:`is_outdated`, and is not just what could be known so far."""

    def is_outdated(self, instrument: Any) -> bool:
        """Whether a provider, a reader or the meter's switch came or went."""
        real = getattr(instrument, "_real_instrument", instrument)
        if real is not self.real:
            return True
        if self.readers is None:
            return False
        readers = real._measurement_consumer._reader_storages
        return readers is not self.readers or len(readers) != self.size or _is_enabled(real) is not self.enabled


class InstrumentReaders:
    """What the measurements of one instrument reach.

    Args:
        instrument: One of the SDK, a proxy of the API, or any other.
        trusted: Whether to do without the verdict of :mod:`.self_check`, which needs this to come to one.
    """

    def __init__(self, instrument: Instrument, *, trusted: bool = False) -> None:
        self._instrument: Any = instrument
        self._trusted = trusted
        # Replaced as a whole, since buffers of several threads share it.
        self._state = ReaderState(True, True, None, final=False)

    def has_changed(self) -> bool:
        """Whether the state may be another one than :meth:`state` last said."""
        return self._state.is_outdated(self._instrument)

    def state(self) -> ReaderState:
        """Who reads the instrument now."""
        state = self._state
        if not state.final or state.is_outdated(self._instrument):
            try:
                state = self._look()
            except (AttributeError, ImportError, KeyError, TypeError) as error:
                real = getattr(self._instrument, "_real_instrument", self._instrument)
                state = ReaderState(True, True, None, real)
                _logger.debug("values are recorded one by one, since the SDK is not as known: %r", error)
            self._state = state
        return state

    def _look(self) -> ReaderState:
        # A proxy has nothing behind it before a provider is set, and drops what it is given.
        real = getattr(self._instrument, "_real_instrument", self._instrument)
        if real is None or isinstance(real, _NO_OPS):
            return ReaderState(False, False, (), real)
        sdk = _sdk()
        consumer: Any = getattr(real, "_measurement_consumer", None)
        if sdk is None or type(consumer) is not sdk.consumer:
            return ReaderState(True, True, None, real)
        readers, enabled = consumer._reader_storages, _is_enabled(real)
        seen = (real, readers, len(readers), enabled)
        takes_exemplars = _takes_exemplars(consumer, readers, sdk)
        # A reader's storage learns of an instrument with its first measurement.
        views = [storage._instrument_view_instrument_matches.get(real) for storage in readers.values()]
        if not enabled:
            views.clear()
        elif None in views:
            return ReaderState(True, takes_exemplars, None, *seen, final=False)
        matches = tuple(match for views_ in views for match in views_ if type(match._aggregation) is not sdk.drop)
        known = all(type(match) is sdk.match and type(match._aggregation) is sdk.explicit for match in matches)
        trusted = self._trusted or _verdict
        return ReaderState(
            bool(matches), takes_exemplars, matches if known and trusted else None, *seen, final=trusted is not None
        )


class HistogramWriter:
    """Where the values of one attribute set of a histogram go: one series for each view of each reader."""

    __slots__ = ("_attributes", "_keys", "_matches", "_readers")

    def __init__(self, instrument_readers: InstrumentReaders, attributes: Attributes) -> None:
        self._readers = instrument_readers
        self._attributes = attributes
        self._matches: tuple[Any, ...] = ()
        self._keys: list[Any] = []

    def is_open(self) -> bool:
        """Whether all series can be added to and exist. Past the SDK's cardinality limit they never do."""
        return self._find() is not None

    def add(self, values: Batch) -> bool:
        """Add values to all series or, where one of them will not do, to none; tell which."""
        found = self._find()
        if not found:
            return found is not None
        if not values.is_plain():
            return False
        for _, _, series in found:
            # Before any lock is taken: this is where the time goes.
            values.counts(series._boundaries)
        return _add(found, 0, values)

    def _find(self) -> list[_Series] | None:
        """The series; None where one of them is missing or is not for us."""
        matches, sdk = self._readers.state().matches, _sdk()
        if matches is None or sdk is None:
            return None
        if self._matches is not matches:
            self._matches, self._keys = matches, [self._key(match, sdk) for match in matches]
        found: list[_Series] = []
        for match, key in zip(matches, self._keys, strict=True):
            series = match._attributes_aggregation.get(key)
            if type(series) is not sdk.explicit:
                return None
            found.append((match, key, series))
        return found

    def _key(self, match: Any, sdk: _Sdk) -> Any:
        keys = match._view._attribute_keys
        if keys is None:
            return sdk.key(self._attributes)
        return sdk.key({key: value for key, value in self._attributes.items() if key in keys})


def _add(found: list[_Series], position: int, values: Batch) -> bool:
    # One call for each lock: no exception leaves any of them locked. Their order, by reader, is the same for everybody.
    if position == len(found):
        for _, _, series in found:
            _add_to(series, values)
        return True
    match, key, series = found[position]
    with series._lock:
        # A delta collection may have discarded the series in the meantime.
        return match._attributes_aggregation.get(key) is series and _add(found, position + 1, values)


def _add_to(series: Any, values: Batch) -> None:
    counts, before = values.counts(series._boundaries), series._value
    series._value = counts[:] if before is None else [old + new for old, new in zip(before, counts, strict=True)]
    series._sum = values.added_to(series._sum)
    if series._record_min_max:
        least, greatest = values.extremes()
        series._min = min(series._min, least)
        series._max = max(series._max, greatest)


def _is_enabled(instrument: Any) -> bool:
    # Meters can be switched off from SDK 1.40 on.
    is_enabled = getattr(instrument, "_is_enabled", None)
    return is_enabled is None or bool(is_enabled())


def _takes_exemplars(consumer: Any, readers: Mapping[Any, Any], sdk: _Sdk) -> bool:
    if type(consumer._sdk_config.exemplar_filter) is sdk.always_off:
        return False
    # The Prometheus reader shows none. If its module is not loaded, there is no such reader.
    exporter = sys.modules.get("opentelemetry.exporter.prometheus")
    return exporter is None or not all(isinstance(reader, exporter.PrometheusMetricReader) for reader in readers)


_known_sdk: _Sdk | None = None
_verdict: bool | None = None


def verdict() -> bool | None:
    """What the comparison came to; None before it."""
    return _verdict


def settle(agrees: bool) -> None:
    """Rely on what is known of the SDK from now on, or do not."""
    global _verdict
    _verdict = agrees


def is_sdk_loaded() -> bool:
    """Whether the process has loaded the SDK, which is not for us to do."""
    return _SDK in sys.modules


def _sdk() -> _Sdk | None:
    """What is known of the SDK; None as long as the process has not loaded it, which is not for us to do."""
    global _known_sdk
    if _known_sdk is None and _SDK in sys.modules:
        aggregation = import_module(f"{_SDK}._internal.aggregation")
        view = import_module(f"{_SDK}._internal._view_instrument_match")
        _known_sdk = _Sdk(
            consumer=import_module(f"{_SDK}._internal.measurement_consumer").SynchronousMeasurementConsumer,
            match=view._ViewInstrumentMatch,
            explicit=aggregation._ExplicitBucketHistogramAggregation,
            drop=aggregation._DropAggregation,
            always_off=import_module(_SDK).AlwaysOffExemplarFilter,
            # Up to SDK 1.44 a frozen set.
            key=getattr(view, "_hash_attributes", _frozen),
        )
    return _known_sdk


def _frozen(attributes: Attributes) -> frozenset[tuple[str, str | int]]:
    return frozenset(attributes.items())
