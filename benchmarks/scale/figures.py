"""What a benchmark says in one line: a figure beside the one it is compared to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One result.

    Attributes:
        title: What was measured.
        ours: With this package.
        reference: What it is compared to; None where there is nothing, and the limit speaks for itself.
        unit: Of both.
        limit: What must hold, in words; empty where it is only told.
        holds: Whether it does.
        note: What else there is to say.
    """

    title: str
    ours: float
    reference: float | None
    unit: str
    limit: str = ""
    holds: bool = True
    note: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """Title, both figures, unit and verdict or note, as a table shows them."""
        reference = "-" if self.reference is None else _number(self.reference)
        verdict = f"{self.limit}: {'kept' if self.holds else 'not kept'}" if self.limit else self.note
        return self.title, _number(self.ours), reference, self.unit, verdict

    def __str__(self) -> str:
        title, ours, reference, unit, verdict = self.cells()
        return f"{title:68}{ours:>12}{reference:>12} {unit:10}{verdict}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
