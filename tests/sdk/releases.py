"""What each release of the SDK has: the one table that tests skip by and that ``docs/metrics.md`` shows.

Data only: nothing of ``mcp`` is imported here. ``tests/sdk/test_releases.py`` holds each row against the release that
is installed. The releases themselves are those of ``tox.ini``; a new one has what its generation had before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Version = tuple[int, ...]

_TOX: Final = Path(__file__).parents[2] / "tox.ini"


@dataclass(frozen=True)
class Feature:
    """Something that not every release has.

    Attributes:
        title: What the documentation calls it.
        v1: The first of the tested 1.x releases that has it; None where none has.
        v2: Likewise of 2.x.
        where: Where the SDK keeps it: a module, ``module:name`` or ``module:function(parameter)``.
    """

    title: str
    v1: Version | None
    v2: Version | None
    where: str

    def is_in(self, version: Version) -> bool:
        """Whether a release has it."""
        first = self.v1 if version < (2,) else self.v2
        return first is not None and version >= first


_ALL: Final = ((1, 12), (2, 0))
_MANAGER: Final = "mcp.server.streamable_http_manager:StreamableHTTPSessionManager"

FEATURES: Final = {
    "stdio": Feature("stdio", *_ALL, "mcp.client.stdio:stdio_client"),
    "streamable_http": Feature("streamable HTTP: stateful, stateless, JSON or SSE", *_ALL, _MANAGER),
    "sse": Feature("SSE", *_ALL, "mcp.client.sse:sse_client"),
    "websocket": Feature("websocket", (1, 12), None, "mcp.client.websocket:websocket_client"),
    "in_memory": Feature("in memory", *_ALL, "mcp.shared.memory:create_client_server_memory_streams"),
    "2026-07-28": Feature("2026-07-28, on every transport", None, (2, 0), "mcp.server._streamable_http_modern"),
    "client": Feature("`mcp.Client`, with a server in process", None, (2, 0), "mcp:Client"),
    "group": Feature("`ClientSessionGroup`", *_ALL, "mcp:ClientSessionGroup"),
    "event_store": Feature("resumable streams (event store)", *_ALL, "mcp.server.streamable_http:EventStore"),
    "polling": Feature(
        "streams that a server closes for a while",
        (1, 23),
        (2, 0),
        "mcp.shared.message:ServerMessageMetadata(close_sse_stream)",
    ),
    "tasks": Feature("experimental tasks", (1, 23), None, "mcp.shared.experimental.tasks"),
    "middleware": Feature("middleware", None, (2, 0), "mcp.server.runner:_apply_middleware"),
    "extensions": Feature("extensions", None, (2, 0), "mcp.server.extension:Extension"),
    "subscriptions": Feature("subscriptions", None, (2, 0), "mcp.server.subscriptions"),
    "rounds": Feature("`input_required` rounds", None, (2, 0), "mcp_types:InputRequiredResult"),
    "eviction": Feature("idle sessions are evicted", (1, 27), (2, 0), f"{_MANAGER}(session_idle_timeout)"),
    "session_limit": Feature("session limit", (1, 30), (2, 2), f"{_MANAGER}(max_sessions)"),
    "body_limit": Feature("body limit", (1, 30), (2, 1), "mcp.server.transport_security:RequestBodyLimitMiddleware"),
    "event_limit": Feature(
        "event limit", None, (2, 3), "mcp.client.streamable_http:streamable_http_client(max_sse_event_size)"
    ),
    "schema_lookup": Feature(
        "tools are named without a listing", None, (2, 3), "mcp.server.lowlevel:Server(get_tool_input_schema)"
    ),
}


def tested() -> dict[str, Version]:
    """The releases of ``tox.ini``, oldest first."""
    pins = re.findall(r"^ +mcp[\d.]+: mcp == ([\d.]+)$", _TOX.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(sorted(((pin, tuple(map(int, pin.split(".")))) for pin in pins), key=lambda pin: pin[1]))


def table() -> str:
    """The features of the tested releases, as a table of the documentation."""
    releases = tested()
    lines = [f"| | {' | '.join(releases)} |", f"| --- |{' --- |' * len(releases)}"]
    for feature in FEATURES.values():
        cells = ("yes" if feature.is_in(version) else "" for version in releases.values())
        lines.append(f"| {feature.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fastmcp() -> str:
    """The tested releases of fastmcp, as a sentence of the documentation."""
    pins = re.findall(r"^ +fastmcp(\d)\S*: fastmcp == ([\d.]+)$", _TOX.read_text(encoding="utf-8"), re.MULTILINE)
    newest = {version[0]: release for release, version in tested().items()}
    on = {1: [pin for major, pin in pins if major != "4"], 2: [pin for major, pin in pins if major == "4"]}
    (v1, v2) = (f"{' and '.join(on[major])} on mcp {newest[major]}" for major in (1, 2))
    return f"fastmcp is tested with {v1}, and with {v2}:\nservers and clients, proxies and mounted servers."
