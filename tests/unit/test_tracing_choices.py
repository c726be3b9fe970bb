from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opentelemetry_instrumentation_mcp.core.environment_variables import (
    OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES as ATTRIBUTES,
)
from opentelemetry_instrumentation_mcp.core.environment_variables import (
    OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT as ENRICHMENT,
)
from opentelemetry_instrumentation_mcp.install import Installation
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.tracing.choices import Choices

BOTH = frozenset({"mcp.session.id", "mcp.resource.uri"})


@pytest.mark.parametrize(
    ("given", "attributes"),
    [
        ("", frozenset[str]()),
        (" ", frozenset[str]()),
        ("mcp.session.id", frozenset({"mcp.session.id"})),
        (" mcp.resource.uri , mcp.session.id ,", BOTH),
    ],
)
def test_attributes_are_asked_for(given: str, attributes: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ATTRIBUTES, given)
    assert Choices.chosen({}).attributes == attributes


@pytest.mark.parametrize(
    ("given", "enrichment"), [("", True), ("true", True), ("TRUE", True), ("false", False), (" False ", False)]
)
def test_enrichment_is_switched_off(given: str, enrichment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENRICHMENT, given)
    assert Choices.chosen({}).enrichment is enrichment


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        (ATTRIBUTES, "mcp.session.id,client.address", f"{ATTRIBUTES}: client.address left out"),
        (ENRICHMENT, "maybe", f"{ENRICHMENT}='maybe' is neither true nor false; using true"),
    ],
)
def test_what_is_no_good_costs_one_line(
    variable: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING):
        chosen = Choices.chosen({})
    assert chosen.enrichment
    assert chosen.attributes <= {"mcp.session.id"}
    assert [record.getMessage().startswith(line) for record in caplog.records] == [True]


def test_an_option_comes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ATTRIBUTES, "mcp.session.id")
    monkeypatch.setenv(ENRICHMENT, "true")
    chosen = Choices.chosen({"span_attributes": "mcp.resource.uri", "span_enrichment": False})
    assert chosen == Choices(frozenset({"mcp.resource.uri"}), False)


class Foreign(trace.TracerProvider):
    """Another vendor's provider."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return trace.NoOpTracer()


def with_exporter() -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return provider


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        (None, False),
        (trace.NoOpTracerProvider(), False),
        (TracerProvider(shutdown_on_exit=False), False),
        (with_exporter(), True),
        (Foreign(), True),
    ],
)
def test_spans_are_made_where_somebody_wants_them(provider: Any, wanted: bool) -> None:
    installation = Installation(Recorder(), {"tracer_provider": provider})
    assert (installation.spans.operations() is not None) == wanted
    installation.end()


def test_an_exporter_that_comes_later_is_found_once() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    installation = Installation(Recorder(), {"tracer_provider": provider})
    assert installation.spans.operations() is None
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    found = installation.spans.operations()
    assert found is not None
    assert installation.spans.operations() is found
    installation.end()


def test_nothing_begins_after_the_end() -> None:
    installation = Installation(Recorder(), {"tracer_provider": with_exporter()})
    installation.end()
    assert installation.spans.operations() is None
