"""Where events are seen: the seams of the SDK, one module each.

An adapter wraps a few functions of ``mcp`` and translates what passes into the vocabulary of the recorder. ``v1`` and
``v2`` are twins: the same events at the seams of two SDK generations. What both have alike is beside them: transports
(``streams``, ``websocket``, ``http_server``, ``http_edge``, ``http_client``, ``http_pool``), bytes (``sizes``) and
``interceptors``; and, where somebody wants them, spans (``spans``, ``fastmcp_spans``). Adapters hold no metric names.

Nothing is imported from ``mcp``: a patch is applied when the application itself imports the module it is for.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Final, cast

from ..safety import report_failure
from . import http_client, http_edge, http_pool, http_server, interceptors, sizes, streams, v1, v2, websocket
from .adapter import Adapter
from .release import Module, note_missing_modules

_Patch = Callable[[Adapter, ModuleType], None]

_PATCHES: Final[tuple[tuple[str, _Patch], ...]] = (
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


def install(adapter: Adapter) -> None:
    """Apply every patch to the modules that are imported, now, and to the others when they are."""
    for name, patch in _PATCHES:
        adapter.patches.when_imported(name, applying(adapter, patch))
    # Last, so that what it patches is around all else: a request's metrics are recorded within its span.
    adapter.spans.seek(adapter)


def applying(adapter: Adapter, patch: _Patch) -> Callable[[ModuleType], None]:
    """A post-import hook that applies a patch, as long as the adapter is not retired."""

    def hook(module: ModuleType) -> None:
        if adapter.recorder is None:
            return
        try:
            note_missing_modules(tuple(name for name, _ in _PATCHES), adapter.patches)
            patch(adapter, cast("ModuleType", Module(module, adapter.patches)))
            adapter.patches.tell()
        except Exception as error:
            report_failure(f"{module.__name__} was not instrumented", error)

    return hook
