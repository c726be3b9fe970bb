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
    """

    title: str
    ours: float
    reference: float | None
    unit: str
    limit: str = ""
    holds: bool = True

    def __str__(self) -> str:
        reference = "-" if self.reference is None else f"{self.reference:,.4g}"
        verdict = "" if not self.limit else f"{self.limit}: {'yes' if self.holds else 'NO'}"
        return f"{self.title:68}{self.ours:>12,.4g}{reference:>12} {self.unit:12} {verdict}"
