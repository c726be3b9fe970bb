"""Finished spans, to be counted, looked up and followed to their parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from opentelemetry_instrumentation_mcp import MCPInstrumentor

CLIENT, SERVER = SpanKind.CLIENT, SpanKind.SERVER
METHOD = "mcp.method.name"


class Spans:
    """What was exported so far by one provider, and a tracer of the test's own on it."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def of(self, kind: SpanKind, method: str | None = None) -> list[ReadableSpan]:
        """MCP's spans of one kind, and one method."""
        return [
            span
            for span in self.all
            if span.kind is kind and METHOD in attributes(span) and method in (None, attributes(span)[METHOD])
        ]

    def one(self, kind: SpanKind, method: str) -> ReadableSpan:
        (span,) = self.of(kind, method)
        return span

    def count(self, kind: SpanKind) -> dict[str, int]:
        """How many spans of a kind there are, by method."""
        return dict(Counter(str(attributes(span)[METHOD]) for span in self.of(kind)))

    def clear(self) -> None:
        self._exporter.clear()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def identity(span: ReadableSpan) -> tuple[int, int]:
    """Its trace and itself."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    """Its trace and its parent."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent is not None else None


@contextmanager
def instrumented(spans: Spans, **options: Any) -> Iterator[None]:
    """The SDK of this process makes these spans."""
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider, meter_provider=MeterProvider(), **options)
    try:
        yield
    finally:
        instrumentor.uninstrument()
