from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Instrument, Metric
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER, Attributes
from opentelemetry_instrumentation_mcp.metrics.store.attribute_sets import AttributeSets
from opentelemetry_instrumentation_mcp.metrics.store.instruments import Instruments

from ..points import Points

_SYNCHRONOUS = [metric for metric in CATALOGUE if metric.instrument is not Instrument.OBSERVABLE_UP_DOWN_COUNTER]


def _key(attributes: Attributes) -> tuple[tuple[str, str | int], ...]:
    return tuple(sorted(attributes.items()))


def _call(tool: str, error: str | None = None, **more: str) -> dict[str, str | int | None]:
    return {catalogue.METHOD: "tools/call", catalogue.TOOL: tool, catalogue.ERROR_TYPE: error, **more}


def _fill(bound: AttributeSets, count: int) -> list[Attributes]:
    return [bound.admit(_call(f"t{number}")) for number in range(count)]


def test_a_set_keeps_the_keys_of_its_metric_that_have_a_value() -> None:
    bound = AttributeSets(catalogue.CONNECTIONS_TOTAL, 100)
    values = {catalogue.ROLE: "server", catalogue.TRANSPORT: None, catalogue.TOOL: "t", "session.id": "secret"}
    assert bound.admit(values) == {catalogue.ROLE: "server"}


def test_a_number_stays_a_number() -> None:
    bound = AttributeSets(catalogue.CLIENT_SESSION_DURATION, 100)
    assert bound.admit({catalogue.SERVER_PORT: 8000}) == {catalogue.SERVER_PORT: 8000}


def test_sets_are_admitted_as_they_are_until_the_last_tenth() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    assert [attributes[catalogue.TOOL] for attributes in _fill(bound, 90)] == [f"t{number}" for number in range(90)]


def test_past_that_a_tool_name_is_folded_first_and_the_error_type_kept() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    _fill(bound, 90)
    assert bound.admit(_call("new", "-32603")) == {
        catalogue.METHOD: "tools/call",
        catalogue.TOOL: OTHER,
        catalogue.ERROR_TYPE: "-32603",
    }


def test_a_prompt_name_is_folded_like_a_tool_name() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    _fill(bound, 90)
    values = {catalogue.METHOD: "prompts/get", catalogue.PROMPT: "p"}
    assert bound.admit(values) == {catalogue.METHOD: "prompts/get", catalogue.PROMPT: OTHER}


def test_the_error_type_is_folded_second() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    both_folded = bound.admit(_call(OTHER, OTHER))
    _fill(bound, 89)
    folded = [bound.admit(_call("new", str(code))) for code in range(9)]
    assert [attributes[catalogue.ERROR_TYPE] for attributes in folded] == [str(code) for code in range(9)]
    assert bound.admit(_call("new", "9")) == both_folded


def test_where_there_is_no_name_the_error_type_is_folded_first() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    _fill(bound, 90)
    assert bound.admit({catalogue.METHOD: "ping", catalogue.ERROR_TYPE: "-32603"}) == {
        catalogue.METHOD: "ping",
        catalogue.ERROR_TYPE: OTHER,
    }


def test_the_json_rpc_code_of_the_conventions_is_folded_with_the_error_type() -> None:
    bound = AttributeSets(catalogue.SERVER_OPERATION_DURATION, 100)
    _fill(bound, 90)
    values = {catalogue.METHOD: "ping", catalogue.ERROR_TYPE: "0", catalogue.RPC_STATUS_CODE: "0"}
    assert bound.admit(values) == {
        catalogue.METHOD: "ping",
        catalogue.ERROR_TYPE: OTHER,
        catalogue.RPC_STATUS_CODE: OTHER,
    }


def test_in_the_end_every_value_is_folded() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    _fill(bound, 90)
    for code in range(9):
        bound.admit(_call("new", str(code)))
    assert bound.admit(_call("new", "9")) == dict.fromkeys(catalogue.REQUESTS_TOTAL.attributes, OTHER)


def test_a_set_without_anything_to_fold_one_by_one_is_folded_whole() -> None:
    bound = AttributeSets(catalogue.CONNECTIONS_TOTAL, 10)
    for number in range(9):
        bound.admit({catalogue.ROLE: f"r{number}"})
    assert bound.admit({catalogue.ROLE: "new"}) == dict.fromkeys(catalogue.CONNECTIONS_TOTAL.attributes, OTHER)


