"""Writes the generated parts of ``metrics.md`` from the code: run it after a change to the catalogue.

    python docs/generate_metrics.py

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced; the rest of the file is written by
hand. ``tests/unit/test_documentation.py`` fails while the file is not what this would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric, Source
from opentelemetry_instrumentation_mcp.metrics.exposition import UNIT_SUFFIXES, prometheus_name
from opentelemetry_instrumentation_mcp.metrics.labels import METHODS, PROTOCOL_VERSIONS
from opentelemetry_instrumentation_mcp.metrics.limits import Limits

PAGE: Final = Path(__file__).with_name("metrics.md")

_SOURCES: Final = {
    Source.SPECIFICATION: "Connections, sessions, requests, interceptors, pools, process",
    Source.SEMANTIC_CONVENTIONS: "OpenTelemetry's semantic conventions for MCP",
    Source.OWN: "Further ones",
}


def most_sets(metric: Metric) -> int:
    """How many attribute sets a metric can have by default: the limit, unless it says less than that."""
    if metric.instrument is not Instrument.OBSERVABLE_UP_DOWN_COUNTER:
        return Limits.attribute_sets
    # What is observed has no series to fold: one per pool and _OTHER, or one.
    return Limits.pools + 1 if metric.attributes else 1


def _code(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _metrics() -> str:
    lines: list[str] = []
    for source, title in _SOURCES.items():
        lines += [f"### {title}", ""]
        lines += ["| name | on a Prometheus page | instrument, unit | attributes | [sets](#bounds) at most |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for metric in CATALOGUE:
            if metric.source is source:
                kind = f"{metric.instrument.value}, `{metric.unit}`"
                attributes = _code(metric.attributes) or "none"
                row = (f"`{metric.name}`", f"`{prometheus_name(metric)}`", kind, attributes, str(most_sets(metric)))
                lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines[:-1])


def _buckets() -> str:
    users: dict[tuple[str, tuple[float, ...]], list[str]] = {}
    for metric in CATALOGUE:
        if metric.buckets:
            users.setdefault((UNIT_SUFFIXES[metric.unit], metric.buckets), []).append(metric.name)
    lines = ["| histograms | upper bounds |", "| --- | --- |"]
    for (unit, bounds), names in users.items():
        lines.append(f"| {_code(names)} | {', '.join(map(str, bounds))} {unit} |")
    return "\n".join(lines)


def _values() -> str:
    notifications = sorted(method for method in METHODS if method.startswith("notifications/"))
    requests = sorted(METHODS.difference(notifications))
    lines = [
        f"- Requests in `mcp.method.name`: {_code(requests)}.",
        f"- Notifications in `mcp.method.name`: {_code(notifications)}.",
        f"- `mcp.protocol.version`: {_code(sorted(PROTOCOL_VERSIONS))}.",
    ]
    return "\n".join(lines)


def _releases() -> tuple[str, str]:
    # The tests skip by it, so it stands with them.
    sys.path.insert(0, str(PAGE.parents[1]))
    from tests.sdk.releases import fastmcp, table  # noqa: PLC0415

    return table(), fastmcp()


def updated(page: str) -> str:
    """The text of the page with its generated parts written anew."""
    releases, fastmcp = _releases()
    parts = {
        "metrics": _metrics(),
        "releases": releases,
        "fastmcp": fastmcp,
        "values": _values(),
        "buckets": _buckets(),
    }
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
        page, found = pattern.subn(f"\n\n{part}\n\n".replace("\\", r"\\"), page)
        if found != 1:
            raise ValueError(f"{PAGE.name} has {found} parts between {begin} and {end}; there must be one")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
