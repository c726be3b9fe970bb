"""Counting one path in a process of its own under callgrind."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from . import callgrind

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Counts:
    """Instructions per call.

    Attributes:
        bare: Without instrumentation.
        bare_again: The same, counted once more: what is not equal here is noise.
        instrumented: With it, between two collections.
        launched: Likewise in a process set up as ``opentelemetry-instrument`` does it. What this is above
            ``instrumented`` is no metric's: a tracer provider that nobody exports from, for one.
        hand_over: What a collection costs for each call since the one before.
        switched_off: Set up likewise, with OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=mcp_sdk.
        disabled: Set up likewise, with OTEL_SDK_DISABLED=true.
    """

    bare: float
    bare_again: float
    instrumented: float
    launched: float
    hand_over: float
    switched_off: float
    disabled: float

    @property
    def path(self) -> float:
        """What instrumentation adds while a request is served, alone or with the rest of the set-up."""
        return max(self.instrumented, self.launched) - self.bare

    def percent(self, mode: str) -> float:
        """How much more a mode (one of the attributes) costs than bare, as percent of bare."""
        counted: float = getattr(self, mode)
        return 100 * (counted - self.bare) / self.bare

    @property
    def path_percent(self) -> float:
        """:attr:`path` as percent of bare."""
        return 100 * self.path / self.bare

    @property
    def off_percent(self) -> float:
        """What is left as percent of bare when it is switched off, in the dearer of the two ways."""
        return max(self.percent("switched_off"), self.percent("disabled"))

    @property
    def hand_over_percent(self) -> float:
        """:attr:`hand_over` as percent of bare."""
        return 100 * self.hand_over / self.bare


def measure(path: str, calls: int, directory: Path, environment: dict[str, str]) -> Counts:
    """Count one of the paths; ``directory`` may be filled with files.

    Raises:
        RuntimeError: The counting process failed.
    """
    # What the calling shell says about OpenTelemetry is not what is measured.
    env = {key: value for key, value in environment.items() if not key.startswith("OTEL_")}
    env["PYTHONPATH"] = str(ROOT)
    program = [sys.executable, "-m", f"{__package__}.count", path, str(calls)]
    return Counts(**json.loads(callgrind.run(program, directory, env)))
