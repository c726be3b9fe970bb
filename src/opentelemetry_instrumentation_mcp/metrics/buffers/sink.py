"""What a buffer expects of the sinks its values go to. Nothing here knows OpenTelemetry: :mod:`.sinks` does."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

SLICE: Final = 4
"""How many values are recorded one by one without a pause: 0.15 ms or less, for two histograms and two readers."""


class SpanHere(Enum):
    """The span in the current context."""

    NONE = "none"
    NOT_SAMPLED = "not sampled"
    SAMPLED = "sampled"


class Sink:
    """Where a buffer's values go. This one is read by somebody and takes any number at once."""

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

    def span_here(self) -> SpanHere:
        """What a value handed over now could have as its exemplar."""
        return SpanHere.NONE

    def residue(self, values: Sequence[float]) -> float | None:
        """The one value to keep of values that nobody reads, for a reader that comes later; None keeps nothing."""
        return None
