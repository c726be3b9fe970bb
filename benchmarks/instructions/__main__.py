"""Prints what a request costs in instructions, on the SDK of the Python that runs this.

python -m benchmarks.instructions [--path stdio] [--calls 50] [--functions]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from ..example import SDK_VERSION
from . import callgrind, functions
from .measure import Counts, measure
from .paths import PATHS


def _row(path: str, counts: Counts) -> str:
    figures = (counts.bare, counts.path, counts.hand_over)
    shares = (100 * counts.path / counts.bare, 100 * counts.hand_over / counts.bare, counts.noise_percent)
    return f"{path:12}" + "".join(f"{figure:13,.0f}" for figure in figures) + "".join(f"{s:11.2f}" for s in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions per tools/call, bare and instrumented.")
    parser.add_argument("--path", action="append", choices=list(PATHS), help="only this one; may be repeated")
    parser.add_argument("--calls", type=int, default=50, help="how many calls are counted")
    parser.add_argument("--functions", action="store_true", help="list what runs per call, without valgrind")
    options = parser.parse_args()
    paths: list[str] = options.path or list(PATHS)
    if options.functions:
        for path in paths:
            print(f"\nmcp {SDK_VERSION}, {path}: per tools/call\n")
            functions.show(path, options.calls)
        return
    if reason := callgrind.missing():
        sys.exit(reason)
    print(f"mcp {SDK_VERSION}: instructions per tools/call\n")
    heads = ("path", "bare", "extra", "hand-over", "extra %", "handover %", "bare A/A %")
    print(f"{heads[0]:12}{heads[1]:>13}{heads[2]:>13}{heads[3]:>13}{heads[4]:>11}{heads[5]:>11}{heads[6]:>11}")
    with tempfile.TemporaryDirectory() as directory:
        for path in paths:
            print(_row(path, measure(path, options.calls, Path(directory), dict(os.environ))), flush=True)


if __name__ == "__main__":
    main()
