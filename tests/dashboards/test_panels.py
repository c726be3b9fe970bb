"""What the panels' queries answer where a process is not scraped but sends its metrics by OTLP, and of whom."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards.asking import FILES, filled, panels_of, queries, variables
from opentelemetry_instrumentation_mcp.dashboards import shipped
from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label

from .promtool import promtool
from .scenarios import SERVICE_INSTANCE, SERVICE_NAME, Series, labelled, series

yaml: Any = pytest.importorskip("yaml")

QUERIES: Final = queries()
ONLY_SCRAPED: Final = {"Uptime"}
PUSHED: Final = {"job": SERVICE_NAME, "instance": SERVICE_INSTANCE}

# A dashboard needs these to have something to show; all else is any value.
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    c.ROLE: ("server", "client"),
    c.DIRECTION: ("inbound", "outbound"),
    c.STATUS: ("ok", "tool_error", "server_error", "peer_lost"),
    c.PROTOCOL_VERSION: ("2025-11-25", "2026-07-28"),
    c.ACTION: ("continue", "reject"),
}


def _series_of(metric: Metric, values: str) -> Iterator[tuple[str, str]]:
    """Each with the same values, as Prometheus names them where they come by OTLP."""
    each = [VALUES.get(attribute, ("any",)) for attribute in metric.attributes]
    for chosen in itertools.product(*each):
        labels = dict(zip(map(prometheus_label, metric.attributes), chosen, strict=True)) | PUSHED
        if metric.instrument is not Instrument.HISTOGRAM:
            yield series(metric, **labels), values
            continue
        for le in ("1", "5", "+Inf"):
            yield series(metric, "bucket", **labels, le=le), values
        for part in ("sum", "count"):
            yield series(metric, part, **labels), values


def _world(values: str) -> Series:
    """Every series of a process that is there all the time."""
    recorded = {
        labelled(f"mcp:request_failures:ratio{window}", **PUSHED, mcp_role=role, mcp_direction=direction): "0.5x60"
        for window in ("1h", "6h", "3d")
        for role, direction in (("server", "inbound"), ("client", "outbound"))
    }
    counted = (pair for metric in CATALOGUE if metric is not c.MEMORY_USAGE for pair in _series_of(metric, values))
    return {**dict(counted), **recorded, series(c.MEMORY_USAGE, **PUSHED): "50e6x60"}


def _asked(file: str) -> Iterator[tuple[str, str]]:
    """Each panel's queries, as Grafana asks them."""
    for query in QUERIES:
        if query.dashboard in file and query.panel not in ONLY_SCRAPED:
            yield query.panel, filled(query.expression, variables(file), seconds=3600, rate_interval=300)


def _answers(directory: Path, world: Series, at: str, expected: Mapping[str, float]) -> None:
    """What promtool says to expressions that have one value each."""
    tests = [
        {"expr": expression, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
        for expression, value in expected.items()
    ]
    given = [{"series": name, "values": values} for name, values in world.items()]
    content = {"tests": [{"interval": "60s", "input_series": given, "promql_expr_test": tests}]}
    (directory / "test.yml").write_text(json.dumps(content))
    tested = promtool("test", "rules", "test.yml", directory=directory)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "SUCCESS" in tested.stdout


@pytest.mark.parametrize("file", FILES)
def test_every_query_has_an_answer_by_otlp(file: str, tmp_path: Path) -> None:
    expected = {f"count({expression}) > bool 0": 1.0 for _, expression in _asked(file)}
    assert len(expected) > 50
    _answers(tmp_path, _world("0+1x60"), "50m", expected)


@pytest.mark.parametrize("file", FILES)
def test_rare_events_count_from_the_first_by_otlp(file: str, tmp_path: Path) -> None:
    rare = [expression for _, expression in _asked(file) if "unless resets" in expression]
    assert len(rare) > 20
    _answers(tmp_path, _world("_x20 2x40"), "22m", {f"count(({each}) > 0) > bool 0": 1.0 for each in rare})


@pytest.mark.parametrize("file", FILES)
def test_what_is_only_known_of_a_scrape_says_so(file: str) -> None:
    panels = {panel["title"]: panel for panel in panels_of(json.loads(shipped()[file]))}
    for title in ("Processes", *ONLY_SCRAPED):
        assert "OTLP" in panels[title]["description"]


@pytest.mark.parametrize("file", FILES)
def test_processes_are_ours_and_those_with_workers_count_once(file: str, tmp_path: Path) -> None:
    other = {"job": "node", "instance": "localhost:9100"}
    gone = {"instance": "localhost:9465"}
    world = {
        labelled("up"): "1x60",
        labelled("up", **other): "1x60",
        labelled("up", job="node", instance="localhost:9101"): "0x60",
        labelled("up", **gone): "1x30 0x30",
        series(c.MEMORY_USAGE, **gone): "50e6x30",
        **{series(c.MEMORY_USAGE, worker=str(each)): "50e6x60" for each in range(4)},
        series(c.MEMORY_USAGE, **PUSHED): "50e6x60",
    }
    up, down = (expression for panel, expression in _asked(file) if panel == "Processes")
    _answers(tmp_path, world, "50m", {up: 2, down: 1})


def test_processes_that_are_missing_are_counted_without_their_workers(tmp_path: Path) -> None:
    [expression] = [
        rule["expr"]
        for group in yaml.safe_load(shipped()["prometheus/mcp-alerts.rules.yml"])["groups"]
        for rule in group["rules"]
        if rule["alert"] == "MCPTargetsMissing"
    ]
    world = {series(c.MEMORY_USAGE, worker=str(each)): "50e6x30" for each in range(4)}
    _answers(tmp_path, world, "50m", {f"sum({expression})": 1})
