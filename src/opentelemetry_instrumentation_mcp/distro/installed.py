"""Entry points, read as the SDK and the auto-instrumentation read them: once per process."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint

from opentelemetry.util import _importlib_metadata as metadata


def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """The entry points of a group, in the order they come up; with ``name`` those of this name only."""
    return [each for each in _by_group().get(group, ()) if name is None or each.name == name]


@cache
def _by_group() -> dict[str, list[EntryPoint]]:
    # The standard library would read the metadata of every installed package again, on each call; OpenTelemetry keeps
    # what it has read, and goes through all of it on each call.
    groups: dict[str, list[EntryPoint]] = {}
    for each in metadata.entry_points():  # pyright: ignore[reportUnknownMemberType]
        groups.setdefault(each.group, []).append(each)
    return groups
