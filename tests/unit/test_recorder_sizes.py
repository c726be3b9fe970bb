"""Bytes of requests and responses, under the names their requests end with."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.outcome import (
    CANCELLED,
    CONNECTION_LOST,
    OK,
    TIMEOUT,
    TOOL_ERROR,
    Outcome,
    error_reply,
)
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection, Request
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Direction, Role, Transport

from ..points import DIRECTION, METHOD, PROMPT, ROLE, TOOL, TRANSPORT
from .recording import INBOUND, OUTBOUND, SERVER_NAME, Collect, Registry, begin, connect, one

pytestmark = pytest.mark.usefixtures("nothing_is_swallowed")

_REQUEST = "mcp.request.size"
_RESPONSE = "mcp.response.size"


def _call(connection: Connection, tool: str, direction: Direction = INBOUND) -> Request:
    return begin(connection, direction, "tools/call", {"name": tool})


def test_sizes_wait_for_the_end_of_the_request(recorder: Recorder, collect: Collect) -> None:
    request = _call(connect(recorder, registry=Registry(tools=["add"])), "add")
    request.measured(120, response=False)
    request.measured(80, response=True)
    points = collect()
    assert not points.select(_REQUEST)
    assert not points.select(_RESPONSE)
    request.end(OK)
    points = collect()
    assert (one(points, _REQUEST).value, one(points, _REQUEST).total) == (1, 120)
    assert (one(points, _RESPONSE).value, one(points, _RESPONSE).total) == (1, 80)


def test_sizes_say_which_request_it_was_but_not_how_it_ended(recorder: Recorder, collect: Collect) -> None:
    connection = connect(recorder, Role.SERVER, server_name="server", registry=Registry(tools=["add"]))
    request = _call(connection, "add")
    request.measured(120, response=False)
    request.measured(80, response=True)
    request.end(TOOL_ERROR)
    points = collect()
    for metric in (_REQUEST, _RESPONSE):
        assert one(points, metric).attributes == {
            ROLE: "server",
            DIRECTION: "inbound",
            TRANSPORT: "stdio",
            SERVER_NAME: "server",
            METHOD: "tools/call",
            TOOL: "add",
        }


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("direction", Direction)
def test_a_response_belongs_to_the_direction_of_its_request(
    recorder: Recorder, collect: Collect, role: Role, direction: Direction
) -> None:
    request = begin(connect(recorder, role), direction, "ping")
    request.measured(40, response=False)
    request.measured(36, response=True)
    request.end(OK)
    points = collect()
    for metric in (_REQUEST, _RESPONSE):
        assert one(points, metric).attributes[DIRECTION] == direction.value


def test_a_second_measure_is_a_replay(recorder: Recorder, collect: Collect) -> None:
    request = begin(connect(recorder), INBOUND, "ping")
    for size in (40, 41):
        request.measured(size, response=False)
    for size in (36, 37):
        request.measured(size, response=True)
    request.end(OK)
    for response in (False, True):
        request.measured(99, response=response)
    points = collect()
    assert (one(points, _REQUEST).value, one(points, _REQUEST).total) == (1, 40)
    assert (one(points, _RESPONSE).value, one(points, _RESPONSE).total) == (1, 36)


def test_a_response_that_is_written_after_the_end_still_has_the_name_of_its_tool(
    recorder: Recorder, collect: Collect
) -> None:
    request = _call(connect(recorder, registry=Registry(tools=["add"])), "add")
    request.measured(120, response=False)
    request.end(OK)
    assert not collect().select(_RESPONSE)
    for size in (80, 80):
        request.measured(size, response=True)
    points = collect()
    response = one(points, _RESPONSE)
    assert (response.value, response.total) == (1, 80)
    assert response.attributes == one(points, _REQUEST).attributes
    assert response.attributes[TOOL] == "add"


def test_a_late_response_has_the_name_the_request_ended_with_though_it_is_known_by_now(
    recorder: Recorder, collect: Collect
) -> None:
    connection = connect(recorder, Role.CLIENT)
    request = _call(connection, "add", OUTBOUND)
    request.measured(120, response=False)
    request.end(TOOL_ERROR)
    connection.listed(OUTBOUND, "tools/list", {"tools": [{"name": "add"}]})
    request.measured(80, response=True)
    points = collect()
    assert one(points, _REQUEST).attributes[TOOL] == OTHER
    assert one(points, _RESPONSE).attributes[TOOL] == OTHER


def test_a_prompt_has_its_name_too(recorder: Recorder, collect: Collect) -> None:
    connection = connect(recorder, registry=Registry(prompts=["greet"]))
    request = begin(connection, INBOUND, "prompts/get", {"name": "greet"})
    request.measured(90, response=False)
    request.end(OK)
    assert one(collect(), _REQUEST).attributes[PROMPT] == "greet"


@pytest.mark.parametrize("outcome", [CANCELLED, TIMEOUT, CONNECTION_LOST], ids=repr)
def test_a_request_that_nobody_answered_has_a_size_and_no_response(
    recorder: Recorder, collect: Collect, outcome: Outcome
) -> None:
    request = begin(connect(recorder, Role.CLIENT), OUTBOUND, "tools/list")
    request.measured(64, response=False)
    request.end(outcome)
    points = collect()
    assert one(points, _REQUEST).total == 64
    assert not points.select(_RESPONSE)


@pytest.mark.parametrize("outcome", [error_reply(-32602), error_reply(-32603), TOOL_ERROR], ids=repr)
def test_an_error_reply_has_a_size_like_any_other(recorder: Recorder, collect: Collect, outcome: Outcome) -> None:
    request = begin(connect(recorder), INBOUND, "tools/call", {"name": "add"})
    request.measured(70, response=True)
    request.end(outcome)
    points = collect()
    assert one(points, _RESPONSE).total == 70
    assert not points.select(_REQUEST)


def test_what_was_not_measured_has_no_point(recorder: Recorder, collect: Collect) -> None:
    connection = connect(recorder, transport=Transport.IN_MEMORY)
    begin(connection, INBOUND, "ping").end(OK)
    connection.notified(INBOUND, "notifications/progress")
    points = collect()
    assert not points.select(_REQUEST)
    assert not points.select(_RESPONSE)


def test_nothing_is_a_size_too(recorder: Recorder, collect: Collect) -> None:
    request = begin(connect(recorder), INBOUND, "ping")
    for size in (0, 10):
        request.measured(size, response=True)
    request.end(OK)
    response = one(collect(), _RESPONSE)
    assert (response.value, response.total) == (1, 0)


def test_an_abandoned_request_has_no_size(recorder: Recorder, collect: Collect) -> None:
    request = begin(connect(recorder, Role.CLIENT), OUTBOUND, "ping")
    request.measured(40, response=False)
    request.abandon()
    assert not collect().select(_REQUEST)


def test_an_open_ended_request_is_measured_though_it_is_not_timed(recorder: Recorder, collect: Collect) -> None:
    request = begin(connect(recorder), INBOUND, "subscriptions/listen")
    request.measured(300, response=False)
    request.end(CANCELLED)
    points = collect()
    assert one(points, _REQUEST).attributes[METHOD] == "subscriptions/listen"
    assert not points.select("mcp.request.duration")


def test_sizes_fall_into_the_buckets_of_the_catalogue(recorder: Recorder, collect: Collect) -> None:
    connection = connect(recorder)
    for size in (64, 65, 256, 20_000_000):
        request = begin(connection, INBOUND, "ping")
        request.measured(size, response=False)
        request.end(OK)
    point = one(collect(), _REQUEST)
    assert tuple(point.bounds) == catalogue.SIZE_BYTES
    assert point.buckets == [1, 2, *[0] * (len(catalogue.SIZE_BYTES) - 2), 1]


def test_sizes_are_bounded_and_none_is_lost(provider: MeterProvider, collect: Collect) -> None:
    recorder = Recorder(provider, Limits(attribute_sets=10))
    tools = [f"t{number}" for number in range(50)]
    connection = connect(recorder, registry=Registry(tools=tools))
    for name in tools:
        request = _call(connection, name)
        request.measured(100, response=False)
        request.measured(10, response=True)
        request.end(OK)
    points = collect()
    recorder.retire()
    for metric, total in ((_REQUEST, 5_000), (_RESPONSE, 500)):
        shown = points.select(metric)
        assert len(shown) <= 10
        assert (sum(point.value for point in shown), sum(point.total for point in shown)) == (50, total)
