"""``python -m benchmarks.startup``: what an empty program costs under ``opentelemetry-instrument``, here and elsewhere.

Three environments with the same packages and the same exporter: twice the stock distro (A and its equal, which tells
how much two measurements of the same thing differ) and once this one. They run in turn, in an order that changes from
round to round, so that whatever else the machine does meets all of them. Compared are the differences within a round.

Needs what the tests need: this package, opentelemetry-distro and mcp installed beside each other.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import environments

OURS = "opentelemetry-distro-mcp"
NAMES = ("stock", "stock again", "ours")


@dataclass(frozen=True)
class Cost:
    """Of one process and what it became, in seconds."""

    wall: float
    cpu: float


def create(directory: Path) -> dict[str, Path]:
    """The interpreters by the name of what is compared."""
    without = {
        "stock": (OURS, *environments.OTLP, environments.CONFIGURATION),
        "stock again": (OURS, *environments.OTLP, environments.CONFIGURATION),
        "ours": environments.OPTIONAL,
    }
    return {name: environments.create(directory / str(number), without[name]) for number, name in enumerate(NAMES)}


def start_up(python: Path, port: int) -> Cost:
    """Run the launcher with an empty program and wait for its end."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    variables |= {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }
    command = [str(python.with_name("opentelemetry-instrument")), str(python), "-c", ""]
    began = time.perf_counter()
    process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or said:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said.decode()}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def median_interval(values: Sequence[float], generator: random.Random, samples: int = 2000) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(samples))
    return medians[int(0.025 * samples)], medians[int(0.975 * samples)]


def report(costs: dict[str, list[Cost]], what: str, of: Callable[[Cost], float]) -> bool:
    """Print one comparison; returns whether ours differs from the stock distro by no more than that from itself."""
    milliseconds = {name: [of(cost) * 1000 for cost in each] for name, each in costs.items()}
    print(f"{what}, ms:", ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in milliseconds.items()))
    intervals: dict[str, tuple[float, float]] = {}
    differences: dict[str, float] = {}
    for name in NAMES[1:]:
        pairs = [one - other for one, other in zip(milliseconds[name], milliseconds["stock"], strict=True)]
        differences[name] = statistics.median(pairs)
        intervals[name] = median_interval(pairs, random.Random(1))
        low, high = intervals[name]
        print(f"  {name} - stock: median {differences[name]:+.1f}, 95 % interval {low:+.1f} to {high:+.1f}")
    within = differences["ours"] <= max(intervals["stock again"][1], 0)
    print(f"  ours is {'within' if within else 'ABOVE'} the interval of the stock distro against itself")
    return within


def main() -> int:
    """Measure and report; the exit status says whether ours was slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds: int = parser.parse_args().rounds
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    costs: dict[str, list[Cost]] = {name: [] for name in NAMES}
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        pythons = create(Path(directory))
        # The first runs compile what the links are to.
        for python in pythons.values():
            start_up(python, port)
        for _ in range(rounds):
            for name in generator.sample(NAMES, len(NAMES)):
                costs[name].append(start_up(pythons[name], port))
    results = [report(costs, "CPU time", lambda cost: cost.cpu), report(costs, "wall time", lambda cost: cost.wall)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
