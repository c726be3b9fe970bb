"""Writes the generated parts of ``metrics.md`` from the code: run it after a change to the catalogue.

    python docs/generate_metrics.py

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced; the rest of the file is written by
hand. ``tests/unit/test_documentation.py`` fails while the file is not what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric, Source
from opentelemetry_instrumentation_mcp.metrics.labels import METHODS, PROTOCOL_VERSIONS

PAGE: Final = Path(__file__).with_name("metrics.md")

_SOURCES: Final = {
    Source.SPECIFICATION: "Connections, sessions, requests, process",
    Source.SEMANTIC_CONVENTIONS: "OpenTelemetry's semantic conventions for MCP",
    Source.OWN: "Further ones",
}

_UNITS: Final = {"s": "seconds", "By": "bytes"}


def prometheus_name(metric: Metric) -> str:
    """The family a metric is in on a Prometheus page; a test compares it with what the exporter writes."""
    name = metric.name.replace(".", "_")
    if metric.unit in _UNITS:
        name = f"{name}_{_UNITS[metric.unit]}"
    if metric.instrument is Instrument.COUNTER:
        name = f"{name.removesuffix('_total')}_total"
    return name


def _code(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _metrics() -> str:
    lines: list[str] = []
    for source, title in _SOURCES.items():
        lines += [f"### {title}", ""]
        lines += ["| name | on a Prometheus page | instrument, unit | attributes |", "| --- | --- | --- | --- |"]
        for metric in CATALOGUE:
            if metric.source is source:
                kind = f"{metric.instrument.value}, `{metric.unit}`"
                attributes = _code(metric.attributes) or "none"
                lines.append(f"| `{metric.name}` | `{prometheus_name(metric)}` | {kind} | {attributes} |")
        lines.append("")
    return "\n".join(lines[:-1])


def _buckets() -> str:
    users: dict[tuple[float, ...], list[str]] = {}
    for metric in CATALOGUE:
        if metric.buckets:
            users.setdefault(metric.buckets, []).append(metric.name)
    lines = ["| histograms | upper bounds, seconds |", "| --- | --- |"]
    lines += [f"| {_code(names)} | {', '.join(map(str, bounds))} |" for bounds, names in users.items()]
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


def updated(page: str) -> str:
    """The text of the page with its generated parts written anew."""
    for name, part in (("metrics", _metrics()), ("values", _values()), ("buckets", _buckets())):
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
        page, found = pattern.subn(f"\n\n{part}\n\n".replace("\\", r"\\"), page)
        if found != 1:
            raise ValueError(f"{PAGE.name} has {found} parts between {begin} and {end}; there must be one")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
