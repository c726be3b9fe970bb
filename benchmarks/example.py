"""The server every benchmark runs, on either generation of the SDK.

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
LARGE: Final = "large"
ARGUMENTS: Final = {"text": "The quick brown fox jumps over the lazy dog."}
"""What a call sends and gets back: about as much as a short question of an agent."""

_HighLevelServer: Final[Any] = (
    import_module("mcp.server.mcpserver").MCPServer if V2 else import_module("mcp.server.fastmcp").FastMCP
)


def build(tools: int = 1) -> Any:
    """An ``MCPServer`` (2.x) or a ``FastMCP`` (1.x): ``tools`` tools that echo, and one with large results."""
    server = _HighLevelServer(NAME, log_level="ERROR")

    async def echo(text: str) -> str:
        return text

    async def large(size: int) -> str:
        return "x" * size

    for number in range(tools):
        server.add_tool(echo, name=tool_name(number))
    server.add_tool(large, name=LARGE)
    return server


def tool_name(number: int) -> str:
    """The name of one of the tools that echo; the first is :data:`TOOL`."""
    return f"{TOOL}_{number}" if number else TOOL


def low_level(server: Any) -> Any:
    """The low-level server inside a high-level one."""
    return server._lowlevel_server if V2 else server._mcp_server
