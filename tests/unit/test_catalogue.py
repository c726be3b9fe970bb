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
        "kind",
        "interceptor",
        "phase",
        "action",
        "pool",
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

_COUNTED = frozenset(
    {
        "{action}",
        "{check}",
        "{connection}",
        "{error}",
        "{notification}",
        "{request}",
        "{session}",
        "{task}",
    }
)

_SIZES = ("mcp.request.size", "mcp.response.size")


def test_names_are_unique() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)


def test_every_metric_of_the_specification_is_there_once_and_in_order() -> None:
    numbers = [metric.number for metric in CATALOGUE if metric.source is Source.SPECIFICATION]
    assert numbers == list(range(1, 24))


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
    if metric.name in _SIZES:
        assert metric.unit == "By"
    elif metric.instrument is Instrument.HISTOGRAM:
        assert metric.unit == "s"
        assert metric.name.endswith(".duration")
    elif metric is catalogue.MEMORY_USAGE:
        assert metric.unit == "By"
    else:
        assert metric.unit in _COUNTED


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (catalogue.CONNECTIONS_TOTAL, catalogue.CONNECTIONS_ACTIVE),
        (catalogue.SESSIONS_CREATED, catalogue.SESSIONS_ACTIVE),
        (catalogue.POOL_CREATED, catalogue.POOL_IDLE),
    ],
    ids=["connections", "sessions", "pools"],
)
def test_what_is_open_can_be_compared_with_what_was_opened(up: Metric, down: Metric) -> None:
    assert up.attributes == down.attributes


def test_the_conventions_histograms_have_the_conventions_buckets() -> None:
    buckets = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    rows = [metric for metric in CATALOGUE if metric.source is Source.SEMANTIC_CONVENTIONS]
    assert [row.buckets for row in rows] == [buckets] * 4


def test_request_durations_do_not_tell_error_types() -> None:
    assert set(catalogue.REQUESTS_TOTAL.attributes) - set(catalogue.REQUEST_DURATION.attributes) == {"error.type"}


def test_sizes_are_told_apart_as_requests_are_but_not_by_how_they_ended() -> None:
    for size in (catalogue.REQUEST_SIZE, catalogue.RESPONSE_SIZE):
        assert (*size.attributes, "status") == catalogue.REQUEST_DURATION.attributes


def test_sizes_have_the_same_buckets_from_64_bytes_to_16_mib_in_powers_of_four() -> None:
    for size in (catalogue.REQUEST_SIZE, catalogue.RESPONSE_SIZE):
        assert size.buckets == tuple(float(4**power) for power in range(3, 13))


@pytest.mark.parametrize("metric", [catalogue.INTERCEPTOR_DURATION, catalogue.POOL_WAIT_DURATION], ids=["own", "wait"])
def test_a_part_of_a_request_can_be_compared_with_the_whole(metric: Metric) -> None:
    assert metric.buckets == catalogue.REQUEST_DURATION.buckets


def test_what_is_said_about_interceptors_and_pools_does_not_multiply_by_who_asked() -> None:
    rows = [metric for metric in CATALOGUE if metric.name.startswith(("mcp.interceptor.", "mcp.pool."))]
    assert len(rows) == 7
    assert {key for row in rows for key in row.attributes} == {"interceptor", "phase", "action", "error.type", "pool"}
