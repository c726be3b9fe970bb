"""The limits of every table, read once per ``instrument()``, when the MCP SDK is first used.

A value that is no whole number, or is out of its range, costs one warning that names the variable and the value used
instead.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.environment_variables import OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, OTEL_INSTRUMENTATION_MCP_MAX_NAMES

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How many different values each table admits (the catalogue's section on attributes).

    Attributes:
        attribute_sets: Attribute sets per instrument.
        names: Tool and prompt names together.
        servers: Values of ``mcp.server.name``.
        methods: Methods beyond the protocol's own.
        exceptions: Exception class names in ``error.type``.
        addresses: Values of ``server.address`` (with its port).
        interceptors: Values of ``interceptor``.
        pools: Values of ``pool``.
    """

    attribute_sets: int = 1000
    names: int = 100
    servers: int = 50
    methods: int = 50
    exceptions: int = 50
    addresses: int = 100
    interceptors: int = 50
    pools: int = 100

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> Limits:
        """The defaults, with what the options of ``instrument()`` or else the environment say instead."""
        # The SDK's own limit is 2,000 sets; at that point it would fold everything into its overflow series.
        attribute_sets = _Limit(OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, cls.attribute_sets, 10, 1900)
        names = _Limit(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, cls.names, 0, 1900)
        return cls(
            attribute_sets=attribute_sets.read("max_attribute_sets", options),
            names=names.read("max_names", options),
        )

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, with what the environment says instead."""
        return cls.chosen({})


@dataclass(frozen=True)
class _Limit:
    """A whole number that a user may choose."""

    variable: str
    default: int
    least: int
    most: int

    def read(self, option: str, options: Mapping[str, Any]) -> int:
        """The option, if it is given, or the variable, if it is set; the default for what is neither or no good."""
        source: str = option
        given: Any = options.get(option)
        if given is None:
            source = self.variable
            given = os.environ.get(source, "").strip()
            if not given:
                return self.default
        try:
            # Through text: a number of the file that is not whole is refused like a word.
            value = int(str(given))
        except ValueError:
            value = None
        if value is None or not self.least <= value <= self.most:
            _logger.warning(
                "%s=%r is not a whole number from %d to %d; using %d",
                source,
                given,
                self.least,
                self.most,
                self.default,
            )
            return self.default
        return value
