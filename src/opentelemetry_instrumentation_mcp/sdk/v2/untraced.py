"""What mcp 2.x does for tracing by itself, as long as nobody has set it up: then it costs little.

Every message of 2.x is handled in a span of the SDK's (``otel_span``). Without a tracer provider that is four context
managers of the SDK's and the API's, one in the other, around a span that is none: as much time as all the metrics of a
request, and more. What they would do then is done here at once, and asked anew for every message, since a provider may
be set at any time. Where a trace comes in or is current, or a provider is there, they are called as ever.

Likewise where there is no trace to be taken from a message or to be given to one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ...core.fail_open import contained, report
from ...patching.patches import names_in
from ..interceptors.passage import SpanBypass
from ..state import ModulePatch, State

_OTEL_SPAN: Final = frozenset({"_tracer", "start_as_current_span"})
_INJECT: Final = frozenset({"inject"})
_EXTRACT: Final = frozenset({"extract", "ValueError", "TypeError", "get_current_span", "get_span_context", "is_valid"})
"""Every name that 2.0 to 2.3 use in ``otel_span``, ``inject_trace_context`` and ``extract_trace_context``."""

_MIDDLEWARE: Final = frozenset(
    {
        "CallToolResult", "ERROR", "Exception", "INVALID_PARAMS", "MCPError", "SERVER", "SpanKind", "StatusCode",
        "ValidationError", "__qualname__", "code", "error", "extract_trace_context", "get", "isinstance", "message",
        "meta", "method", "otel_span", "params", "protocol_version", "record_exception", "request_id", "set_attribute",
        "set_attributes", "set_status", "str", "type"
    }
)  # fmt: skip
"""Likewise in ``OpenTelemetryMiddleware.__call__``: besides the span, which may be none, it does nothing."""

_W3C: Final = (TraceContextTextMapPropagator, W3CBaggagePropagator)
"""Propagators that have nothing to say of an empty context; the first finds a trace under one key alone."""
_TRACE_PARENT: Final = "traceparent"


def _restore(context: Context, error: BaseException | None = None) -> None:
    """Let what was attached in a block, and never detached, end with it."""
    try:
        # A coroutine that nobody finishes is closed in any context.
        if otel_context.get_current() is not context and not isinstance(error, GeneratorExit):
            otel_context.attach(context)
    except Exception as failure:
        report("untraced.restore", failure)


def _keep(context: Context, error: BaseException | None = None) -> None:
    """Likewise, where nothing ends with a block (see :func:`_resets`)."""


class _Nothing:
    """The block of a span that is none, where none is current either."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return trace.INVALID_SPAN

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        pass


class _Idle(_Nothing):
    """Likewise, where what was attached in the block and never detached ends with it."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        _restore(self._context, error)


def _resets() -> bool:
    """Whether the API's block around no span attaches a context, and resets it; that of 1.36 does not."""
    before = otel_context.get_current()
    with trace.NoOpTracer().start_as_current_span(""):
        return otel_context.get_current() is not before


class Propagator:
    """The global propagator, and whether it is known what it does."""

    def __init__(self) -> None:
        self._seen: Any = None
        self._is_known = False

    def finds_nothing(self, meta: Any) -> bool:
        """Whether there is no trace to be taken from the ``_meta`` of a message, which is not empty."""
        if _TRACE_PARENT in meta:
            return False
        # Of most messages the answer is the one before, without a call more.
        return self._is_known if propagate.get_global_textmap() is self._seen else self.is_known()

    def is_known(self) -> bool:
        """Whether it consists of the W3C's alone, in their order by default."""
        current = propagate.get_global_textmap()
        if current is not self._seen:
            parts: Any = getattr(current, "_propagators", ()) if type(current) is CompositePropagator else ()
            # Baggage alone, or first, is put into the context that is current.
            self._is_known = tuple(map(type, parts)) in (_W3C, _W3C[:1])
            self._seen = current
        return self._is_known


def _idle_context_finder(spans: Any) -> Callable[[], Context | None]:
    """Make a function that returns the current context where a span would be none, and none is current; else None.

    Args:
        spans: The module with the SDK's tracer.
    """
    no_tracer: Any = trace.NoOpTracer
    stand_in: Any = trace.ProxyTracer

    def idle_context() -> Context | None:
        tracer: Any = spans._tracer
        if type(tracer) is stand_in:
            # It looks for a provider.
            tracer = tracer._tracer
        if type(tracer) is no_tracer:
            here = otel_context.get_current()
            if not here or trace.get_current_span(here) is trace.INVALID_SPAN:
                return here
        return None

    return idle_context


