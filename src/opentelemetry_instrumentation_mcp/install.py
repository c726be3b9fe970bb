"""Putting all patches in place: the only module that imports all of the adapters, and all that these share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .metrics.events import Recorder
from .sdk import http_client, http_edge, http_pool, http_server, interceptors, sizes, streams, v1, v2, websocket
from .sdk.client_hooks import ClientHooks
from .sdk.interceptors.interception import Interceptors
from .sdk.interceptors.passage import SpanBypass
from .sdk.lifecycle import Lifecycle
from .sdk.modules import Modules
from .sdk.object_methods import ObjectMethods
from .sdk.sizes import Sizes
from .sdk.spans import Spans
from .sdk.state import ModulePatch, State
from .sdk.streams import Streams

if TYPE_CHECKING:
    from .tracing.operations import Operations


class Installation:
    """What the patches of one ``instrument()`` share: each service is handed to the modules that need it.

    The services come in the order in which they are taken back at the end, but for what was recorded, which comes last.

    Args:
        recorder: The door to the metrics.
        options: The options of ``instrument()``.
    """

    def __init__(self, recorder: Recorder, options: Mapping[str, Any]) -> None:
        self._options = options
        self.lifecycle = lifecycle = Lifecycle()
        self.state = state = State(recorder, lifecycle)
        self.methods = ObjectMethods(lifecycle)
        self.hooks = ClientHooks(lifecycle)
        self.interceptors = Interceptors(state, lifecycle)
        self.open_streams = Streams(lifecycle)
        self.sizes = Sizes(lifecycle)
        self.bypass = SpanBypass()
        self.modules = Modules(state)
        self.spans = Spans(state, lifecycle, options.get("tracer_provider"), self._begin_spans)

    def begin(self) -> None:
        """Apply every patch to the modules that are imported, now, and to the others when they are."""
        patches = self.patches()
        self.modules.expected = tuple(name for name, _ in patches)
        self.modules.apply(patches)
        # Last, so that what it patches is around all else: a request's metrics are recorded within its span.
        self.spans.operations()

    def end(self) -> None:
        """Take everything back."""
        self.lifecycle.end()

    def patches(self) -> tuple[ModulePatch, ...]:
        """What is patched in which module. The module may be one that the installed release does not have."""
        state, open_streams, spans = self.state, self.open_streams, self.spans
        return (
            *streams.patches(state, open_streams),
            *websocket.patches(state, open_streams, self.sizes),
            *sizes.patches(state, self.sizes),
            *http_server.patches(state, open_streams),
            *http_edge.patches(state, spans),
            *http_client.patches(state, open_streams, self.sizes, self.hooks),
            *interceptors.patches(state, self.interceptors, self.bypass),
            *http_pool.patches(state),
            *v1.patches(state, open_streams, self.sizes, spans),
            *v2.patches(state, open_streams, self.sizes, spans, self.methods, self.bypass),
        )

    def _begin_spans(self) -> Operations:
        # Most processes never get here.
        from .sdk import fastmcp_spans  # noqa: PLC0415
        from .sdk.v1 import spans as v1_spans  # noqa: PLC0415
        from .sdk.v2.spans import NativeSpans  # noqa: PLC0415
        from .tracing.choices import Choices  # noqa: PLC0415
        from .tracing.operations import Operations  # noqa: PLC0415

        choices = Choices.chosen(self._options)
        provider = self._options.get("tracer_provider")
        operations = Operations(provider, choices.attributes)
        native = NativeSpans(self.state, self.open_streams, operations, provider)
        self.modules.apply(
            (
                *v1_spans.patches(self.state, operations),
                *native.patches(choices.enrichment),
                *fastmcp_spans.patches(self.state, native, provider, choices.enrichment),
            )
        )
        return operations
