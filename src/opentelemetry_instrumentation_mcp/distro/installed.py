"""Entry points, read as the SDK and the auto-instrumentation read them: once per process."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from opentelemetry.util import _importlib_metadata as metadata


def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
    """The entry points of a group, in the order they come up; with ``name`` those of this name only."""
    # The standard library would read the metadata of every installed package again, on each call.
    selection = {"group": group} if name is None else {"group": group, "name": name}
    return list(metadata.entry_points(**selection))  # pyright: ignore[reportUnknownMemberType]