def _otel_span(idle_context: Callable[[], Context | None], original: Any) -> Any:
    """Take the place of ``otel_span`` where it is used."""
    if names_in(getattr(original, "__wrapped__", None)) != _OTEL_SPAN:
        return original
    resets, nothing = _resets(), _Nothing()

    @functools.wraps(original)
    def otel_span(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("context") is None and len(args) == 1:
            try:
                here = idle_context()
                if here is not None:
                    return _Idle(here) if resets else nothing
            except Exception as error:
                report("untraced.otel_span", error)
        return original(*args, **kwargs)

    return otel_span


def _inject_trace_context(propagator: Propagator, original: Any) -> Any:
    if names_in(original) != _INJECT:
        return original

    @functools.wraps(original)
    def inject_trace_context(*args: Any, **kwargs: Any) -> Any:
        try:
            if len(args) == 1 and not kwargs and not otel_context.get_current() and propagator.is_known():
                return None
        except Exception as error:
            report("untraced.inject_trace_context", error)
        return original(*args, **kwargs)

    return inject_trace_context


def _extract_trace_context(propagator: Propagator, original: Any) -> Any:
    if names_in(original) != _EXTRACT:
        return original

    @functools.wraps(original)
    def extract_trace_context(*args: Any, **kwargs: Any) -> Any:
        try:
            if len(args) == 1 and not kwargs and (not args[0] or propagator.finds_nothing(args[0])):
                return None
        except Exception as error:
            report("untraced.extract_trace_context", error)
        return original(*args, **kwargs)

    return extract_trace_context


class UntracedMiddleware:
    """The SDK's middleware for spans while there are none to make: it passes messages on.

    Args:
        module: Where the middleware is.
        idle_context: See :func:`_idle_context_finder`.
        propagator: The global one.
    """

    def __init__(self, module: Any, idle_context: Callable[[], Context | None], propagator: Propagator) -> None:
        self._module = module
        self._class: Any = module.OpenTelemetryMiddleware
        self._span, self._extract, self._call = module.otel_span, module.extract_trace_context, self._class.__call__
        self._seek = idle_context
        self._propagator = propagator
        self.restore = _restore if _resets() else _keep
        """Called when a message is through, with the context it had and the exception, if there was one."""

    @contained
    def stands_for(self, middleware: Any) -> bool:
        """Whether this is the middleware, and does what we know."""
        return type(middleware) is self._class and names_in(self._class.__call__) == _MIDDLEWARE

    def idle_context(self, message: Any) -> Context | None:
        """The current context, where a message needs no span; None where the middleware has something to do.

        Args:
            message: What the middleware gets (``ServerRequestContext``).
        """
        try:
            module = self._module
            # By identity: what wrapt puts around a function is equal to it.
            if (
                module.otel_span is not self._span
                or module.extract_trace_context is not self._extract
                or self._class.__call__ is not self._call
            ):
                # Somebody else has come since.
                return None
            meta = message.meta
            return None if meta and not self._propagator.finds_nothing(meta) else self._seek()
        except Exception as error:
            report("untraced.idle_context", error)
            return None


def patches(state: State, bypass: SpanBypass) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return tuple(
        (name, functools.partial(_patch, state, bypass))
        for name in ("mcp.server._otel", "mcp.shared.jsonrpc_dispatcher")
    )


def _patch(state: State, bypass: SpanBypass, module: ModuleType) -> None:
    spans = sys.modules.get("mcp.shared._otel")
    if spans is None:
        return
    propagator, idle_context = Propagator(), _idle_context_finder(spans)

    def otel_span(original: Any) -> Any:
        return _otel_span(idle_context, original)

    def extract(original: Any) -> Any:
        return _extract_trace_context(propagator, original)

    def inject(original: Any) -> Any:
        return _inject_trace_context(propagator, original)

    makers = {"otel_span": otel_span, "extract_trace_context": extract, "inject_trace_context": inject}
    own: ModuleType = getattr(module, "owner", module)
    replaced: set[str] = set()
    for name, make in makers.items():
        # Where there is none, no metric is lost.
        original: Any = vars(own).get(name)
        if original is not None:
            state.patches.replace(module, name, make)
            if getattr(own, name) is not original:
                replaced.add(name)
    if {"otel_span", "extract_trace_context"} <= replaced and hasattr(own, "OpenTelemetryMiddleware"):
        bypass.middleware = UntracedMiddleware(own, idle_context, propagator)
