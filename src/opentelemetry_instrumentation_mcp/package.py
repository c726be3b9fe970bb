"""What this instrumentation is for, and what the auto-instrumentation calls it."""

from typing import Final

instruments: Final = ("mcp >= 1.12, < 3",)

PACKAGES: Final = ("mcp", "mcp_types", "fastmcp")
"""The packages that adapters patch. HTTP libraries are patched as well, but only for what MCP does with them."""

INSTRUMENTOR: Final = "mcp_sdk"
"""The name of the instrumentor's entry point."""
