"""One minute of ``make soak``: full load with sessions that come and go, after which nothing has grown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..sdk.generation import V2

ROOT = Path(__file__).parents[2]

SECONDS = 60
GROWTH = 0.1
"""Of the memory: a minute is mostly warming up, in which every list comes to its full length once."""


@pytest.mark.skipif(not V2, reason="a minute of one generation is enough for every run; make soak takes both")
@pytest.mark.timeout(4 * SECONDS)
def test_a_minute_at_full_load_leaves_nothing_behind() -> None:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    soaked = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--seconds", str(SECONDS), "--growth", str(GROWTH)],
        cwd=ROOT,
        env={**variables, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    # Its own verdict: memory, descriptors and threads are flat, every call is counted, nothing is active.
    assert soaked.returncode == 0, f"{soaked.stdout}\n{soaked.stderr[-2000:]}"
