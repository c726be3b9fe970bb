"""What crossed the wire, what was exported, and whether the two agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

Counts = dict[str, dict[str, int]]
"""By what is counted, and by direction and method."""

REQUESTS, NOTIFICATIONS, REQUEST_BYTES, RESPONSE_BYTES = "requests", "notifications", "request bytes", "response bytes"
EVERYTHING: Final = (REQUESTS, NOTIFICATIONS, REQUEST_BYTES, RESPONSE_BYTES)

_METRICS: Final = {
    "mcp.requests.total": (REQUESTS, "value"),
    "mcp.notifications.total": (NOTIFICATIONS, "value"),
    "mcp.request.size": (REQUEST_BYTES, "sum"),
    "mcp.response.size": (RESPONSE_BYTES, "sum"),
}


def on_the_wire(record: Path, role: str) -> Counts:
    """Count what a tap recorded.

    Args:
        record: A line of JSON for each message: ``to_server``, and the ``line`` as it stood on the wire.
        role: Of the process that is measured: ``server`` or ``client``.
    """
    counts: dict[str, Counter[str]] = {what: Counter() for what in EVERYTHING}
    asked: dict[tuple[bool, Any], str] = {}
    for row in map(json.loads, record.read_text(encoding="utf-8").splitlines()):
        to_server: bool = row["to_server"]
        text: str = row["line"].rstrip("\r\n")
        try:
            message: Any = json.loads(text)
        except ValueError:
            continue
        size = len(text.encode())
        method, request_id = message.get("method"), message.get("id")
        if method is not None:
            key = f"{'inbound' if to_server == (role == 'server') else 'outbound'} {method}"
            counts[NOTIFICATIONS if request_id is None else REQUESTS][key] += 1
            if request_id is not None:
                counts[REQUEST_BYTES][key] += size
                asked[to_server, request_id] = key
        elif (not to_server, request_id) in asked:
            counts[RESPONSE_BYTES][asked[not to_server, request_id]] += size
    return {what: dict(each) for what, each in counts.items()}


def exported(output: Path, role: str) -> Counts:
    """Count what a console exporter wrote last, among whatever else is in a process' stderr."""
    counts: dict[str, Counter[str]] = {what: Counter() for what in EVERYTHING}
    for metric in _metrics(output.read_text(encoding="utf-8", errors="replace")):
        what, value = _METRICS.get(metric["name"], ("", ""))
        for point in metric["data"]["data_points"] if what else ():
            attributes = point["attributes"]
            if attributes.get("mcp.role") == role and point[value]:
                counts[what][f"{attributes['mcp.direction']} {attributes['mcp.method.name']}"] += int(point[value])
    return {what: dict(each) for what, each in counts.items()}


def _metrics(text: str) -> Iterator[dict[str, Any]]:
    decoder, last, at = json.JSONDecoder(), None, text.find('{\n    "resource_metrics"')
    while at >= 0:
        try:
            last, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        at = text.find('{\n    "resource_metrics"', end)
    for resource in last["resource_metrics"] if last else ():
        for scope in resource["scope_metrics"]:
            yield from scope["metrics"]


def differences(wire: Counts, measured: Counts, parts: Iterable[str] = EVERYTHING) -> list[str]:
    """What the two disagree about, a sentence each."""
    found: list[str] = []
    for part in parts:
        for key in sorted({*wire[part], *measured[part]}):
            there, here = wire[part].get(key, 0), measured[part].get(key, 0)
            if there != here:
                found.append(f"{part} of {key}: {there} on the wire, {here} measured")
    return found
