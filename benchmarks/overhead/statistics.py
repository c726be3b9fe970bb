"""The median of paired differences, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A median with its confidence interval.

    Attributes:
        middle: The median.
        low: Where the interval begins; minus infinity when there are too few values for one.
        high: Where it ends.
    """

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"{self.middle:+.2f}"
        return f"{self.middle:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The median of ``values`` and the shortest interval of two of them that holds the true one in 95 of 100 cases.

    By the sign test: whether a value lies above the true median is a toss of a coin, whatever their distribution is.
    """
    ordered = sorted(values)
    count = len(ordered)
    outside = 0  # how many values on each side are beyond the interval
    tail = 0.0  # the chance that the true median lies there with them
    for beyond in range(count // 2):
        tail += math.comb(count, beyond) / 2**count
        if 2 * tail > 1 - _CONFIDENCE:
            break
        outside = beyond + 1
    if not outside:
        return Estimate(median(ordered), -math.inf, math.inf)
    return Estimate(median(ordered), ordered[outside - 1], ordered[count - outside])


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that ``percent`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
