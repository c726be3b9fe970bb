"""Sinks: where the values of a cell go, one for each instrument they feed.

Counters and updowns get one ``add`` for all values; histograms get them in bulk (:mod:`.bulk`), or one by one where
that is not to be had. What is handed over later than it happened carries no span: the one that is current by then is
another's, a scrape's for instance. A value whose span is to become an exemplar is taken apart, while it is current.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, UpDownCounter

from .bulk import Attributes, Batch, Outlet, Reach

SLICE: Final = 4
"""How many values are recorded one by one without a pause: 0.15 ms or less, for two histograms and two readers."""

_NO_SPAN: Final = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class Sink:
    """Where a cell's values go. This one is read by somebody and takes any number at once."""

    def take(self, values: Sequence[float]) -> None:
        """Hand ``values`` to the instrument; none at all only makes a counter's series exist."""
        raise NotImplementedError

    def take_here(self, value: float) -> None:
        """Hand one value over in the current context, whose span may become an exemplar."""
        self.take([value])

    def is_read(self) -> bool:
        """Whether anybody reads the instrument."""
        return True

    def has_changed(self) -> bool:
        """Whether the last answer may be another one by now; cheap."""
        return False

    def is_quick(self) -> bool:
        """Whether many values take little longer than one."""
        return True

    def takes_exemplars(self) -> bool:
        """Whether spans are of use."""
        return False

    def residue(self, values: Sequence[float]) -> float | None:
        """The one value to keep of values that nobody reads, for a reader that comes later; None keeps nothing."""
        return None


class _InstrumentSink(Sink):
    def __init__(self, reach: Reach, attributes: Attributes) -> None:
        self._reach = reach
        self._attributes = attributes

    def is_read(self) -> bool:
        return self._reach.audience().is_read

    def has_changed(self) -> bool:
        return self._reach.has_changed()

    def takes_exemplars(self) -> bool:
        return self._reach.audience().takes_exemplars


class CountOf(_InstrumentSink):
    """Adds how many values there are: one event each."""

    def __init__(self, instrument: Counter, attributes: Attributes, reach: Reach | None = None) -> None:
        super().__init__(reach or Reach(instrument), attributes)
        self._instrument = instrument

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(len(values), self._attributes, _NO_SPAN)

    def take_here(self, value: float) -> None:
        self._instrument.add(1, self._attributes)


class SumOf(_InstrumentSink):
    """Adds the sum of the values: steps up and down."""

    def __init__(self, instrument: UpDownCounter, attributes: Attributes, reach: Reach | None = None) -> None:
        super().__init__(reach or Reach(instrument), attributes)
        self._instrument = instrument

    def take(self, values: Sequence[float]) -> None:
        self._instrument.add(sum(values), self._attributes, _NO_SPAN)

    def take_here(self, value: float) -> None:
        self._instrument.add(value, self._attributes)

    def residue(self, values: Sequence[float]) -> float | None:
        # What is open now will be closed when somebody reads: without its step up the sum would fall below zero.
        return sum(values)


class Distribution(_InstrumentSink):
    """Records every value."""

    def __init__(self, instrument: Histogram, attributes: Attributes, reach: Reach | None = None) -> None:
        super().__init__(reach or Reach(instrument), attributes)
        self._instrument = instrument
        self._outlet = Outlet(self._reach, attributes)

    def take(self, values: Sequence[float]) -> None:
        if not values:
            return
        outlet = self._outlet
        if outlet.add(values if isinstance(values, Batch) else Batch(values)):
            return
        # The SDK makes a series with its first value, and a delta collection may have discarded the one there was.
        self._instrument.record(values[0], self._attributes, _NO_SPAN)
        rest = values[1:]
        if rest and not outlet.add(Batch(rest)):
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
        return self._outlet.is_open()
