"""Prints what a request costs in instructions, on the SDK of the Python that runs this.

python -m benchmarks.instructions [--path stdio] [--calls 20] [--functions | --budget]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .. import results
from ..example import SDK_VERSION
from . import callgrind, functions
from .budget import BUDGETS, CALLS, rounded_up
from .measure import Counts, measure
from .paths import PATHS

_HEADS: Final = ("bare", "metrics", "launched", "hand-over", "extra %", "hand-over %", "off %", "disabled %", "A/A %")


def _row(path: str, counts: Counts) -> str:
    figures = (counts.bare, counts.instrumented - counts.bare, counts.launched - counts.bare, counts.hand_over)
    shares = (counts.path_percent, counts.hand_over_percent)
    modes = (counts.percent(mode) for mode in ("switched_off", "disabled", "bare_again"))
    return f"{path:12}" + "".join(f"{f:12,.0f}" for f in figures) + "".join(f"{p:12.2f}" for p in (*shares, *modes))


def _budget(path: str, counts: Counts) -> str:
    shares = {"path": counts.path_percent, "hand_over": counts.hand_over_percent, "off": counts.off_percent}
    most = ", ".join(f"{name}={rounded_up(share)}" for name, share in shares.items())
    return f'    "{path}": Budget({most}),'


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per tools/call, bare and instrumented.")
    parser.add_argument("--path", action="append", choices=list(PATHS), help="only this one; may be repeated")
    parser.add_argument("--calls", type=int, default=20, help="how many calls are counted")
    parser.add_argument("--json", type=Path, help="write the counts to this file as well")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--functions", action="store_true", help="list what runs per call, without valgrind")
    instead.add_argument("--budget", action="store_true", help="print the rows of budget.py for this SDK")
    options = parser.parse_args()
    paths: list[str] = options.path or list(BUDGETS if options.budget else PATHS)
    if options.functions:
        for path in paths:
            print(f"\nmcp {SDK_VERSION}, {path}: per tools/call\n")
            functions.show(path, options.calls)
        return
    if reason := callgrind.missing():
        sys.exit(reason)
    if not options.budget:
        print(f"mcp {SDK_VERSION}: instructions per tools/call\n")
        print(f"{'path':12}" + "".join(f"{head:>12}" for head in _HEADS))
    counted: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory() as directory:
        for path in paths:
            calls = CALLS if options.budget else options.calls
            counts = counted[path] = measure(path, calls, Path(directory), dict(os.environ))
            print((_budget if options.budget else _row)(path, counts), flush=True)
    if options.json:
        results.write(options.json, "instructions", {path: asdict(counts) for path, counts in counted.items()})


if __name__ == "__main__":
    main()
