from __future__ import annotations

import pytest

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric, Source

_EACH = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)

_ATTRIBUTES = frozenset(
    {
        "mcp.role",
        "mcp.transport",
        "mcp.session.mode",
        "mcp.server.name",
        "mcp.direction",
        "mcp.method.name",
        "gen_ai.tool.name",
        "gen_ai.prompt.name",
        "mcp.protocol.version",
        "status",
        "reason",
        "error.type",
        "rpc.response.status_code",
        "gen_ai.operation.name",
        "network.transport",
        "network.protocol.name",
        "server.address",
        "server.port",
    }
)
"""Everything an attribute may be called; a key that is not here needs a thought about who chooses its values."""

_COUNTED = frozenset({"{connection}", "{session}", "{request}", "{notification}"})


def test_names_are_unique() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)


def test_numbers_of_the_specification_are_unique_and_in_order() -> None:
    numbers = [metric.number for metric in CATALOGUE if metric.source is Source.SPECIFICATION]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(range(1, 24))


def test_only_the_specification_has_numbers() -> None:
    assert {metric.number for metric in CATALOGUE if metric.source is not Source.SPECIFICATION} == {0}


def test_every_row_of_the_module_is_in_the_catalogue() -> None:
    rows = [value for value in vars(catalogue).values() if isinstance(value, Metric)]
    assert sorted(row.name for row in rows) == sorted(metric.name for metric in CATALOGUE)


@_EACH
def test_a_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.name.startswith("mcp.")
    assert metric.description.endswith(".")


@_EACH
def test_attributes_are_known_and_named_once(metric: Metric) -> None:
    assert set(metric.attributes) <= _ATTRIBUTES
    assert len(set(metric.attributes)) == len(metric.attributes)


@_EACH
def test_histograms_have_ascending_float_buckets_and_nothing_else_has_any(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.instrument is Instrument.HISTOGRAM)
    # An integer among them would show as le="5" beside le="5.0": another series to Prometheus.
    assert all(type(bound) is float for bound in metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@_EACH
def test_units_are_seconds_bytes_or_what_is_counted(metric: Metric) -> None:
    if metric.instrument is Instrument.HISTOGRAM:
        assert metric.unit == "s"
        assert metric.name.endswith(".duration")
    elif metric.instrument is Instrument.OBSERVABLE_UP_DOWN_COUNTER:
        assert metric.unit == "By"
    else:
        assert metric.unit in _COUNTED


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (catalogue.CONNECTIONS_TOTAL, catalogue.CONNECTIONS_ACTIVE),
        (catalogue.SESSIONS_CREATED, catalogue.SESSIONS_ACTIVE),
    ],
    ids=["connections", "sessions"],
)
def test_what_is_open_can_be_compared_with_what_was_opened(up: Metric, down: Metric) -> None:
    assert up.attributes == down.attributes


def test_the_conventions_histograms_have_the_conventions_buckets() -> None:
    buckets = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    rows = [metric for metric in CATALOGUE if metric.source is Source.SEMANTIC_CONVENTIONS]
    assert [row.buckets for row in rows] == [buckets] * 4


def test_request_durations_do_not_tell_error_types() -> None:
    assert set(catalogue.REQUESTS_TOTAL.attributes) - set(catalogue.REQUEST_DURATION.attributes) == {"error.type"}
