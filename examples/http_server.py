"""An MCP server over streamable HTTP. Nothing here knows that it is being measured.

opentelemetry-instrument python http_server.py [PORT]
"""

# One of the two imports below is always missing, and the type of all that follows from it half unknown.
# pyright: basic, reportAttributeAccessIssue=false

import sys

import anyio
import uvicorn

try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import FastMCP as Server

server = Server("demo-http")


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
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    # A client keeps a stream open for as long as it lives; without a limit uvicorn would wait for it when it stops.
    uvicorn.run(
        server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1
    )
