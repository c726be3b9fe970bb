"""fastmcp 3 and 4, which make spans of their own: one SERVER and one CLIENT span of a call remain.

On mcp 1.x (fastmcp 3) the SERVER span is ours, which begins when the request arrives and ends with the answer's code;
what fastmcp's has to say it says on ours. On 2.x (fastmcp 4) it is fastmcp's, and what it lacks is added. Where fastmcp
has a CLIENT span open, neither the SDK nor this package makes another one (see ``Operations.send`` and ``v2.spans``).
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import NoOpTracer, Span, SpanKind, TracerProvider

from ..metrics.catalogue import ERROR_TYPE
from ..patching.arguments import Parameter
from ..tracing.operations import Operation
from .state import ModulePatch, State
from .v2.spans import NativeSpans, ServerSpan

_SCOPE: Final = "fastmcp"

SERVING: Final[ContextVar[Operation | None]] = ContextVar("opentelemetry_instrumentation_mcp_operation", default=None)
"""The span of this package in which a message of mcp 1.x is handled in this context."""


def patches(
    state: State, native: NativeSpans, provider: TracerProvider | None, enrichment: bool
) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules.

    Args:
        state: What wrappers hold.
        native: What knows what a span of 2.x lacks.
        provider: The tracer provider given to ``instrument()``, if one was: fastmcp's spans then go there as well.
        enrichment: Whether spans of 2.x are added to.
    """

    def tracer_of(original: Any) -> Any:
        """What fastmcp's ``get_tracer`` returns, with the provider we were given."""

        version = Parameter(original, "version", 0)

        @functools.wraps(original)
        def get_tracer(*args: Any, **kwargs: Any) -> Any:
            tracer: Any = original(*args, **kwargs)
            # Switched off by fastmcp's own settings.
            off = isinstance(tracer, NoOpTracer)
            given = version.of(args, kwargs)
            return tracer if provider is None or off else trace.get_tracer(_SCOPE, given, provider)

        return get_tracer

    def patch_server(module: ModuleType) -> None:
        def make(original: Any) -> Any:
            get = tracer_of(original)

            @functools.wraps(original)
            def get_tracer(*args: Any, **kwargs: Any) -> Any:
                return _Tracer(get(*args, **kwargs), native if enrichment else None)

            return get_tracer

        state.patches.replace(module, "get_tracer", make)

    def patch_client(module: ModuleType) -> None:
        if provider is not None:
            state.patches.replace(module, "get_tracer", tracer_of)

    return (("fastmcp.server.telemetry", patch_server), ("fastmcp.client.telemetry", patch_client))


class _Tracer:
    """fastmcp's tracer, on a server."""

    def __init__(self, tracer: Any, native: NativeSpans | None) -> None:
        self._tracer = tracer
        self._native = native

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracer, name)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        """Start a span, or go on in ours if it is of the same message."""
        if kwargs.get("kind") is not SpanKind.SERVER:
            return self._tracer.start_as_current_span(*args, **kwargs)
        serving = SERVING.get()
        name = str(args[0] if args else kwargs.get("name"))
        if serving is not None and not serving.ended and not serving.is_merged and name.startswith(serving.method):
            # Once: what a handler calls besides, and servers mounted below, have spans of their own.
            serving.is_merged = True
            return nullcontext(_MergedSpan(serving.span))
        block = self._tracer.start_as_current_span(*args, **kwargs)
        return block if self._native is None else ServerSpan(self._native, block)


class _MergedSpan:
    """Our span as fastmcp sees it: it takes what fastmcp knows, and judges by the answer what went wrong."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._span, name)

    def set_attribute(self, key: str, value: Any) -> None:
        """Take an attribute."""
        if key != ERROR_TYPE:
            self._span.set_attribute(key, value)

    def set_status(self, *args: Any, **kwargs: Any) -> None:
        """Take no status."""
