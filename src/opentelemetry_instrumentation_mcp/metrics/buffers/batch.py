"""Values on their way from a buffer to its sinks, and what several histograms would each have to compute of them."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Final


class Batch(list[float]):
    """Values of one buffer, and what several histograms would each have to compute of them.

    They are sorted once: a bucket is then found once for each boundary, not once for each value.
    """

    __slots__ = ("_counts", "_sorted")

    def __init__(self, values: Iterable[float]) -> None:
        super().__init__(values)
        self._counts: dict[tuple[float, ...], list[int]] = {}
        self._sorted: list[float] | None = None

    def counts(self, boundaries: tuple[float, ...]) -> list[int]:
        """How many of the values, which are plain, fall into each bucket; a boundary belongs to the one below it."""
        counts = self._counts.get(boundaries)
        if counts is None:
            ascending = self._ascending()
            counts = self._counts[boundaries] = list[int]()
            below = 0
            for boundary in boundaries:
                up_to = bisect_right(ascending, boundary, below)
                counts.append(up_to - below)
                below = up_to
            counts.append(len(ascending) - below)
        return counts

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest of the values, which are plain."""
        ascending = self._ascending()
        return ascending[0], ascending[-1]

    def is_plain(self) -> bool:
        """Whether ``record`` takes every value as it is: it refuses negative ones, some releases also inf and nan."""
        # A nan or an infinity anywhere is in the sum as well; only without a nan there is an order.
        return math.isfinite(sum(self)) and self._ascending()[0] >= 0

    def added_to(self, total: float) -> float:
        """``total`` with every value added to it, one after the other."""
        return reduce(add, self, total) if _SUM_COMPENSATES else sum(self, total)

    def _ascending(self) -> list[float]:
        if self._sorted is None:
            self._sorted = sorted(self)
        return self._sorted


_SUM_COMPENSATES: Final = sys.version_info >= (3, 12)
"""For rounding, which adding one by one does not."""
