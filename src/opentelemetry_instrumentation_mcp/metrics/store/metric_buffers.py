"""The buffers of one recorder, each made when it is first needed and kept as long as the recorder."""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Meter

from ..buffers.buffer_set import Ledger
from ..buffers.value_buffer import Cell, Part, Rows
from ..catalogue import Metric
from .instruments import Instruments

Values = dict[str, str | int | None]
"""Values for the attributes of a metric; None where there is none."""

_MOST_CELLS: Final = 5_000
"""Request cells one recorder keeps apart. Closed sets bound their number, generously; this is the backstop."""


class MetricBuffers:
    """Makes and finds the buffers of metrics.

    Args:
        meter: Where the instruments are created.
        attribute_sets: The most attribute sets each of them may hold.
    """

    def __init__(self, meter: Meter, attribute_sets: int) -> None:
        self._ledger = Ledger()
        self._instruments = Instruments(meter, attribute_sets)
        self._shared: dict[tuple[str, tuple[str | int | None, ...]], Cell] = {}
        self._request_cells = 0

    def cell(self, *sinks: tuple[Metric, Values]) -> Cell:
        """A new cell that feeds these metrics with these attributes."""
        return self._ledger.cell(*(self._instruments.sink(metric, values) for metric, values in sinks))

    def rows(self, width: int, *parts: tuple[Part, Metric, Values]) -> Rows:
        """A new cell for rows of ``width`` numbers: what each part makes of them feeds its metric."""
        sink = self._instruments.sink
        return self._ledger.rows(width, [(part, sink(metric, values)) for part, metric, values in parts])

    def shared_cell(self, metric: Metric, *values: str | int | None) -> Cell:
        """The one cell of a metric and an attribute set.

        Args:
            metric: The metric.
            values: One for each of its attributes, in the catalogue's order; None where it has none.
        """
        key = (metric.name, values)
        cell = self._shared.get(key)
        if cell is None:
            cell = self._shared.setdefault(key, self.cell((metric, dict(zip(metric.attributes, values, strict=True)))))
        return cell

    def room_for_a_request_cell(self) -> bool:
        """Whether one more request cell may be kept apart; asking takes the place."""
        self._request_cells += 1
        return self._request_cells <= _MOST_CELLS

    def drain(self) -> None:
        """Hand over what every cell holds."""
        self._ledger.drain()

    def pass_through(self) -> None:
        """Hand over what every cell holds, and from now on every value at once."""
        self._ledger.pass_through()

    def abandon(self) -> None:
        """Hand over nothing, now or later."""
        self._ledger.abandon()
