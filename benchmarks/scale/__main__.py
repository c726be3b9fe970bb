"""What becomes of the cost when there is more of everything, on the SDK of the Python that runs this.

python -m benchmarks.scale [--part scrape] [--requests 1000000] [--rounds 6]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from .. import results
from ..example import SDK_VERSION
from . import cells, load, memory, scrape
from .figures import Figure

_MILLION = 1_000_000


def _load(requests: int, rounds: int) -> Iterator[Figure]:
    yield from asyncio.run(load.idle())
    for scenario in load.SCENARIOS:
        yield from asyncio.run(load.compare(scenario, rounds))


def _scrape(requests: int, rounds: int) -> Iterator[Figure]:
    for tools in (1, 10, 100, 1000):
        yield from scrape.compare(tools)


def _cells(requests: int, rounds: int) -> Iterator[Figure]:
    yield from cells.never_scraped(requests)
    yield from cells.longest_drain(requests // 10)


def _memory(requests: int, rounds: int) -> Iterator[Figure]:
    yield from asyncio.run(memory.after(requests))


PARTS: dict[str, Callable[[int, int], Iterator[Figure]]] = {
    "cells": _cells,
    "scrape": _scrape,
    "load": _load,
    "memory": _memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost at scale, bare and instrumented.")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; may be repeated")
    parser.add_argument("--requests", type=int, default=_MILLION, help="how many requests are many")
    parser.add_argument("--rounds", type=int, default=6, help="how often a comparison of processes is repeated")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    print(f"mcp {SDK_VERSION}\n\n{'':68}{'ours':>12}{'reference':>12}")
    figures: list[Figure] = []
    for part in options.part or PARTS:
        for figure in PARTS[part](options.requests, options.rounds):
            print(figure, flush=True)
            figures.append(figure)
    if options.json:
        results.write(options.json, "scale", [asdict(figure) for figure in figures])


if __name__ == "__main__":
    main()
