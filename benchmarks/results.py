"""What the benchmarks leave for the report: one file for each benchmark and release of the SDK."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .example import SDK_VERSION


@dataclass(frozen=True)
class Results:
    """The results of one benchmark.

    Attributes:
        benchmark: Which one.
        mcp: The release of the SDK.
        day: When it ran, as ISO 8601.
        machine: Where it ran.
        data: What it found, as the benchmark writes it.
    """

    benchmark: str
    mcp: str
    day: str
    machine: str
    data: Any


def write(path: Path, benchmark: str, data: Any) -> None:
    """Write what a benchmark found, with when and where that was."""
    results = Results(benchmark, SDK_VERSION, date.today().isoformat(), _machine(), data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1))


def read(directory: Path) -> list[Results]:
    """All results in a directory, by release."""
    return [Results(**json.loads(path.read_text())) for path in sorted(directory.glob("*.json"))]


def _machine() -> str:
    parts = (
        f"{os.cpu_count()} processors ({_processor()})",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        f"OpenTelemetry SDK {version('opentelemetry-sdk')}",
    )
    return ", ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()
