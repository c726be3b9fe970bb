"""The arithmetic of the benchmarks: what they conclude from what they measure."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.instructions.budget import rounded_up
from benchmarks.overhead.rounds import Comparison, turns
from benchmarks.overhead.statistics import Estimate, estimate, percentile
from benchmarks.report import put_into, report
from benchmarks.results import Results


def test_the_interval_is_that_of_the_sign_test() -> None:
    # Of ten values the true median is outside the second and the ninth in 22 of 1024 cases, of the third in 112.
    assert estimate([10, 1, 9, 2, 8, 3, 7, 4, 6, 5]) == Estimate(5.5, 2, 9)
    assert estimate([3, 1, 2, 6, 5, 4]) == Estimate(3.5, 1, 6)


def test_too_few_values_have_no_interval() -> None:
    assert estimate([1, 2, 3, 4, 5]) == Estimate(3, -math.inf, math.inf)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(1000):
        found = estimate([chance.expovariate(1.0) for _ in range(12)])
        held += found.low <= math.log(2) <= found.high
    assert held >= 940


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 99.99)] == [50, 99, 100]
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_subject_comes_equally_often_at_every_turn(count: int) -> None:
    subjects: list[str] = [str(number) for number in range(count)]
    blocks = [turns(subjects, block) for block in range(2 * count)]
    for turn in range(count):
        assert set(Counter(block[turn] for block in blocks).values()) == {2}


def test_differences_are_paired_within_a_round() -> None:
    # The machine got slower from round to round, which is nobody's fault.
    rounds = [{"bare": {"cpu": bare}, "instrumented": {"cpu": bare * 1.01}} for bare in (1.0, 2.0, 4.0)]
    difference = Comparison(rounds).difference("instrumented", "cpu")
    assert difference is not None
    assert difference.middle == pytest.approx(1.0)
    assert Comparison(rounds).difference("instrumented", "p50") is None


def test_a_budget_leaves_room() -> None:
    assert rounded_up(0.0) == 0.5
    assert rounded_up(10.0) == 11.5


def test_a_page_gets_the_tables_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin results -->\nold\n<!-- end results -->\nafter\n")
    rounds = [{"bare": {"cpu": 0.001}, "instrumented": {"cpu": 0.00102}, "bare again": {"cpu": 0.001}}] * 6
    found = [Results("overhead", "2.3.0", "2026-01-01", "a machine", {"server stdio": rounds})]
    put_into(page, report(found))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| 2.3.0 | server stdio | 1,000 us | +2.00 [+2.00, +2.00] | +0.00 [+0.00, +0.00] |" in text
    assert "2026-01-01: a machine" in text


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="no place"):
        put_into(page, "tables")
    assert page.read_text() == "no marks\n"
