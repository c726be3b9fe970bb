"""Which generation of the SDK is installed, and its names, whatever module they live in.

Everything is ``Any``: no type checker can see both generations at once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

import pytest

from .releases import FEATURES

VERSION: Final = tuple(int(part) for part in version("mcp").split(".")[:2])
V2: Final = VERSION >= (2, 0)


def has(feature: str) -> bool:
    """Whether the installed release has a feature, by the table of releases."""
    return FEATURES[feature].is_in(VERSION)


def needs(*features: str) -> pytest.MarkDecorator:
    """Skip where the table of releases says that the installed one lacks one of ``features``."""
    lacking = [FEATURES[name].title for name in features if not has(name)]
    release = ".".join(map(str, VERSION))
    return pytest.mark.skipif(bool(lacking), reason=f"mcp {release} does not have: {', '.join(lacking)}")


def _find(first: str, second: str) -> Any:
    """The object named ``module:name`` for 1.x or for 2.x."""
    module, name = (second if V2 else first).split(":")
    return getattr(import_module(module), name)


types: Final[Any] = import_module("mcp_types" if V2 else "mcp.types")
ClientSession: Final = _find("mcp:ClientSession", "mcp:ClientSession")
StdioServerParameters: Final = _find("mcp:StdioServerParameters", "mcp:StdioServerParameters")
HighLevelServer: Final = _find("mcp.server.fastmcp:FastMCP", "mcp.server.mcpserver:MCPServer")
Context: Final = _find("mcp.server.fastmcp:Context", "mcp.server.mcpserver:Context")
Server: Final = _find("mcp.server.lowlevel:Server", "mcp.server.lowlevel:Server")
SDKError: Final = _find("mcp.shared.exceptions:McpError", "mcp.shared.exceptions:MCPError")
sse_client: Final = _find("mcp.client.sse:sse_client", "mcp.client.sse:sse_client")
stdio_client: Final = _find("mcp.client.stdio:stdio_client", "mcp.client.stdio:stdio_client")
memory_streams: Final = _find(
    "mcp.shared.memory:create_client_server_memory_streams", "mcp.shared.memory:create_client_server_memory_streams"
)
websocket_client: Final[Any] = None if V2 else _find("mcp.client.websocket:websocket_client", "")
websocket_server: Final[Any] = None if V2 else _find("mcp.server.websocket:websocket_server", "")
_streamable: Final = import_module("mcp.client.streamable_http")
streamable_http_client: Final[Any] = getattr(
    # The name of the releases before 1.24.
    _streamable,
    "streamable_http_client",
    getattr(_streamable, "streamablehttp_client", None),
)

CRASH_CODE: Final = "0"
"""What both generations answer on a JSON-RPC loop when a handler raises."""

MODERN_CRASH_CODE: Final = "-32603"
"""What 2.x answers to a 2026-07-28 request when a handler raises."""
