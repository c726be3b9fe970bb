"""The JSON-RPC messages the benchmarks send, made without the SDK: the driver is not what is measured."""

from __future__ import annotations

import json
from typing import Any, Final

from .example import ARGUMENTS, TOOL

HANDSHAKE_VERSION: Final = "2025-06-18"
MODERN_VERSION: Final = "2026-07-28"

_CLIENT: Final = {"name": "benchmark", "version": "0"}

INITIALIZE: Final = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": _CLIENT},
    }
)
INITIALIZED: Final = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})

_ENVELOPE: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
    "io.modelcontextprotocol/clientInfo": _CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}

HEADERS: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
"""What every POST says."""

MODERN_HEADERS: Final = {
    **HEADERS,
    "mcp-protocol-version": MODERN_VERSION,
    "mcp-method": "tools/call",
    "mcp-name": TOOL,
}
"""What the POST of a call says by 2026-07-28."""


def session_headers(session: str) -> dict[str, str]:
    """What a POST says in a session of the handshake era."""
    return {**HEADERS, "mcp-session-id": session, "mcp-protocol-version": HANDSHAKE_VERSION}


def call(number: int, *, modern: bool = False, tool: str = TOOL, arguments: dict[str, Any] | None = None) -> str:
    """A ``tools/call`` with the id ``number``."""
    params: dict[str, Any] = {"name": tool, "arguments": ARGUMENTS if arguments is None else arguments}
    if modern:
        params["_meta"] = _ENVELOPE
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


def check(answer: str | bytes) -> None:
    """Raise unless this is the answer of the tool: a benchmark of calls that fail would measure something else."""
    text = answer if isinstance(answer, str) else answer.decode()
    if ARGUMENTS["text"] not in text or '"error"' in text or '"isError":true' in text:
        raise RuntimeError(f"not the answer of the tool: {text[:500]}")
