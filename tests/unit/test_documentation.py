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

from opentelemetry_instrumentation_mcp.core import environment_variables
from opentelemetry_instrumentation_mcp.distro.siblings import ANSWER_SECONDS
from opentelemetry_instrumentation_mcp.distro.workers import MOST_WORKERS
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_name
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.outcome import End
from opentelemetry_instrumentation_mcp.metrics.store.instruments import Instruments
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Action, Death, Heartbeat, Phase, Transport

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "metrics.md").read_text(encoding="utf-8")
_SCRIPT = runpy.run_path(str(_DOCS / "generate_metrics.py"))

# The names dashboards and alerts are built on. A change here breaks somebody's.
_PROMETHEUS_NAMES = {
    "mcp.connections.total": "mcp_connections_total",
    "mcp.connections.active": "mcp_connections_active",
    "mcp.connection.duration": "mcp_connection_duration_seconds",
    "mcp.connection.errors": "mcp_connection_errors_total",
    "mcp.sessions.created": "mcp_sessions_created_total",
    "mcp.sessions.active": "mcp_sessions_active",
    "mcp.sessions.evicted": "mcp_sessions_evicted_total",
    "mcp.session.duration": "mcp_session_duration_seconds",
    "mcp.session.heartbeat_checks": "mcp_session_heartbeat_checks_total",
    "mcp.session.dead_detected": "mcp_session_dead_detected_total",
    "mcp.requests.total": "mcp_requests_total",
    "mcp.request.duration": "mcp_request_duration_seconds",
    "mcp.request.size": "mcp_request_size_bytes",
    "mcp.response.size": "mcp_response_size_bytes",
    "mcp.interceptor.duration": "mcp_interceptor_duration_seconds",
    "mcp.interceptor.errors": "mcp_interceptor_errors_total",
    "mcp.interceptor.actions": "mcp_interceptor_actions_total",
    "mcp.pool.connections.created": "mcp_pool_connections_created_total",
    "mcp.pool.connections.reused": "mcp_pool_connections_reused_total",
    "mcp.pool.connections.idle": "mcp_pool_connections_idle",
    "mcp.pool.wait.duration": "mcp_pool_wait_duration_seconds",
    "mcp.memory.usage": "mcp_memory_usage_bytes",
    "mcp.task.spawns": "mcp_task_spawns_total",
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


def _part(name: str) -> str:
    """What stands between ``<!-- name -->`` and ``<!-- end name -->``."""
    found = re.search(rf"<!-- {name} -->(.*?)<!-- end {name} -->", _PAGE, re.DOTALL)
    assert found is not None, f"docs/metrics.md has no place marked {name!r}"
    return found[1]


def _table(title: str) -> list[list[str]]:
    """The rows of the only table of a section, the header and the line under it included."""
    lines = re.findall(r"^\| (.*) \|$", _section(title), re.MULTILINE)
    return [[buffer.strip() for buffer in line.split(" | ")] for line in lines]


def test_the_generated_parts_of_the_page_are_up_to_date() -> None:
    updated = cast("Callable[[str], str]", _SCRIPT["updated"])
    assert updated(_PAGE) == _PAGE, "docs/metrics.md is out of date: run `python docs/generate_metrics.py`"


@pytest.mark.parametrize("part", ["metrics", "releases", "values", "buckets"])
def test_a_page_without_a_place_for_a_generated_part_is_refused(part: str) -> None:
    updated = cast("Callable[[str], str]", _SCRIPT["updated"])
    with pytest.raises(ValueError, match=part):
        updated(_PAGE.replace(f"<!-- end {part} -->", ""))


def test_the_documented_prometheus_names_are_the_ones_that_were_promised() -> None:
    assert {metric.name: prometheus_name(metric) for metric in CATALOGUE} == _PROMETHEUS_NAMES


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
        if family.name.startswith("mcp_")
    }
    provider.shutdown()
    assert exported == {prometheus_name(metric) for metric in CATALOGUE}


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
    ("attribute", "value"),
    [
        *(("reason", death.value) for death in Death),
        *(("kind", kind.value) for kind in Heartbeat),
        *(("phase", phase.value) for phase in Phase),
        *(("action", action.value) for action in Action),
    ],
)
def test_the_page_names_each_value_of_a_closed_set(attribute: str, value: str) -> None:
    (row,) = re.findall(rf"^\| `{attribute}` \|.*$", _section("Attributes"), re.MULTILINE)
    assert f"`{value}`" in row


@pytest.mark.parametrize("death", [death.value for death in Death])
def test_the_page_explains_each_way_to_be_found_dead(death: str) -> None:
    assert f"\n| `{death}` | " in _section("How a peer is found dead")


@pytest.mark.parametrize("action", [action.value for action in Action])
def test_the_page_explains_each_action_of_an_interceptor(action: str) -> None:
    assert f"`{action}`: " in _part("interceptors")


@pytest.mark.parametrize("part", ["interceptors", "pool"])
def test_what_an_adapter_of_its_own_measures_has_a_marked_place_on_the_page(part: str) -> None:
    metrics = [metric.name for metric in CATALOGUE if metric.name.startswith(f"mcp.{part.rstrip('s')}.")]
    assert metrics
    assert all(f"\n- `{name}`: " in _part(part) for name in metrics)


def test_the_page_says_of_every_metric_once_where_it_exists() -> None:
    header, _, *rows = _table("Where each metric exists")
    assert header == ["metric", "1.x server", "1.x client", "2.x server", "2.x client"]
    assert all(len(row) == len(header) and all(row) for row in rows)
    named = [name for row in rows for name in re.findall(r"`(mcp\.[a-z_.]+)`", row[0])]
    assert sorted(named) == sorted(metric.name for metric in CATALOGUE)


def test_what_exists_nowhere_would_not_be_in_the_catalogue() -> None:
    _, _, *rows = _table("Where each metric exists")
    for name, *places in rows:
        assert set(places) != {"no"}, name


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("attribute sets of one metric", Limits.attribute_sets),
        ("names of tools and prompts together", Limits.names),
        ("values of `mcp.server.name`", Limits.servers),
        ("methods that are not the protocol's", Limits.methods),
        ("class names of exceptions", Limits.exceptions),
        ("servers in `server.address` with `server.port`", Limits.addresses),
        ("values of `interceptor`", Limits.interceptors),
        ("values of `pool`", Limits.pools),
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


@pytest.mark.parametrize(
    "variable", [value for name, value in vars(environment_variables).items() if name.startswith("OTEL_")]
)
def test_the_readme_names_each_variable_of_ours(variable: str) -> None:
    assert f"\n| `{variable}` | " in (_DOCS.parent / "README.md").read_text(encoding="utf-8")


def test_the_page_on_workers_states_the_bounds() -> None:
    page = " ".join((_DOCS / "workers.md").read_text(encoding="utf-8").split())
    assert f"Up to {MOST_WORKERS} workers" in page
    assert ANSWER_SECONDS == 2
    assert "holds a scrape up for two seconds" in page


def test_links_within_the_page_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", _PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", _PAGE)) <= anchors
