"""What a request may cost: the figures the tests hold the code to, in this one place.

``python -m benchmarks.instructions --budget`` counts anew and prints the rows below, ready to be pasted. A change that
makes requests cheaper lowers them; one that raises them says why.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ..example import V2


class Budget(NamedTuple):
    """The most that instrumentation may add, in percent of the instructions of a bare call.

    Attributes:
        path: While the request is served, in a process that ``opentelemetry-instrument`` has set up.
        hand_over: For each request waiting when a reader collects.
        off: While a request is served, with everything or this instrumentation switched off by its variable.
    """

    path: float
    hand_over: float
    off: float


_V1: Final = {
    "stdio": Budget(path=1.2, hand_over=0.7, off=0.7),
    "http": Budget(path=1.5, hand_over=0.7, off=0.9),
    # Bare or not, what is counted is one of two figures, 3 % apart: this allows for the greater one.
    "client-http": Budget(path=3.7, hand_over=0.9, off=0.9),
}
_V2: Final = {
    # Less than nothing: what is saved on spans that nobody records is more than what the metrics cost.
    "stdio": Budget(path=-3.2, hand_over=1.9, off=0.7),
    # On a busy machine its timers run more often.
    "http": Budget(path=2.3, hand_over=1.2, off=1.5),
    "memory": Budget(path=-3.3, hand_over=2.2, off=0.7),
    "client-http": Budget(path=3.7, hand_over=0.9, off=0.9),
    "http-2026": Budget(path=1.6, hand_over=1.9, off=0.7),
}
BUDGETS: Final = _V2 if V2 else _V1
"""By path, for the SDK that is installed."""

CALLS: Final = 10
"""How many calls a test counts: the figures differ by less than 1 % from those of many."""

_MARGIN: Final = 0.1
"""Another Python or another release of a dependency shifts the counts a little; what matters shifts them by more."""

_JITTER: Final = 0.5
"""Percent of bare. Timers make the HTTP paths differ by this much from one count to the next."""


def rounded_up(percent: float) -> float:
    """A budget for what was counted."""
    return math.ceil((percent + abs(percent) * _MARGIN + _JITTER) * 10) / 10
