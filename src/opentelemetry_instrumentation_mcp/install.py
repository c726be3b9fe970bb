"""Putting all patches in place: the only module that imports all of the adapters."""

from __future__ import annotations

from typing import Final

from .sdk import http_client, http_edge, http_pool, http_server, interceptors, sizes, streams, v1, v2, websocket
from .sdk.adapter import Adapter, Patch

PATCHES: Final[tuple[tuple[str, Patch], ...]] = (
    *streams.PATCHES,
    *websocket.PATCHES,
    *sizes.PATCHES,
    *http_server.PATCHES,
    *http_edge.PATCHES,
    *http_client.PATCHES,
    *interceptors.PATCHES,
    *http_pool.PATCHES,
    *v1.PATCHES,
    *v2.PATCHES,
)
"""What is patched in which module. The module may be one that the installed release does not have."""


def install(adapter: Adapter) -> None:
    """Apply every patch to the modules that are imported, now, and to the others when they are."""
    adapter.modules = tuple(name for name, _ in PATCHES)
    adapter.apply(PATCHES)
    # Last, so that what it patches is around all else: a request's metrics are recorded within its span.
    adapter.spans.seek(adapter)
