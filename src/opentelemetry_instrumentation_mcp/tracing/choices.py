"""What a user may choose about spans, read once, when they are first wanted."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.environment_variables import (
    OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES,
    OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT,
)
from .conventions import ON_REQUEST

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """The choices.

    Attributes:
        attributes: Attributes that are only given if asked for.
        enrichment: Whether spans that the SDK or fastmcp make are added to.
    """

    attributes: frozenset[str] = frozenset()
    enrichment: bool = True

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> Choices:
        """The defaults, with what the options of ``instrument()`` or else the environment say instead."""
        return cls(_attributes(options), _enrichment(options))


def _given(option: str, variable: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Where a choice was made, and what it is; empty if it was not."""
    value = options.get(option)
    if value is not None:
        return option, str(value).strip()
    return variable, os.environ.get(variable, "").strip()


def _attributes(options: Mapping[str, Any]) -> frozenset[str]:
    source, given = _given("span_attributes", OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES, options)
    names = {name for part in given.split(",") if (name := part.strip())}
    unknown = sorted(names - ON_REQUEST)
    if unknown:
        known = " and ".join(sorted(ON_REQUEST))
        _logger.warning("%s: %s left out; there are %s", source, ", ".join(unknown), known)
    return frozenset(names & ON_REQUEST)


def _enrichment(options: Mapping[str, Any]) -> bool:
    source, given = _given("span_enrichment", OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT, options)
    value = given.lower()
    if value not in ("", "true", "false"):
        _logger.warning("%s=%r is neither true nor false; using true", source, given)
    return value != "false"
