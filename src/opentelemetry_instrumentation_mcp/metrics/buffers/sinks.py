"""Sinks: where the values of a buffer go, one for each instrument they feed.

Counters and updowns get one ``add`` for all values; histograms get them in bulk (:mod:`.histogram_writer`), or one by
one where that is not to be had. What is handed over later than it happened carries no span: the one that is current by
then is another's, a scrape's for instance. A value whose span is to become an exemplar is taken apart, while it is
current.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, UpDownCounter

from ..labels import Attributes
from .batch import Batch
from .histogram_writer import HistogramWriter, InstrumentReaders
from .sink import SLICE, Sink, SpanHere

_NO_SPAN: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class _InstrumentSink(Sink):
    def __init__(self, instrument_readers: InstrumentReaders, attributes: Attributes) -> None:
        self._readers = instrument_readers
        self._attributes = attributes

    def is_read(self) -> bool:
        return self._readers.state().is_read

    def has_changed(self) -> bool:
        return self._readers.has_changed()

    def takes_exemplars(self) -> bool:
        return self._readers.state().takes_exemplars

    def span_here(self) -> SpanHere:
        span = trace.get_current_span().get_span_context()
        if span.trace_flags.sampled:
            return SpanHere.SAMPLED
        return SpanHere.NOT_SAMPLED if span.is_valid else SpanHere.NONE


class CounterSink(_InstrumentSink):
    """Adds how many values there are: one event each."""

    def __init__(
        self, instrument: Counter, attributes: Attributes, instrument_readers: InstrumentReaders | None = None
    ) -> None:
        super().__init__(instrument_readers or InstrumentReaders(instrument), attributes)
        self._instrument = instrument

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(len(values), self._attributes, _NO_SPAN)

    def take_here(self, value: float) -> None:
        self._instrument.add(1, self._attributes)


class UpDownCounterSink(_InstrumentSink):
    """Adds the sum of the values: steps up and down."""

    def __init__(
        self, instrument: UpDownCounter, attributes: Attributes, instrument_readers: InstrumentReaders | None = None
    ) -> None:
        super().__init__(instrument_readers or InstrumentReaders(instrument), attributes)
        self._instrument = instrument

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(sum(values), self._attributes, _NO_SPAN)

    def take_here(self, value: float) -> None:
        self._instrument.add(value, self._attributes)

    def residue(self, values: Sequence[float]) -> float | None:
        # What is open now will be closed when somebody reads: without its step up the sum would fall below zero.
        return sum(values)


class HistogramSink(_InstrumentSink):
    """Records every value."""

    def __init__(
        self, instrument: Histogram, attributes: Attributes, instrument_readers: InstrumentReaders | None = None
    ) -> None:
        super().__init__(instrument_readers or InstrumentReaders(instrument), attributes)
        self._instrument = instrument
        self._writer = HistogramWriter(self._readers, attributes)

    def take(self, values: Sequence[float]) -> None:
        if not values:
            return
        writer = self._writer
        if writer.add(values if isinstance(values, Batch) else Batch(values)):
            return
        # The SDK makes a series with its first value, and a delta collection may have discarded the one there was.
        self._instrument.record(values[0], self._attributes, _NO_SPAN)
        rest = values[1:]
        if rest and not writer.add(Batch(rest)):
            self._one_by_one(rest)

    def _one_by_one(self, values: Sequence[float]) -> None:
        record, attributes = self._instrument.record, self._attributes
        for start in range(0, len(values), SLICE):
            if start:
                # Let others have the interpreter: this may be a scrape's thread, and theirs an event loop's.
                time.sleep(0)
            for value in values[start : start + SLICE]:
                record(value, attributes, _NO_SPAN)

    def take_here(self, value: float) -> None:
        self._instrument.record(value, self._attributes)

    def is_quick(self) -> bool:
        return self._writer.is_open()
