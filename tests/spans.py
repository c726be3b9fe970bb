"""Finished spans, wherever they were found, to be counted, looked up and followed to their parents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.core import fail_open

CLIENT, SERVER = "CLIENT", "SERVER"
METHOD = "mcp.method.name"


@dataclass(frozen=True)
class FoundSpan:
    """One span.

    Attributes:
        name: Its name.
        kind: Its kind, in capitals.
        attributes: Its attributes.
        trace: The trace, in hexadecimal.
        id: Itself, likewise.
        parent: Its parent, likewise; empty for a root.
        status: ``UNSET``, ``OK`` or ``ERROR``.
        description: Of the status.
        links: The spans it is linked to.
        scope: The instrumentation scope.
        service: The resource's service.name.
    """

    name: str
    kind: str
    attributes: dict[str, Any]
    trace: str
    id: str
    parent: str = ""
    status: str = "UNSET"
    description: str = ""
    links: list[str] = field(default_factory=list[str])
    scope: str = ""
    service: str = ""

    @property
    def error(self) -> Any:
        return self.attributes.get("error.type")


def found(span: ReadableSpan) -> FoundSpan:
    """A span of the SDK."""
    context = span.get_span_context()
    assert context is not None
    return FoundSpan(
        span.name,
        span.kind.name,
        dict(span.attributes or {}),
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent is not None else "",
        span.status.status_code.name,
        span.status.description or "",
        [f"{link.context.span_id:016x}" for link in span.links],
        span.instrumentation_scope.name if span.instrumentation_scope is not None else "",
        str(span.resource.attributes.get("service.name", "")),
    )


def spans_to_json(spans: Iterable[FoundSpan]) -> str:
    return json.dumps([asdict(span) for span in spans])


def spans_from_json(text: str) -> list[FoundSpan]:
    return [FoundSpan(**each) for each in json.loads(text)]


class Spans:
    """What was exported so far by one provider, and by others, and a tracer of the test's own on it."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._others: list[FoundSpan] = []
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def all(self) -> list[FoundSpan]:
        return [*map(found, self._exporter.get_finished_spans()), *self._others]

    def add(self, spans: Iterable[FoundSpan]) -> None:
        """Spans of another process."""
        self._others.extend(spans)

    def of(self, kind: str, method: str | None = None) -> list[FoundSpan]:
        """MCP's spans of one kind, and one method."""
        return [
            span
            for span in self.all
            if span.kind == kind and METHOD in span.attributes and method in (None, span.attributes[METHOD])
        ]

    def one(self, kind: str, method: str) -> FoundSpan:
        (span,) = self.of(kind, method)
        return span

    def named(self, name: str) -> FoundSpan:
        (span,) = (span for span in self.all if span.name == name)
        return span

    def count(self, kind: str) -> dict[str, int]:
        """How many spans of a kind there are, by method."""
        return dict(Counter(str(span.attributes[METHOD]) for span in self.of(kind)))

    def clear(self) -> None:
        self._exporter.clear()
        self._others.clear()


@contextmanager
def instrumented(spans: Spans, *, faults: bool = False, **options: Any) -> Generator[None]:
    """The SDK of this process makes these spans.

    Args:
        spans: Where they go.
        faults: Whether something is meant to go wrong in there; else it is not.
        options: What ``instrument()`` gets besides.
    """
    reports: dict[str, Any] = getattr(fail_open, "_reports")  # noqa: B009
    before = dict(reports)
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(**{"tracer_provider": spans.provider, "meter_provider": MeterProvider(), **options})
    try:
        yield
    finally:
        instrumentor.uninstrument()
    assert faults or reports == before
