"""Writes docs/field.md from the results."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from typing import Any, Final

from .environments import ROOT

PAGE: Final = ROOT / "docs" / "field.md"

_TITLES: Final = {"servers": "Servers", "conformance": "The conformance suite", "agents": "Clients of agents"}
_TEXTS: Final = {
    "servers": """Each server speaks over stdio with the client of the TypeScript SDK: the handshake, a ping, every
listing, and a few calls, among them some that fail. The program that runs both holds the pipes between them and records
each message. It compares requests and notifications by method and direction, and the sum of the sizes of requests and
of responses, with what the instrumented server exported when it ended.""",
    "conformance": """The official suite, `@modelcontextprotocol/conformance` 0.2.0-alpha.12 from npm with `--suite all`
on Node 22 (it does not start on Node 20), runs over streamable HTTP against `tests/field/everything.py`. That server
has no more than the common features, so checks fail; each check has to end as it does with the bare server.""",
    "agents": """Each library lists the tools of `tests/field/everything.py` on mcp 2.3.0, calls one that succeeds and
one that fails. The instrumented process is the client. Over stdio a tap records each message of both directions; over
streamable HTTP the server records each body that is POSTed, so sizes of responses are not compared there.""",
}


def dated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, and when and with which Python they came to be."""
    when = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return [{**row, "date": when, "python": platform.python_version()} for row in rows]


def verdict(row: dict[str, Any]) -> str:
    """What came of a subject."""
    if "missing" in row:
        return f"not tried: {row['missing']}"
    return "; ".join(row["differences"]) or "equal"


def _row(row: dict[str, Any]) -> str:
    releases = ", ".join(f"{name} {release}" for name, release in row.get("releases", {}).items())
    if "checks" in row:
        seen = ", ".join(f"{count} {status}" for status, count in sorted(row["checks"].items()))
    elif "requests" in row:
        seen = f"{row['requests']} requests, exit status {row['code']}"
    else:
        seen = ""
    name = " over ".join(filter(None, (row["name"], row.get("over"))))
    return f"| {name} | {releases} | {seen} | {verdict(row)} | {row['date']}, Python {row['python']} |\n"


def write(results: dict[str, dict[str, Any]], order: list[tuple[str, str]]) -> None:
    """Write the page."""
    text = """# In the field

Servers and clients that nobody here wrote, as they come from PyPI and npm, without this package and with it.
`make field` runs them and writes this page. It takes about an hour and some gigabytes under `build/field`, and is no
part of `make test`. `make field ARGS="agents mcp-server-git"` runs a part and keeps the other rows.
Installed packages stay as they are until `build/field` is removed.

*Equal* means: the counts and sizes that are compared are the same as on the wire, and exit status and results are the
same as without this package. What cannot be installed or does not start by itself is *not tried*.
"""
    for part, title in _TITLES.items():
        text += f"\n## {title}\n\n{_TEXTS[part]}\n\n| subject | installed | what was seen | result | when |\n"
        text += "| --- | --- | --- | --- | --- |\n"
        for of, name in order:
            if of == part:
                rows = results.get(part, {}).get(name)
                text += "".join(map(_row, rows)) if rows else f"| {name} | | | not run | |\n"
    PAGE.write_text(text, encoding="utf-8")
