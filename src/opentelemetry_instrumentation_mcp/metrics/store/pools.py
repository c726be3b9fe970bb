"""The connections of the client's HTTP pools, by pool."""

from __future__ import annotations

from collections.abc import Mapping

from .. import catalogue
from ..buffers.value_buffer import ValueBuffer
from ..limits import Limits
from .attribute_sets import AttributeSets
from .bounds import BoundedTable
from .metric_buffers import MetricBuffers, Values


class Pools:
    """The pools, each by its ``scheme://host:port``.

    Args:
        buffers: Where their buffers are made.
        limits: How many pools are told apart.
    """

    def __init__(self, buffers: MetricBuffers, limits: Limits) -> None:
        self._buffers = buffers
        self._names = BoundedTable(limits.pools)
        self._idle_bound = AttributeSets(catalogue.POOL_IDLE, limits.attribute_sets)
        self._by_pool: dict[tuple[str, bool], ValueBuffer] = {}

    def assigned(self, pool: str, created: bool, waited: float) -> None:
        """A connection was assigned to a request, after so many seconds."""
        (self._by_pool.get((pool, created)) or self._cell(pool, created)).add(waited)

    def by_name(self, idle: Mapping[str, int]) -> dict[str, int]:
        """Idle connections by bounded pool name."""
        bounded: dict[str, int] = {}
        for pool, count in idle.items():
            name = str(self._idle_bound.admit({catalogue.POOL: self._names.admit(pool)})[catalogue.POOL])
            bounded[name] = bounded.get(name, 0) + count
        return bounded

    def _cell(self, pool: str, created: bool) -> ValueBuffer:
        name = self._names.admit(pool)
        buffer = self._by_pool.get((name, created))
        if buffer is None:
            values: Values = {catalogue.POOL: name}
            counter = catalogue.POOL_CREATED if created else catalogue.POOL_REUSED
            buffer = self._buffers.buffer((counter, values), (catalogue.POOL_WAIT_DURATION, values))
            buffer = self._by_pool.setdefault((name, created), buffer)
        return buffer