def test_admitted_sets_stay_whatever_comes_after_them() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 100)
    early = _fill(bound, 90)
    folded = bound.admit(_call("new", "-32603"))
    for number in range(1000):
        bound.admit(_call(f"late{number}", str(number)))
    assert _fill(bound, 90) == early
    assert bound.admit(_call("newer", "-32603")) == folded


def test_what_is_admitted_does_not_depend_on_what_the_caller_does_with_it() -> None:
    bound = AttributeSets(catalogue.REQUESTS_TOTAL, 2)
    bound.admit(_call("a")).clear()
    assert bound.admit(_call("a"))[catalogue.TOOL] == "a"


@pytest.mark.parametrize("limit", [0, 1, 2, 9, 10, 100, 1000])
@pytest.mark.parametrize(
    "metric", [catalogue.REQUESTS_TOTAL, catalogue.CLIENT_OPERATION_DURATION], ids=lambda m: m.name
)
def test_there_are_never_more_sets_than_the_limit_whatever_comes(metric: Metric, limit: int) -> None:
    bound = AttributeSets(metric, limit)
    chance = random.Random(limit)
    seen: set[tuple[tuple[str, str | int], ...]] = set()
    for _ in range(4000):
        values: dict[str, str | int | None] = {key: chance.choice((None, "a", "b", "c")) for key in metric.attributes}
        values[catalogue.TOOL] = f"t{chance.randrange(300)}"
        seen.add(_key(bound.admit(values)))
    assert len(seen) == max(limit, 1)


@pytest.fixture
def instruments(provider: MeterProvider) -> Iterator[Instruments]:
    yield Instruments(provider.get_meter("instruments"), 10)


@pytest.mark.parametrize("metric", [metric for metric in _SYNCHRONOUS], ids=lambda metric: metric.name)
def test_no_instrument_shows_more_points_than_the_limit_and_none_of_its_values_is_lost(
    instruments: Instruments, collect: Callable[[], Points], metric: Metric
) -> None:
    for number in range(100):
        instruments.sink(metric, {key: f"v{number}" for key in metric.attributes}).take([1])
    points = collect().select(metric.name)
    assert len(points) == 10
    assert sum(point.value for point in points) == 100


def test_each_instrument_has_a_bound_of_its_own(instruments: Instruments, collect: Callable[[], Points]) -> None:
    for number in range(100):
        instruments.sink(catalogue.REQUESTS_TOTAL, _call(f"t{number}")).take([1])
    instruments.sink(catalogue.REQUEST_DURATION, _call("t99")).take([1])
    assert collect().sum("mcp.request.duration", {catalogue.TOOL: "t99"}) == 1


def test_the_overflow_series_of_the_sdk_never_appears(provider: MeterProvider, collect: Callable[[], Points]) -> None:
    instruments = Instruments(provider.get_meter("instruments"), 1900)
    for number in range(2500):
        instruments.sink(catalogue.REQUESTS_TOTAL, _call(f"t{number}", str(number))).take([1])
    points = collect().all
    assert len(points) <= 1900
    assert not any("otel.metric.overflow" in point.attributes for point in points)


@pytest.mark.parametrize(
    "metric", [metric for metric in _SYNCHRONOUS if metric.buckets], ids=lambda metric: metric.name
)
def test_a_histogram_has_the_buckets_of_its_row(
    instruments: Instruments, collect: Callable[[], Points], metric: Metric
) -> None:
    instruments.sink(metric, {}).take([0.3])
    (point,) = collect().select(metric.name)
    assert point.bounds == list(metric.buckets)


@pytest.mark.parametrize("metric", _SYNCHRONOUS, ids=lambda metric: metric.name)
def test_an_instrument_has_the_unit_and_description_of_its_row(
    instruments: Instruments, reader: InMemoryMetricReader, metric: Metric
) -> None:
    instruments.sink(metric, {}).take([1])
    data = reader.get_metrics_data()
    assert data is not None
    (made,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (made.name, made.unit, made.description) == (metric.name, metric.unit, metric.description)


def test_a_counter_counts_values_and_an_updowncounter_adds_them(
    instruments: Instruments, collect: Callable[[], Points]
) -> None:
    instruments.sink(catalogue.REQUESTS_TOTAL, {}).take([0.25, 0.5])
    instruments.sink(catalogue.REQUESTS_ACTIVE, {}).take([1, 1, -1])
    instruments.sink(catalogue.REQUEST_DURATION, {}).take([0.25, 0.5])
    points = collect()
    assert points.sum("mcp.requests.total") == 2
    assert points.sum("mcp.requests.active") == 1
    assert points.select("mcp.request.duration")[0].total == 0.75
