"""What a request costs, in instructions: a count that is the same on a slow machine, a busy one and a new one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.instructions import callgrind
from benchmarks.instructions.budget import BUDGETS, CALLS
from benchmarks.instructions.measure import measure


@pytest.mark.parametrize("path", BUDGETS)
def test_a_request_stays_within_its_budget(path: str, tmp_path: Path) -> None:
    """Too dear? ``python -m benchmarks.instructions --functions --path ...`` lists what runs."""
    if reason := callgrind.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    counts = measure(path, CALLS, tmp_path, dict(os.environ))
    assert counts.path_percent <= BUDGETS[path].path, counts
    assert 0 < counts.hand_over_percent <= BUDGETS[path].hand_over, counts
    assert counts.off_percent <= BUDGETS[path].off, counts
