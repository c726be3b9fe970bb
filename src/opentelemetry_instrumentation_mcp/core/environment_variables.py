"""The environment variables that this package adds. The standard ``OTEL_*`` variables choose everything else."""

from typing import Final

OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS: Final = "OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS"
"""The most attribute sets each instrument may hold; a whole number from 10 to 1900, by default 1000."""

OTEL_INSTRUMENTATION_MCP_MAX_NAMES: Final = "OTEL_INSTRUMENTATION_MCP_MAX_NAMES"
"""The most tool and prompt names, together, in attributes; a whole number from 0 to 1900, by default 100."""

OTEL_INSTRUMENTATION_MCP_PROMETHEUS_WITHOUT_SCOPE_INFO: Final = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_WITHOUT_SCOPE_INFO"
"""``true`` leaves the labels ``otel_scope_*`` away from a Prometheus page; by default they are on every series."""

OTEL_INSTRUMENTATION_MCP_PROMETHEUS_RESOURCE_LABELS: Final = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_RESOURCE_LABELS"
"""Names of resource attributes, separated by commas, that are labels of every series on a Prometheus page."""

OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS: Final = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS"
"""Further host names, separated by commas, that a Prometheus page on the loopback answers to."""

OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR: Final = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR"
"""A directory in which each server keeps a ``file_sd`` target file for Prometheus; by default there is none."""

OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES: Final = "OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES"
"""Span attributes to add, separated by commas: ``mcp.session.id``, ``mcp.resource.uri``. By default they are absent."""

OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT: Final = "OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT"
"""``false`` leaves the spans that mcp 2.x and fastmcp make as they are; by default what they lack is added."""
