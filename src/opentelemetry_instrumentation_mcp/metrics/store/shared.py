"""What all connections of one recorder share: a connection is handed this, and knows of no recorder."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from ..limits import Limits
from .bounds import Bounds
from .event_loops import EventLoops
from .identities import IdentityTable
from .metric_buffers import MetricBuffers


class Shared:
    """The buffers, the bounds, the identities and the event loops.

    Args:
        meter: Where the instruments are created.
        limits: The limits of the tables.
    """

    __slots__ = ("bounds", "buffers", "identities", "loops")

    def __init__(self, meter: Meter, limits: Limits) -> None:
        self.bounds = Bounds(limits)
        self.buffers = MetricBuffers(meter, limits.attribute_sets)
        self.identities = IdentityTable(self.buffers, self.bounds)
        self.loops = EventLoops()
