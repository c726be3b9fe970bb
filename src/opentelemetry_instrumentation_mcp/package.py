"""What this instrumentation is for, as the instrumentor and the auto-instrumentation read it."""

from typing import Final

instruments: Final = ("mcp >= 1.12, < 3",)

INSTRUMENTOR: Final = "mcp_sdk"
"""The name of the instrumentor's entry point."""
