"""The options of ``MCPInstrumentor().instrument()``, which declarative configuration passes on from its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """What ``instrumentation/development.python.mcp_sdk`` may say besides ``enabled``.

    An option that is left out is read from its variable, ``OTEL_INSTRUMENTATION_MCP_`` and its name in capitals.

    Attributes:
        max_attribute_sets: The most attribute sets each instrument may hold; from 10 to 1900, by default 1000.
        max_names: The most tool and prompt names, together, in attributes; from 0 to 1900, by default 100.
        span_attributes: Span attributes that are only there if asked for, separated by commas.
        span_enrichment: Whether spans that mcp 2.x and fastmcp make are added to; by default they are.
    """

    max_attribute_sets: int | None = None
    max_names: int | None = None
    span_attributes: str | None = None
    span_enrichment: bool | None = None
