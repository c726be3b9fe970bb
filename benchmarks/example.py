"""The server every benchmark runs: one small tool, on either generation of the SDK.

The names that differ between the generations are ``Any``: no type checker can see both at once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

SDK_VERSION: Final = version("mcp")
V2: Final = not SDK_VERSION.startswith("1.")

NAME: Final = "benchmark"
TOOL: Final = "echo"
ARGUMENTS: Final = {"text": "The quick brown fox jumps over the lazy dog."}
"""What a call sends and gets back: about as much as a short question of an agent."""

_HighLevelServer: Final[Any] = (
    import_module("mcp.server.mcpserver").MCPServer if V2 else import_module("mcp.server.fastmcp").FastMCP
)


def build(**settings: Any) -> Any:
    """An ``MCPServer`` (2.x) or a ``FastMCP`` (1.x) with the tool ``echo``."""
    server = _HighLevelServer(NAME, log_level="ERROR", **settings)

    async def echo(text: str) -> str:
        return text

    server.add_tool(echo)
    return server


def low_level(server: Any) -> Any:
    """The low-level server inside a high-level one."""
    return server._lowlevel_server if V2 else server._mcp_server
