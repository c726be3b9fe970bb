"""The buffers of one recorder, each made when it is first needed and kept as long as the recorder."""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Meter

from ..buffers.buffer_set import BufferSet
from ..buffers.value_buffer import Part, RowBuffer, ValueBuffer
from ..catalogue import Metric
from .instruments import Instruments

Values = dict[str, str | int | None]
"""Values for the attributes of a metric; None where there is none."""

_MOST_BUFFERS: Final = 5_000
"""Request buffers one recorder keeps apart. Closed sets bound their number, generously; this is the backstop."""


class MetricBuffers:
    """Makes and finds the buffers of metrics.

    Args:
        meter: Where the instruments are created.
        attribute_sets: The most attribute sets each of them may hold.
    """

    def __init__(self, meter: Meter, attribute_sets: int) -> None:
        self._buffer_set = BufferSet()
        self._instruments = Instruments(meter, attribute_sets)
        self._shared: dict[tuple[str, tuple[str | int | None, ...]], ValueBuffer] = {}
        self._request_buffers = 0

    def buffer(self, *sinks: tuple[Metric, Values]) -> ValueBuffer:
        """A new buffer that feeds these metrics with these attributes."""
        return self._buffer_set.buffer(*(self._instruments.sink(metric, values) for metric, values in sinks))

    def rows(self, width: int, *parts: tuple[Part, Metric, Values]) -> RowBuffer:
        """A new buffer for rows of ``width`` numbers: what each part makes of them feeds its metric."""
        sink = self._instruments.sink
        return self._buffer_set.rows(width, [(part, sink(metric, values)) for part, metric, values in parts])

    def shared_buffer(self, metric: Metric, *values: str | int | None) -> ValueBuffer:
        """The one buffer of a metric and an attribute set.

        Args:
            metric: The metric.
            values: One for each of its attributes, in the catalogue's order; None where it has none.
        """
        key = (metric.name, values)
        buffer = self._shared.get(key)
        if buffer is None:
            buffer = self._shared.setdefault(
                key, self.buffer((metric, dict(zip(metric.attributes, values, strict=True))))
            )
        return buffer

    def room_for_a_request_buffer(self) -> bool:
        """Whether one more request buffer may be kept apart; asking takes the place."""
        self._request_buffers += 1
        return self._request_buffers <= _MOST_BUFFERS

    def drain(self) -> None:
        """Hand over what every buffer holds."""
        self._buffer_set.drain()

    def keep_nothing(self) -> None:
        """Hand over what every buffer holds, and from now on every value at once."""
        self._buffer_set.keep_nothing()

    def abandon(self) -> None:
        """Hand over nothing, now or later."""
        self._buffer_set.abandon()
