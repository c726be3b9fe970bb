"""Grafana dashboards and Prometheus rules for the metrics of this package, as files.

``opentelemetry-mcp-dashboards`` writes or prints them; docs/dashboards.md says what they show. Those of Grafana and the
rules are made from the metric catalogue by ``dashboards/`` of the repository.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

SUFFIXES: Final = (".json", ".yml")


def shipped() -> dict[str, str]:
    """Every file and what is in it, by its path."""
    found: dict[str, str] = {}
    _collect(files(__name__), "", found)
    return dict(sorted(found.items()))


def _collect(directory: Traversable, prefix: str, found: dict[str, str]) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", found)
        elif entry.name.endswith(SUFFIXES):
            found[f"{prefix}{entry.name}"] = entry.read_text(encoding="utf-8")
