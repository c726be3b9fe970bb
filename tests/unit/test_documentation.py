from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

from opentelemetry_instrumentation_mcp import environment_variables
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric
from opentelemetry_instrumentation_mcp.metrics.instruments import Instruments
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.outcome import End
from opentelemetry_instrumentation_mcp.metrics.recorder import Transport

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "metrics.md").read_text(encoding="utf-8")
_SCRIPT = runpy.run_path(str(_DOCS / "generate_metrics.py"))

# The names dashboards and alerts are built on. A change here breaks somebody's.
_PROMETHEUS_NAMES = {
    "mcp.connections.total": "mcp_connections_total",
    "mcp.connections.active": "mcp_connections_active",
    "mcp.connection.duration": "mcp_connection_duration_seconds",
    "mcp.sessions.created": "mcp_sessions_created_total",
    "mcp.sessions.active": "mcp_sessions_active",
    "mcp.sessions.evicted": "mcp_sessions_evicted_total",
    "mcp.session.duration": "mcp_session_duration_seconds",
    "mcp.requests.total": "mcp_requests_total",
    "mcp.request.duration": "mcp_request_duration_seconds",
    "mcp.memory.usage": "mcp_memory_usage_bytes",
    "mcp.server.operation.duration": "mcp_server_operation_duration_seconds",
    "mcp.client.operation.duration": "mcp_client_operation_duration_seconds",
    "mcp.server.session.duration": "mcp_server_session_duration_seconds",
    "mcp.client.session.duration": "mcp_client_session_duration_seconds",
    "mcp.requests.active": "mcp_requests_active",
    "mcp.notifications.total": "mcp_notifications_total",
}


def _section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", _PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/metrics.md has no section {title!r}"
    return found[1]


def _documented(metric: Metric) -> str:
    return cast("Callable[[Metric], str]", _SCRIPT["prometheus_name"])(metric)


def test_the_generated_parts_of_the_page_are_up_to_date() -> None:
    updated = cast("Callable[[str], str]", _SCRIPT["updated"])
    assert updated(_PAGE) == _PAGE, "docs/metrics.md is out of date: run `python docs/generate_metrics.py`"


@pytest.mark.parametrize("part", ["metrics", "values", "buckets"])
def test_a_page_without_a_place_for_a_generated_part_is_refused(part: str) -> None:
    updated = cast("Callable[[str], str]", _SCRIPT["updated"])
    with pytest.raises(ValueError, match=part):
        updated(_PAGE.replace(f"<!-- end {part} -->", ""))


def test_the_documented_prometheus_names_are_the_ones_that_were_promised() -> None:
    assert {metric.name: _documented(metric) for metric in CATALOGUE} == _PROMETHEUS_NAMES


def test_the_documented_prometheus_names_are_those_of_the_exporter() -> None:
    provider = MeterProvider([PrometheusMetricReader()])
    meter = provider.get_meter("documentation")
    instruments = Instruments(meter, 10)
    for metric in CATALOGUE:
        if metric.instrument is Instrument.OBSERVABLE_UP_DOWN_COUNTER:
            meter.create_up_down_counter(metric.name, metric.unit).add(1)
        else:
            instruments.sink(metric, {}).take([1])
    # Families of counters are kept without the suffix that their samples have.
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in REGISTRY.collect()
        if any(sample.labels.get("otel_scope_name") == "documentation" for sample in family.samples)
    }
    provider.shutdown()
    assert exported == {_documented(metric) for metric in CATALOGUE}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_the_page_says_what_moves_each_metric(metric: Metric) -> None:
    assert f"\n- `{metric.name}`: " in _section("What moves them")


def test_the_page_speaks_of_no_metric_that_is_not_there() -> None:
    mentioned = set(re.findall(r"^- `(mcp\.[a-z_.]+)`: ", _section("What moves them"), re.MULTILINE))
    assert mentioned == {metric.name for metric in CATALOGUE}


@pytest.mark.parametrize("attribute", sorted({key for metric in CATALOGUE for key in metric.attributes}))
def test_the_page_explains_each_attribute(attribute: str) -> None:
    assert re.search(rf"^\|[^|]*`{re.escape(attribute)}`[^|]*\|", _section("Attributes"), re.MULTILINE)


@pytest.mark.parametrize("end", [end.value for end in End])
def test_the_page_explains_each_end_of_a_connection(end: str) -> None:
    assert f"\n| `{end}` | " in _section("How a connection ended")


@pytest.mark.parametrize(
    "status", ["ok", "tool_error", "client_error", "server_error", "cancelled", "timeout", "connection_lost"]
)
def test_the_page_explains_each_end_of_a_request(status: str) -> None:
    assert f"\n| `{status}` | " in _section("How a request ended")


@pytest.mark.parametrize("transport", [transport.value for transport in Transport])
def test_the_page_names_each_transport(transport: str) -> None:
    (row,) = re.findall(r"^\| `mcp\.transport` \|.*$", _section("Attributes"), re.MULTILINE)
    assert f"`{transport}`" in row


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("attribute sets of one metric", Limits.attribute_sets),
        ("names of tools and prompts together", Limits.names),
        ("values of `mcp.server.name`", Limits.servers),
        ("methods that are not the protocol's", Limits.methods),
        ("class names of exceptions", Limits.exceptions),
        ("servers in `server.address` with `server.port`", Limits.addresses),
    ],
)
def test_the_page_states_each_limit(what: str, limit: int) -> None:
    assert f"\n| {what} | {limit} | " in _section("Bounds")


@pytest.mark.parametrize(
    "variable",
    [
        environment_variables.OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS,
        environment_variables.OTEL_INSTRUMENTATION_MCP_MAX_NAMES,
    ],
)
def test_the_page_names_each_variable(variable: str) -> None:
    assert f"`{variable}`" in _section("Bounds")


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", _PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", _PAGE)) <= anchors
