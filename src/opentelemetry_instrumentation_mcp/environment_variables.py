"""The environment variables of this package's own. Everything else is chosen by the standard ``OTEL_*`` variables."""

from typing import Final

OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS: Final = "OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS"
"""The most attribute sets each instrument may hold; a whole number from 10 to 1900, by default 1000."""

OTEL_INSTRUMENTATION_MCP_MAX_NAMES: Final = "OTEL_INSTRUMENTATION_MCP_MAX_NAMES"
"""The most tool and prompt names, together, in attributes; a whole number from 0 to 1900, by default 100."""
