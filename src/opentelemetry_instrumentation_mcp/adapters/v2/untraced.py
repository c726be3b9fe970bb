"""The spans mcp 2.x makes by itself, as long as nobody has set up tracing: a block that does nothing costs little.

Every message of 2.x is handled in a span of the SDK's (``otel_span``). Without a tracer provider that is four context
managers of the SDK's and the API's, one in the other, around a span that is none: as much time as all the metrics of a
request. What they would do then is done here at once, and asked anew for every message, since a provider may be set at
any time. Where a trace comes in or is current, or a provider is there, they are called as ever.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from ...patching import names_in
from ...safety import report
from ..adapter import Adapter

_OTEL_SPAN: Final = frozenset({"_tracer", "start_as_current_span"})
"""Every name that 2.0 to 2.3 use in ``otel_span``."""


class _Idle:
    """The block of a span that is none, where none is current either."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Span:
        return trace.INVALID_SPAN

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        # What was attached in the block and never detached ends with it. A coroutine that nobody finishes is closed in
        # any context.
        if otel_context.get_current() is not self._context and not isinstance(error, GeneratorExit):
            otel_context.attach(self._context)


def _otel_span(module: ModuleType, original: Any) -> Any:
    """Take the place of ``otel_span`` where it is used."""
    if names_in(getattr(original, "__wrapped__", None)) != _OTEL_SPAN:
        return original
    no_tracer = trace.NoOpTracer

    @functools.wraps(original)
    def otel_span(name: str, *, context: Context | None = None, **options: Any) -> Any:
        if context is None:
            try:
                # The API's stand-in for a tracer looks for a provider.
                tracer = module._tracer
                if type(getattr(tracer, "_tracer", tracer)) is no_tracer:
                    here = otel_context.get_current()
                    if trace.get_current_span(here) is trace.INVALID_SPAN:
                        return _Idle(here)
            except Exception as error:
                report("untraced.otel_span", error)
        return original(name, context=context, **options)

    return otel_span


def _patch(adapter: Adapter, module: ModuleType) -> None:
    spans = sys.modules["mcp.shared._otel"]
    adapter.patches.replace(module, "otel_span", lambda original: _otel_span(spans, original))


PATCHES: Final = (
    ("mcp.server._otel", _patch),
    ("mcp.shared.jsonrpc_dispatcher", _patch),
)
