"""An MCP server over stdio, started by its client. Nothing here knows that it is being measured.

opentelemetry-instrument python stdio_server.py
"""

# One of the two imports below is always missing, and the type of all that follows from it half unknown.
# pyright: basic, reportAttributeAccessIssue=false

import anyio

try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as Server

server = Server("demo-stdio")


@server.tool()
def add(a: int, b: int) -> int:
    """Succeeds."""
    return a + b


@server.tool()
def divide(a: float, b: float) -> float:
    """Fails when b is 0: the SDK turns the exception into a result with isError."""
    return a / b


@server.tool()
async def sleep(seconds: float) -> str:
    """Is slow, and does not hold up the other calls."""
    await anyio.sleep(seconds)
    return f"slept {seconds} s"


if __name__ == "__main__":
    server.run()
