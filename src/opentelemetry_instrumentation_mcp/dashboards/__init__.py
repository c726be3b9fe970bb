"""Grafana dashboards and Prometheus rules for the metrics of this package, as files.

``opentelemetry-mcp-dashboards`` writes or prints them; docs/dashboards.md says what they show. Those of Grafana and the
rules are made from the metric catalogue by ``dashboards/`` of the repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent
SUFFIXES: Final = (".json", ".yml")


def shipped() -> dict[str, str]:
    """Every file and what is in it, by its path."""
    paths = sorted(path for path in DIRECTORY.rglob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(DIRECTORY).as_posix(): path.read_text(encoding="utf-8") for path in paths}
