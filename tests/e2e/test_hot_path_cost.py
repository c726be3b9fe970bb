"""What a request costs, in instructions: a count that is the same on a slow machine, a busy one and a new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.instructions import callgrind
from benchmarks.instructions.budget import BUDGETS, CALLS
from benchmarks.instructions.measure import Counts, measure


@pytest.mark.parametrize("path", BUDGETS)
def test_a_request_stays_within_its_budget(path: str, tmp_path: Path) -> None:
    """Too dear? ``python -m benchmarks.instructions --functions --path ...`` lists what runs."""
    if reason := callgrind.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    budget = BUDGETS[path]
    seen: list[Counts] = []
    # On a busy machine the timers of one of the processes run more often; what is too dear is so every time.
    while len(seen) < 3:
        counts = measure(path, CALLS, tmp_path, dict(os.environ))
        seen.append(counts)
        assert counts.hand_over_percent > 0, counts
        if (
            counts.path_percent <= budget.path
            and counts.hand_over_percent <= budget.hand_over
            and counts.off_percent <= budget.off
        ):
            return
    pytest.fail(f"{budget} is exceeded: {seen}")
