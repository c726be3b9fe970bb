"""Reads values that came off the wire, which may have any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

_NOTHING: Final[Mapping[str, Any]] = {}


def fields(value: Any) -> Mapping[str, Any]:
    """``value`` as a JSON object; empty if it is something else."""
    # The class first: asking an abstract class costs ten times as much. No cast(): it is a call like any other.
    if type(value) is dict or isinstance(value, Mapping):
        return value  # pyright: ignore[reportUnknownVariableType]
    return _NOTHING


def items(value: object) -> list[Any]:
    """``value`` as a JSON array; empty if it is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []
