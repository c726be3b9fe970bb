from __future__ import annotations

import os
from collections.abc import Collection
from time import perf_counter
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View

from opentelemetry_instrumentation_mcp import __version__
from opentelemetry_instrumentation_mcp.core.environment_variables import OTEL_INSTRUMENTATION_MCP_MAX_NAMES
from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.catalogue import Instrument
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER, Target
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.outcome import (
    CANCELLED,
    CONNECTION_LOST,
    OK,
    TIMEOUT,
    TOOL_ERROR,
    End,
    Outcome,
    error_reply,
    http_error,
)
from opentelemetry_instrumentation_mcp.metrics.vocabulary import (
    Action,
    Address,
    Death,
    Direction,
    Mode,
    Role,
    Transport,
)

from ..points import DIRECTION, ERROR, METHOD, MODE, PROMPT, ROLE, STATUS, TOOL, TRANSPORT, Points
from .recording import INBOUND, OUTBOUND, SERVER_NAME, Collect, Registry, begin, call, connect, one

pytestmark = pytest.mark.usefixtures("nothing_is_swallowed")

_VERSION = "mcp.protocol.version"
_CODE = "rpc.response.status_code"
_SERVER_OPERATION = "mcp.server.operation.duration"
_CLIENT_OPERATION = "mcp.client.operation.duration"


class TestConnections:
    def test_an_open_connection_is_counted_and_active(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, Role.CLIENT, Transport.SSE)
        points = collect()
        expected = {ROLE: "client", TRANSPORT: "sse", MODE: "stateful"}
        for metric in ("mcp.connections.total", "mcp.connections.active"):
            point = one(points, metric)
            assert (point.attributes, point.value) == (expected, 1)
        assert not points.select("mcp.connection.duration")

    def test_a_closed_connection_is_counted_no_more_as_active_and_its_duration_is_known(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder)
        connection.close(End.CLOSED)
        points = collect()
        assert points.sum("mcp.connections.total") == 1
        assert points.sum("mcp.connections.active") == 0
        duration = one(points, "mcp.connection.duration")
        assert duration.attributes == {ROLE: "server", TRANSPORT: "stdio", MODE: "stateful", STATUS: "closed"}
        assert 0 < duration.total < 60
        assert connection.closed

    @pytest.mark.parametrize("end", End)
    def test_every_ending_brings_active_back_to_zero_with_the_same_attributes(
        self, recorder: Recorder, collect: Collect, end: End
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.close(end)
        points = collect()
        for metric in ("mcp.connections.active", "mcp.sessions.active"):
            assert [point.value for point in points.select(metric)] == [0]
        for metric in ("mcp.connection.duration", "mcp.session.duration"):
            assert one(points, metric).attributes[STATUS] == end.value

    def test_the_first_end_counts(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        connection.establish(None, "2025-06-18")
        connection.close(End.TERMINATED)
        connection.close(End.ERROR, "ValueError")
        points = collect()
        for metric in ("mcp.connection.duration", "mcp.session.duration"):
            assert points.by(STATUS, metric) == {"terminated": 1}
        assert points.sum("mcp.connections.active") == points.sum("mcp.sessions.active") == 0

    def test_a_crash_is_named_after_its_exception(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder).close(End.ERROR, "ValueError")
        assert one(collect(), "mcp.connection.duration").attributes[ERROR] == "ValueError"

    @pytest.mark.parametrize("end", [end for end in End if end is not End.ERROR])
    def test_only_a_crash_has_an_error_type(self, recorder: Recorder, collect: Collect, end: End) -> None:
        connect(recorder).close(end, "ValueError")
        assert ERROR not in one(collect(), "mcp.connection.duration").attributes

    def test_a_stateless_exchange_is_a_connection(self, recorder: Recorder, collect: Collect) -> None:
        for _ in range(3):
            connect(recorder, Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS).close(End.CLOSED)
        points = collect()
        assert points.by(MODE, "mcp.connections.total") == {"stateless": 3}
        assert points.sum("mcp.connections.active") == 0
        assert points.sum("mcp.connection.duration", {MODE: "stateless"}) == 3

    def test_exception_names_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(exceptions=1))
        for name in ("ValueError", "KeyError", "ValueError"):
            connect(recorder).close(End.ERROR, name)
        recorder.retire()
        assert collect().by(ERROR, "mcp.connection.duration") == {"ValueError": 2, OTHER: 1}

    def test_server_names_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(servers=1))
        for name in ("a", "b"):
            begin(connect(recorder, server_name=name), INBOUND, "ping").end(OK)
        recorder.retire()
        assert collect().by(SERVER_NAME, "mcp.requests.total") == {"a": 1, OTHER: 1}

    @pytest.mark.parametrize("name", [None, 7, ["server"]])
    def test_a_server_name_that_is_no_string_is_absent(self, recorder: Recorder, collect: Collect, name: Any) -> None:
        begin(connect(recorder, server_name=name), INBOUND, "ping").end(OK)
        assert SERVER_NAME not in one(collect(), "mcp.requests.total").attributes


class TestSessions:
    def test_a_session_is_counted_with_what_is_known_about_it(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        assert not connection.has_session
        connection.establish("server", "2025-06-18")
        assert connection.has_session
        expected = {ROLE: "client", TRANSPORT: "stdio", SERVER_NAME: "server", _VERSION: "2025-06-18"}
        points = collect()
        for metric in ("mcp.sessions.created", "mcp.sessions.active"):
            point = one(points, metric)
            assert (point.attributes, point.value) == (expected, 1)

    def test_a_session_is_counted_once_per_connection(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        connection.establish("server", "2025-06-18")
        connection.establish("another", "2024-11-05")
        connection.close(End.CLOSED)
        points = collect()
        assert points.by(_VERSION, "mcp.sessions.created") == {"2025-06-18": 1}
        assert points.by(_VERSION, "mcp.session.duration") == {"2025-06-18": 1}
        assert points.sum("mcp.sessions.active") == 0

    def test_a_stateless_exchange_never_has_a_session(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(
            recorder, Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS, session_versions=["2025-06-18"]
        )
        connection.establish("server", "2025-06-18")
        assert not connection.has_session
        connection.close(End.CLOSED)
        points = collect()
        for metric in ("mcp.sessions.created", "mcp.sessions.active", "mcp.session.duration", "mcp.sessions.evicted"):
            assert not points.select(metric)

    def test_a_closed_connection_has_no_session_any_more(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        connection.close(End.CLOSED)
        connection.establish("server", "2025-06-18")
        assert not collect().select("mcp.sessions.created")

    def test_a_connection_without_a_session_ends_without_one(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder).close(End.CLOSED)
        points = collect()
        for metric in ("mcp.session.duration", "mcp.server.session.duration", "mcp.client.session.duration"):
            assert not points.select(metric)

    def test_what_becomes_known_later_does_not_change_the_attributes_a_session_ends_with(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.identify("renamed", "2025-11-25")
        connection.close(End.CLOSED)
        points = collect()
        assert [(point.attributes[SERVER_NAME], point.value) for point in points.select("mcp.sessions.active")] == [
            ("server", 0)
        ]
        assert one(points, "mcp.session.duration").attributes[SERVER_NAME] == "server"

    def test_an_unpublished_revision_has_no_name(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        connection.establish("server", "1999-01-01")
        assert connection.protocol_version == OTHER
        assert collect().by(_VERSION, "mcp.sessions.created") == {OTHER: 1}

    def test_an_eviction_is_counted_as_one(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
        connection.establish("server", "2025-06-18")
        connection.close(End.EVICTED)
        point = one(collect(), "mcp.sessions.evicted")
        assert (point.attributes, point.value) == ({TRANSPORT: "streamable_http", "reason": "idle_timeout"}, 1)

    @pytest.mark.parametrize("end", [end for end in End if end is not End.EVICTED])
    def test_no_other_end_is_an_eviction(self, recorder: Recorder, collect: Collect, end: End) -> None:
        connection = connect(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
        connection.establish("server", "2025-06-18")
        connection.close(end)
        assert collect().sum("mcp.sessions.evicted") == 0

    @pytest.mark.parametrize(
        ("role", "metric", "absent"),
        [
            (Role.SERVER, "mcp.server.session.duration", "mcp.client.session.duration"),
            (Role.CLIENT, "mcp.client.session.duration", "mcp.server.session.duration"),
        ],
    )
    def test_the_conventions_have_a_histogram_for_either_side(
        self, recorder: Recorder, collect: Collect, role: Role, metric: str, absent: str
    ) -> None:
        connection = connect(recorder, role, Transport.STREAMABLE_HTTP)
        connection.establish("server", "2025-06-18")
        connection.close(End.CLOSED)
        points = collect()
        point = one(points, metric)
        assert point.value == 1
        assert point.attributes == {
            _VERSION: "2025-06-18",
            "network.transport": "tcp",
            "network.protocol.name": "http",
        }
        assert not points.select(absent)

    @pytest.mark.parametrize(
        ("end", "name", "error"),
        [
            (End.CLOSED, None, None),
            (End.TERMINATED, None, None),
            (End.EVICTED, None, None),
            (End.SHUTDOWN, None, None),
            (End.PEER_LOST, None, "ConnectionError"),
            (End.ERROR, "ValueError", "ValueError"),
        ],
    )
    def test_the_conventions_call_a_lost_peer_and_a_crash_errors(
        self, recorder: Recorder, collect: Collect, end: End, name: str | None, error: str | None
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.close(end, name)
        points = collect()
        assert one(points, "mcp.client.session.duration").attributes.get(ERROR) == error
        assert ERROR not in one(points, "mcp.session.duration").attributes


class TestRequests:
    def test_a_request_is_in_flight_until_it_ends(self, recorder: Recorder, collect: Collect) -> None:
        request = begin(connect(recorder), INBOUND, "tools/list")
        assert not request.ended
        point = one(collect(), "mcp.requests.active")
        assert point.value == 1
        assert point.attributes == {
            ROLE: "server",
            DIRECTION: "inbound",
            TRANSPORT: "stdio",
            METHOD: "tools/list",
        }
        request.end(OK)
        assert request.ended
        assert [point.value for point in collect().select("mcp.requests.active")] == [0]

    def test_a_finished_request_moves_three_metrics(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, server_name="server")
        connection.establish(None, "2025-06-18")
        begin(connection, INBOUND, "resources/read", {"uri": "secret://x", "name": "secret"}).end(OK)
        points = collect()
        expected = {
            ROLE: "server",
            DIRECTION: "inbound",
            TRANSPORT: "stdio",
            SERVER_NAME: "server",
            METHOD: "resources/read",
            STATUS: "ok",
        }
        assert one(points, "mcp.requests.total").attributes == expected
        assert one(points, "mcp.request.duration").attributes == expected
        assert one(points, _SERVER_OPERATION).attributes == {
            METHOD: "resources/read",
            _VERSION: "2025-06-18",
            "network.transport": "pipe",
        }
        assert not points.select(_CLIENT_OPERATION)

    def test_counts_and_durations_agree_over_many_requests(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        for _ in range(1000):
            begin(connection, INBOUND, "ping").end(OK)
        points = collect()
        for metric in ("mcp.requests.total", "mcp.request.duration", _SERVER_OPERATION):
            assert points.sum(metric) == 1000
        assert points.sum("mcp.requests.active") == 0

    def test_each_collection_has_everything_up_to_it(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        for number in range(1, 6):
            begin(connection, INBOUND, "ping").end(OK)
            assert collect().sum("mcp.requests.total") == number

    def test_a_request_that_ends_twice_counts_once(self, recorder: Recorder, collect: Collect) -> None:
        request = begin(connect(recorder), INBOUND, "ping")
        request.end(CANCELLED)
        request.end(OK)
        request.abandon()
        points = collect()
        assert points.by(STATUS, "mcp.requests.total") == {"cancelled": 1}
        assert points.sum("mcp.requests.active") == 0

    def test_an_abandoned_request_never_was_one(self, recorder: Recorder, collect: Collect) -> None:
        request = begin(connect(recorder), OUTBOUND, "ping")
        request.abandon()
        request.abandon()
        request.end(OK)
        points = collect()
        assert points.sum("mcp.requests.active") == 0
        assert not points.select("mcp.requests.total")
        assert not points.select("mcp.request.duration")

    def test_a_request_is_as_long_as_the_time_since_it_was_first_seen(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        request = connect(recorder).begin(INBOUND, "ping", started=perf_counter() - 100.0)
        assert request is not None
        request.end(OK)
        points = collect()
        for metric in ("mcp.request.duration", _SERVER_OPERATION):
            assert 100.0 <= one(points, metric).total < 160.0

    def test_a_request_ends_under_the_name_that_is_known_by_then(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        request = begin(connection, OUTBOUND, "initialize")
        connection.identify("server", "2025-06-18")
        request.end(OK)
        points = collect()
        assert points.by(SERVER_NAME, "mcp.requests.total") == {"server": 1}
        assert points.by(_VERSION, _CLIENT_OPERATION) == {"2025-06-18": 1}
        assert points.sum("mcp.requests.active") == 0

    def test_what_is_not_said_again_stays_known(self, recorder: Recorder) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.identify("server", "2025-06-18")
        connection.identify(None, None)
        assert connection.protocol_version == "2025-06-18"
        connection.identify("other")
        assert connection.protocol_version == "2025-06-18"

    def test_a_connection_remembers_the_requests_that_lost_their_peer(self, recorder: Recorder) -> None:
        connection = connect(recorder)
        for outcome in (OK, CANCELLED, TIMEOUT, CONNECTION_LOST, CONNECTION_LOST):
            begin(connection, INBOUND, "ping").end(outcome)
        assert connection.lost_requests == 2

    def test_methods_of_nobody_are_folded(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        for method in ("x/one", "x/two", "ping"):
            begin(connection, OUTBOUND, method).end(OK)
        points = collect()
        assert points.by(METHOD, "mcp.requests.total") == {OTHER: 2, "ping": 1}
        assert {point.attributes[METHOD] for point in points.select("mcp.requests.active")} == {OTHER, "ping"}

    def test_methods_the_server_registered_are_named_up_to_their_limit(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(methods=1))
        registry = Registry()
        registry.methods = {"x/one", "x/two"}
        connection = connect(recorder, registry=registry)
        for method in ("x/free", "x/one", "x/two", "x/one"):
            begin(connection, INBOUND, method).end(OK)
        recorder.retire()
        assert collect().by(METHOD, "mcp.requests.total") == {OTHER: 2, "x/one": 2}

    def test_an_open_ended_request_is_counted_but_not_timed(self, recorder: Recorder, collect: Collect) -> None:
        for direction in Direction:
            begin(connect(recorder), direction, "subscriptions/listen").end(CANCELLED)
        points = collect()
        assert points.sum("mcp.requests.total", {METHOD: "subscriptions/listen"}) == 2
        assert points.sum("mcp.requests.active") == 0
        for metric in ("mcp.request.duration", _SERVER_OPERATION, _CLIENT_OPERATION):
            assert not points.select(metric)

    @pytest.mark.parametrize(
        ("outcome", "status", "error"),
        [
            (OK, "ok", None),
            (TOOL_ERROR, "tool_error", None),
            (CANCELLED, "cancelled", None),
            (error_reply(-32800), "cancelled", None),
            (TIMEOUT, "timeout", None),
            (CONNECTION_LOST, "connection_lost", None),
            (error_reply(-32602), "client_error", "-32602"),
            (error_reply(-32603), "server_error", "-32603"),
            (error_reply(4711), "server_error", OTHER),
            (http_error(404), "client_error", "404"),
        ],
        ids=repr,
    )
    def test_the_request_counter_tells_error_types_apart_only_within_a_status(
        self, recorder: Recorder, collect: Collect, outcome: Outcome, status: str, error: str | None
    ) -> None:
        begin(connect(recorder), OUTBOUND, "tools/list").end(outcome)
        points = collect()
        total = one(points, "mcp.requests.total")
        assert (total.attributes[STATUS], total.attributes.get(ERROR)) == (status, error)
        duration = one(points, "mcp.request.duration")
        assert duration.attributes[STATUS] == status
        assert ERROR not in duration.attributes

    def test_past_the_last_cell_requests_lose_their_method_but_not_their_count(
        self, recorder: Recorder, collect: Collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("opentelemetry_instrumentation_mcp.metrics.store.metric_buffers._MOST_BUFFERS", 2)
        connection = connect(recorder)
        for method in ("ping", "tools/list", "prompts/list", "roots/list", "prompts/list", "ping"):
            begin(connection, INBOUND, method).end(OK)
        points = collect()
        assert points.by(METHOD, "mcp.requests.total") == {"ping": 2, "tools/list": 1, OTHER: 3}
        assert points.sum("mcp.requests.active") == 0


class TestOperations:
    """The histograms of the semantic conventions."""

    @pytest.mark.parametrize("role", Role)
    def test_who_receives_is_the_server_of_an_operation_whatever_the_process_is(
        self, recorder: Recorder, collect: Collect, role: Role
    ) -> None:
        connection = connect(recorder, role)
        begin(connection, INBOUND, "ping").end(OK)
        begin(connection, OUTBOUND, "roots/list").end(OK)
        points = collect()
        assert points.by(METHOD, _SERVER_OPERATION) == {"ping": 1}
        assert points.by(METHOD, _CLIENT_OPERATION) == {"roots/list": 1}

    @pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602, -32002])
    def test_a_caller_at_fault_is_no_error_of_the_server_and_one_of_the_client(
        self, recorder: Recorder, collect: Collect, code: int
    ) -> None:
        connection = connect(recorder)
        for direction in Direction:
            begin(connection, direction, "ping").end(error_reply(code))
        points = collect()
        server, client = one(points, _SERVER_OPERATION).attributes, one(points, _CLIENT_OPERATION).attributes
        assert (server[_CODE], server.get(ERROR)) == (str(code), None)
        assert (client[_CODE], client.get(ERROR)) == (str(code), str(code))
        assert points.sum("mcp.requests.total", {STATUS: "client_error", ERROR: str(code)}) == 2

    @pytest.mark.parametrize("code", [0, -32603, -32000, -32020, -32042])
    @pytest.mark.parametrize("direction", Direction)
    def test_every_other_error_reply_is_an_error_on_both_sides(
        self, recorder: Recorder, collect: Collect, code: int, direction: Direction
    ) -> None:
        begin(connect(recorder), direction, "ping").end(error_reply(code))
        metric = _SERVER_OPERATION if direction is INBOUND else _CLIENT_OPERATION
        attributes = one(collect(), metric).attributes
        assert (attributes[_CODE], attributes[ERROR]) == (str(code), str(code))

    @pytest.mark.parametrize("outcome", [TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST], ids=repr)
    @pytest.mark.parametrize("direction", Direction)
    def test_what_ends_without_an_error_reply_has_an_error_type_and_no_code(
        self, recorder: Recorder, collect: Collect, outcome: Outcome, direction: Direction
    ) -> None:
        begin(connect(recorder), direction, "tools/call").end(outcome)
        metric = _SERVER_OPERATION if direction is INBOUND else _CLIENT_OPERATION
        attributes = one(collect(), metric).attributes
        assert attributes[ERROR] == outcome.error_type
        assert _CODE not in attributes

    def test_a_tool_call_is_the_execution_of_a_tool_and_nothing_else_is(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder)
        call(connection, "add")
        begin(connection, INBOUND, "prompts/get", {"name": "greet"}).end(OK)
        points = collect()
        called = one(points, _SERVER_OPERATION, {METHOD: "tools/call"}).attributes
        assert (called["gen_ai.operation.name"], called[TOOL]) == ("execute_tool", "add")
        get = one(points, _SERVER_OPERATION, {METHOD: "prompts/get"}).attributes
        assert get[PROMPT] == "greet"
        assert "gen_ai.operation.name" not in get

    def test_the_conventions_know_nothing_of_our_attributes(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, server_name="server")
        for direction in Direction:
            begin(connection, direction, "ping").end(OK)
        points = collect()
        for metric in (_SERVER_OPERATION, _CLIENT_OPERATION):
            ours = {ROLE, DIRECTION, TRANSPORT, SERVER_NAME, STATUS}
            assert not ours & one(points, metric).attributes.keys()

    @pytest.mark.parametrize(
        ("transport", "network", "protocol"),
        [
            (Transport.STDIO, "pipe", None),
            (Transport.SSE, "tcp", "http"),
            (Transport.STREAMABLE_HTTP, "tcp", "http"),
            (Transport.WEBSOCKET, "tcp", "websocket"),
            (Transport.IN_MEMORY, None, None),
            (Transport.OTHER, None, None),
        ],
    )
    def test_the_network_is_named_where_there_is_one(
        self, recorder: Recorder, collect: Collect, transport: Transport, network: str | None, protocol: str | None
    ) -> None:
        begin(connect(recorder, transport=transport), INBOUND, "ping").end(OK)
        attributes = one(collect(), _SERVER_OPERATION).attributes
        assert attributes.get("network.transport") == network
        assert attributes.get("network.protocol.name") == protocol

    def test_a_client_says_where_its_server_is(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT, Transport.STREAMABLE_HTTP, address=Address("mcp.example", 8000))
        connection.establish("server", "2025-06-18")
        begin(connection, OUTBOUND, "ping").end(OK)
        connection.close(End.CLOSED)
        points = collect()
        for metric in (_CLIENT_OPERATION, "mcp.client.session.duration"):
            attributes = one(points, metric).attributes
            assert (attributes["server.address"], attributes["server.port"]) == ("mcp.example", 8000)
        for metric in ("mcp.requests.total", "mcp.connections.total", "mcp.sessions.created"):
            assert "server.address" not in one(points, metric).attributes

    def test_addresses_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(addresses=1))
        for port in (8000, 8001, 8000):
            connection = connect(recorder, Role.CLIENT, Transport.SSE, address=Address("mcp.example", port))
            begin(connection, OUTBOUND, "ping").end(OK)
        recorder.retire()
        points = collect()
        assert points.by("server.address", _CLIENT_OPERATION) == {"mcp.example": 2, OTHER: 1}
        assert points.by("server.port", _CLIENT_OPERATION) == {"8000": 2, "None": 1}


class TestNotifications:
    @pytest.mark.parametrize(
        ("direction", "metric", "absent"),
        [(INBOUND, _SERVER_OPERATION, _CLIENT_OPERATION), (OUTBOUND, _CLIENT_OPERATION, _SERVER_OPERATION)],
    )
    def test_a_notification_is_counted_and_timed_but_is_no_request(
        self, recorder: Recorder, collect: Collect, direction: Direction, metric: str, absent: str
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.notified(direction, "notifications/progress", 0.25)
        connection.notified(direction, "notifications/progress", 0.5)
        points = collect()
        count = one(points, "mcp.notifications.total")
        assert count.value == 2
        assert count.attributes == {
            ROLE: "client",
            DIRECTION: direction.value,
            TRANSPORT: "stdio",
            METHOD: "notifications/progress",
        }
        duration = one(points, metric)
        assert (duration.value, duration.total) == (2, 0.75)
        assert duration.attributes == {METHOD: "notifications/progress", "network.transport": "pipe"}
        for name in (absent, "mcp.requests.total", "mcp.requests.active", "mcp.request.duration"):
            assert not points.select(name)

    def test_notifications_of_nobody_are_folded(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder).notified(INBOUND, "notifications/x")
        assert collect().by(METHOD, "mcp.notifications.total") == {OTHER: 1}


class TestNames:
    def test_a_registered_name_is_shown_however_the_call_ends(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, registry=Registry(tools=["add"]))
        for outcome in (OK, TOOL_ERROR, error_reply(-32602), CANCELLED):
            call(connection, "add", outcome)
        assert collect().by(TOOL, "mcp.requests.total") == {"add": 4}

    def test_a_name_the_server_can_list_and_does_not_is_folded(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, registry=Registry(tools=["add"]))
        for name in ("free", "choice"):
            call(connection, name, OK)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 2}

    def test_a_name_the_server_knows_when_asked_is_registered(self, recorder: Recorder, collect: Collect) -> None:
        registry = Registry()
        registry.hidden = {"dynamic"}
        connection = connect(recorder, registry=registry)
        for name in ("dynamic", "free"):
            call(connection, name, TOOL_ERROR)
        assert collect().by(TOOL, "mcp.requests.total") == {"dynamic": 1, OTHER: 1}

    def test_where_nobody_lists_a_success_proves_a_name(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, registry=Registry(listing=False))
        call(connection, "add", TOOL_ERROR)
        call(connection, "add", OK)
        call(connection, "add", error_reply(-32602))
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1, "add": 2}

    @pytest.mark.parametrize(
        "outcome", [TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST, error_reply(-32602), error_reply(0)], ids=repr
    )
    def test_nothing_but_a_success_proves_a_name(self, recorder: Recorder, collect: Collect, outcome: Outcome) -> None:
        connection = connect(recorder, Role.CLIENT)
        call(connection, "add", outcome, OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1}

    def test_at_most_twenty_names_are_proved(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        for number in range(30):
            call(connection, f"t{number}", OK, OUTBOUND)
        shown = collect().by(TOOL, "mcp.requests.total")
        assert len(shown) == 21
        assert shown[OTHER] == 10

    def test_a_clients_names_are_those_its_server_has_listed(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT, server_name="server")
        connection.listed(OUTBOUND, "tools/list", {"tools": [{"name": "add"}, {"name": "sub"}]})
        for name in ("add", "free"):
            call(connection, name, OK, OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {"add": 1, OTHER: 1}

    def test_a_listing_of_tools_says_nothing_about_prompts(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT, server_name="server")
        connection.listed(OUTBOUND, "tools/list", {"tools": []})
        begin(connection, OUTBOUND, "prompts/get", {"name": "greet"}).end(OK)
        assert collect().by(PROMPT, "mcp.requests.total") == {"greet": 1}

    def test_a_listing_of_one_server_says_nothing_about_another(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, Role.CLIENT, server_name="one").listed(OUTBOUND, "tools/list", {"tools": []})
        call(connect(recorder, Role.CLIENT, server_name="two"), "add", OK, OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {"add": 1}

    @pytest.mark.parametrize(
        "result",
        [
            None,
            [],
            {},
            {"tools": None},
            {"tools": {"name": "add"}},
            {"tools": [None, "add", {"name": 7}, {"name": None}, {}]},
        ],
    )
    def test_a_listing_of_any_shape_is_survived(self, recorder: Recorder, collect: Collect, result: object) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.listed(OUTBOUND, "tools/list", result)
        call(connection, "add", OK, OUTBOUND)
        shown = collect().select("mcp.requests.total")
        assert [(point.attributes[TOOL], point.value) for point in shown] == [(OTHER, 1)]

    @pytest.mark.parametrize("params", [None, {}, {"name": None}, {"name": 7}, {"name": ["add"]}, ["add"], "add"])
    def test_a_call_that_names_nothing_has_no_name(self, recorder: Recorder, collect: Collect, params: object) -> None:
        begin(connect(recorder), INBOUND, "tools/call", params).end(error_reply(-32602))
        points = collect()
        assert points.sum("mcp.requests.total") == 1
        assert TOOL not in one(points, "mcp.requests.total").attributes

    @pytest.mark.parametrize("method", ["resources/read", "tools/list", "x/call"])
    def test_only_tools_and_prompts_have_names(self, recorder: Recorder, collect: Collect, method: str) -> None:
        connection = connect(recorder, Role.CLIENT)
        call(connection, "add", OK, OUTBOUND)
        begin(connection, OUTBOUND, method, {"name": "add"}).end(OK)
        assert not {TOOL, PROMPT} & one(collect(), "mcp.requests.total", {TOOL: None}).attributes.keys()

    def test_a_server_that_calls_its_client_does_not_use_its_own_names(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = Registry()
        registry.hidden = {"mine"}
        call(connect(recorder, registry=registry), "mine", TOOL_ERROR, OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1}

    def test_a_name_that_finds_no_place_any_more_is_folded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(names=1))
        connection = connect(recorder, registry=Registry(tools=["a", "b"]))
        for name in ("a", "b"):
            call(connection, name)
        recorder.retire()
        counts = collect().by(TOOL, "mcp.requests.total")
        assert counts.pop(OTHER) == 1
        assert counts in ({"a": 1}, {"b": 1})

    def test_which_names_find_a_place_is_the_same_after_every_restart(self, provider: MeterProvider) -> None:
        recorder = Recorder(provider, Limits(names=20))
        tools = [f"t{number}" for number in range(40)]
        connect(recorder, registry=Registry(tools=tools))
        recorder.retire()
        # In the order they were registered: that of a set of strings is another one in each process.
        names = recorder._shared.bounds.names  # pyright: ignore[reportPrivateUsage]
        assert [name for name in tools if names.has(Target.TOOL, name)] == tools[:20]


class TestZeroSeries:
    def test_a_registered_tool_begins_at_zero_for_success_tool_error_and_crash(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connect(recorder, server_name="server", registry=Registry(tools=["add"]))
        points = collect()
        shown = points.select("mcp.requests.total", {TOOL: "add"})
        assert {(p.attributes[STATUS], p.attributes.get(ERROR), p.value) for p in shown} == {
            ("ok", None, 0),
            ("tool_error", None, 0),
            ("server_error", "0", 0),
        }
        for point in shown:
            assert point.attributes[DIRECTION] == "inbound"
            assert point.attributes[METHOD] == "tools/call"
            assert point.attributes[SERVER_NAME] == "server"

    def test_a_registered_prompt_has_no_tool_errors(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, registry=Registry(prompts=["greet"]))
        shown = collect().select("mcp.requests.total", {PROMPT: "greet", METHOD: "prompts/get"})
        assert {(point.attributes[STATUS], point.value) for point in shown} == {("ok", 0), ("server_error", 0)}

    def test_a_crash_has_the_code_the_sdk_answers_with(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, registry=Registry(tools=["add"]), crash_code="-32603")
        assert connection.crash_code == -32603
        shown = collect().select("mcp.requests.total", {STATUS: "server_error"})
        assert [point.attributes[ERROR] for point in shown] == ["-32603"]

    def test_a_call_moves_the_series_that_began_at_zero(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, server_name="server", registry=Registry(tools=["add"]))
        connection.establish(None, "2025-06-18")
        before = len(collect().select("mcp.requests.total"))
        for outcome in (OK, TOOL_ERROR, error_reply(0)):
            call(connection, "add", outcome)
        points = collect()
        assert points.by(STATUS, "mcp.requests.total") == {"ok": 1, "tool_error": 1, "server_error": 1}
        assert len(points.select("mcp.requests.total")) == before

    def test_histograms_do_not_begin_at_zero(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, registry=Registry(tools=["add"]), session_versions=["2025-06-18"])
        assert {point.metric for point in collect().all} == {
            "mcp.connections.total",
            "mcp.connections.active",
            "mcp.sessions.created",
            "mcp.session.heartbeat_checks",
            "mcp.session.dead_detected",
            "mcp.requests.total",
            "mcp.memory.usage",
        }

    def test_names_a_server_listed_to_a_client_begin_at_zero_there(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT, server_name="server")
        connection.listed(OUTBOUND, "tools/list", {"tools": [{"name": "add"}]})
        shown = collect().select("mcp.requests.total", {TOOL: "add", DIRECTION: "outbound", SERVER_NAME: "server"})
        assert {(point.attributes[STATUS], point.value) for point in shown} == {
            ("ok", 0),
            ("tool_error", 0),
            ("server_error", 0),
        }

    def test_sessions_of_a_server_begin_at_zero_for_every_revision_it_can_speak(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder, server_name="server", session_versions=["2025-03-26", "2025-06-18"])
        shown = collect().select("mcp.sessions.created", {SERVER_NAME: "server"})
        assert {(point.attributes[_VERSION], point.value) for point in shown} == {("2025-03-26", 0), ("2025-06-18", 0)}
        connection.establish(None, "2025-06-18")
        assert collect().by(_VERSION, "mcp.sessions.created") == {"2025-06-18": 1}

    def test_evictions_begin_at_zero_where_they_can_happen(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
        point = one(collect(), "mcp.sessions.evicted")
        assert (point.attributes[TRANSPORT], point.value) == ("streamable_http", 0)

    @pytest.mark.parametrize(
        ("role", "transport", "mode"),
        [
            (Role.SERVER, Transport.STDIO, Mode.STATEFUL),
            (Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS),
            (Role.CLIENT, Transport.STREAMABLE_HTTP, Mode.STATEFUL),
        ],
    )
    def test_evictions_are_absent_where_they_cannot_happen(
        self, recorder: Recorder, collect: Collect, role: Role, transport: Transport, mode: Mode
    ) -> None:
        connect(recorder, role, transport, mode)
        assert not collect().select("mcp.sessions.evicted")

    def test_a_later_connection_adds_the_names_that_came_since(self, recorder: Recorder, collect: Collect) -> None:
        registry = Registry(tools=["add"])
        connect(recorder, registry=registry)
        registry.table[Target.TOOL] = ["add", "sub"]
        connect(recorder, registry=registry)
        shown = collect().select("mcp.requests.total", {STATUS: "ok"})
        assert {point.attributes[TOOL] for point in shown} == {"add", "sub"}

    def test_a_name_known_from_one_server_begins_at_zero_on_another_too(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        for server in ("one", "two"):
            connect(recorder, server_name=server, registry=Registry(tools=["add"]))
        shown = collect().select("mcp.requests.total", {STATUS: "ok", TOOL: "add"})
        assert {point.attributes[SERVER_NAME] for point in shown} == {"one", "two"}

    def test_a_known_name_begins_at_zero_though_one_before_it_found_no_place(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(names=1))
        connect(recorder, server_name="one", registry=Registry(tools=["known"]))
        connect(recorder, server_name="two", registry=Registry(tools=["late", "known"]))
        points = collect()
        recorder.retire()
        assert points.select("mcp.requests.total", {TOOL: "known", SERVER_NAME: "two"})

    def test_a_name_that_took_the_place_of_another_begins_at_zero_on_the_next_connection(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = Registry(tools=["add"])
        connect(recorder, registry=registry)
        registry.table[Target.TOOL] = ["sub"]
        connect(recorder, registry=registry)
        assert collect().select("mcp.requests.total", {TOOL: "sub"})

    def test_a_name_that_is_first_known_by_a_call_begins_at_zero_for_its_other_ends(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = Registry()
        connection = connect(recorder, registry=registry)
        registry.table[Target.TOOL] = ["added later"]
        call(connection, "added later", OK)
        shown = collect().select("mcp.requests.total", {TOOL: "added later"})
        assert {(point.attributes[STATUS], point.value) for point in shown} == {
            ("ok", 1),
            ("tool_error", 0),
            ("server_error", 0),
        }


class TestBounds:
    def test_no_metric_shows_more_sets_than_the_limit_and_nothing_is_lost(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(attribute_sets=10))
        tools = [f"t{number}" for number in range(50)]
        connection = connect(recorder, registry=Registry(tools=tools))
        for number, name in enumerate(tools):
            call(connection, name, (OK, TOOL_ERROR, error_reply(-32602))[number % 3])
        points = collect()
        recorder.retire()
        for metric in {point.metric for point in points.all}:
            assert len(points.select(metric)) <= 10
        for metric in ("mcp.requests.total", "mcp.request.duration", _SERVER_OPERATION):
            assert points.sum(metric) == 50
        assert points.sum("mcp.requests.active") == 0

    def test_updowncounters_come_back_to_zero_though_their_sets_were_folded(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(attribute_sets=10))
        connections = [connect(recorder, Role.CLIENT, server_name=f"s{number}") for number in range(40)]
        for connection in connections:
            connection.establish(None, "2025-06-18")
        assert collect().sum("mcp.sessions.active") == 40
        for connection in connections:
            connection.close(End.CLOSED)
        points = collect()
        recorder.retire()
        assert len(points.select("mcp.sessions.active")) == 8
        assert {point.value for point in points.select("mcp.sessions.active")} == {0}

    def test_the_limits_come_from_the_environment(
        self, provider: MeterProvider, collect: Collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "1")
        recorder = Recorder(provider)
        connection = connect(recorder, registry=Registry(tools=["a", "b"]))
        for name in ("a", "b"):
            call(connection, name)
        recorder.retire()
        counts = collect().by(TOOL, "mcp.requests.total")
        assert counts.pop(OTHER) == 1
        assert counts in ({"a": 1}, {"b": 1})

    def test_a_bad_limit_costs_a_line_and_not_the_recorder(
        self, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "a few")
        Recorder(provider).retire()
        (record,) = caplog.records
        assert record.getMessage().startswith(f"{OTEL_INSTRUMENTATION_MCP_MAX_NAMES}='a few'")
        assert record.getMessage().endswith("using 100")


class TestReaders:
    @pytest.mark.usefixtures("recorder")
    def test_the_memory_of_the_process_is_observed(self, collect: Collect) -> None:
        point = one(collect(), "mcp.memory.usage")
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert point.attributes == {}
        assert 0.5 * resident < point.value < 2 * resident

    def test_two_recorders_on_two_providers_do_not_mix(self) -> None:
        readers = [InMemoryMetricReader(), InMemoryMetricReader()]
        providers = [MeterProvider([reader]) for reader in readers]
        recorders = [Recorder(provider, Limits()) for provider in providers]
        for recorder, count in zip(recorders, (3, 5), strict=True):
            for _ in range(count):
                begin(connect(recorder), INBOUND, "ping").end(OK)
        for reader, count in zip(readers, (3, 5), strict=True):
            points = Points.of(reader)
            assert points.sum("mcp.requests.total") == points.sum("mcp.connections.total") == count
            assert len(points.select("mcp.memory.usage")) == 1
        for recorder, provider in zip(recorders, providers, strict=True):
            recorder.retire()
            provider.shutdown()

    def test_collecting_one_provider_leaves_the_values_of_another_where_they_are(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder)
        begin(connection, INBOUND, "ping").end(OK)
        begin(connection, INBOUND, "ping")
        waiting = connection.series.route(INBOUND, "ping").active
        assert waiting.values[-1] == 1
        held = waiting.values[:]
        other_reader = InMemoryMetricReader()
        other_provider = MeterProvider([other_reader])
        other = Recorder(other_provider, Limits())
        Points.of(other_reader)
        assert waiting.values == held
        collect()
        assert waiting.values == []
        other.retire()
        other_provider.shutdown()

    def test_every_reader_of_a_provider_sees_everything_in_its_own_temporality(self) -> None:
        delta = AggregationTemporality.DELTA
        cumulative = InMemoryMetricReader()
        differences = InMemoryMetricReader({Counter: delta, Histogram: delta, UpDownCounter: delta})
        provider = MeterProvider([cumulative, differences])
        recorder = Recorder(provider, Limits())
        connection = connect(recorder)
        seen: list[tuple[float, float]] = []
        for count in (1, 10, 0, 300):
            for _ in range(count):
                begin(connection, INBOUND, "ping").end(OK)
            first, second = Points.of(cumulative), Points.of(differences)
            for metric in ("mcp.requests.total", "mcp.request.duration", _SERVER_OPERATION):
                assert first.sum(metric) == first.sum("mcp.requests.total")
                assert second.sum(metric) == second.sum("mcp.requests.total")
            seen.append((first.sum("mcp.requests.total"), second.sum("mcp.requests.total")))
        assert seen == [(1, 1), (11, 10), (11, 0), (311, 300)]
        recorder.retire()
        provider.shutdown()

    def test_a_view_that_drops_the_memory_metric_does_not_keep_the_others_from_being_handed_over(self) -> None:
        reader = InMemoryMetricReader()
        views = [View(instrument_name="mcp.memory.usage", aggregation=DropAggregation())]
        provider = MeterProvider([reader], views=views)
        recorder = Recorder(provider, Limits())
        connection = connect(recorder)
        for _ in range(10):
            begin(connection, INBOUND, "ping").end(OK)
        points = Points.of(reader)
        assert points.sum("mcp.requests.total") == 10
        assert not points.select("mcp.memory.usage")
        recorder.retire()
        provider.shutdown()

    def test_a_recorder_made_after_another_on_the_same_provider_observes_and_drains(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        Recorder(provider, Limits()).retire()
        recorder = Recorder(provider, Limits())
        connection = connect(recorder)
        for _ in range(10):
            begin(connection, INBOUND, "ping").end(OK)
        points = collect()
        assert points.sum("mcp.requests.total") == 10
        assert len(points.select("mcp.memory.usage")) == 1
        recorder.retire()

    def test_two_recorders_on_one_provider_add_up_and_observe_memory_once(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorders = [Recorder(provider, Limits()) for _ in range(2)]
        for recorder in recorders:
            connection = connect(recorder)
            for _ in range(10):
                begin(connection, INBOUND, "ping").end(OK)
        points = collect()
        assert points.sum("mcp.requests.total") == 20
        recorders[0].retire()
        alone = one(collect(), "mcp.memory.usage").value
        assert one(points, "mcp.memory.usage").value < 1.5 * alone
        recorders[1].retire()


class TestRetirement:
    def test_what_was_kept_is_handed_over(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        for _ in range(10):
            begin(connection, INBOUND, "ping").end(OK)
        recorder.retire()
        assert collect().sum("mcp.requests.total") == 10

    def test_memory_is_observed_no_longer(self, recorder: Recorder, collect: Collect) -> None:
        assert collect().select("mcp.memory.usage")
        recorder.retire()
        assert not collect().select("mcp.memory.usage")

    def test_what_was_open_still_ends_and_balances(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        connection.establish("server", "2025-06-18")
        requests = [begin(connection, INBOUND, "ping") for _ in range(3)]
        requests[0].end(OK)
        recorder.retire()
        points = collect()
        assert points.sum("mcp.requests.active") == 2
        assert points.sum("mcp.connections.active") == points.sum("mcp.sessions.active") == 1
        requests[1].end(OK)
        requests[2].end(error_reply(-32603))
        connection.close(End.CLOSED)
        points = collect()
        for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
            assert points.sum(metric) == 0
        assert points.by(STATUS, "mcp.requests.total") == {"ok": 2, "server_error": 1}
        assert points.sum("mcp.connection.duration") == points.sum("mcp.session.duration") == 1

    def test_retiring_again_changes_nothing(self, recorder: Recorder, collect: Collect) -> None:
        begin(connect(recorder), INBOUND, "ping").end(OK)
        recorder.retire()
        recorder.retire()
        assert collect().sum("mcp.requests.total") == 1


def test_without_a_provider_everything_is_accepted_and_nothing_is_recorded() -> None:
    recorder = Recorder(None, Limits())
    connection = connect(recorder, server_name="server", registry=Registry(tools=["add"]))
    connection.establish(None, "2025-06-18")
    call(connection, "add")
    connection.close(End.CLOSED)
    recorder.retire()


def test_the_scope_is_the_package_and_its_version(recorder: Recorder, reader: InMemoryMetricReader) -> None:
    connect(recorder)
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("opentelemetry_instrumentation_mcp", __version__)


def test_a_registry_that_raises_costs_a_name_and_not_the_request(
    recorder: Recorder, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Registry):
        def knows(self, target: Target, name: str) -> bool:
            raise RuntimeError

    reported: list[str] = []

    def note(what: str, error: BaseException) -> None:
        reported.append(what)

    monkeypatch.setattr("opentelemetry_instrumentation_mcp.core.fail_open.report_failure", note)
    connection = connect(recorder, registry=Broken())
    call(connection, "add")
    assert reported == ["a metric was lost in _knows"]
    assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1}


def test_a_registry_that_cannot_list_its_names_costs_zero_series_and_not_the_connection(
    recorder: Recorder, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Registry):
        def names(self, target: Target) -> Collection[str]:
            raise RuntimeError

    reported: list[str] = []

    def note(what: str, error: BaseException) -> None:
        reported.append(what)

    monkeypatch.setattr("opentelemetry_instrumentation_mcp.core.fail_open.report_failure", note)
    connect(recorder, registry=Broken()).close(End.CLOSED)
    assert len(reported) == 1
    points = collect()
    assert points.sum("mcp.connections.active") == 0
    assert points.sum("mcp.connection.duration") == 1


def test_every_metric_of_the_catalogue_can_be_moved(recorder: Recorder, collect: Collect) -> None:
    for role in Role:
        connection = connect(recorder, role, Transport.STREAMABLE_HTTP, session_versions=["2025-06-18"])
        connection.establish("server", "2025-06-18")
        for direction in Direction:
            request = begin(connection, direction, "ping")
            request.measured(100, response=False)
            request.measured(50, response=True)
            request.end(OK)
            connection.notified(direction, "notifications/progress")
        connection.dead(Death.WRITE_FAILED)
        connection.close(End.EVICTED)
        recorder.connection_error(role, Transport.STREAMABLE_HTTP, 503)
        recorder.task_started(role)
    recorder.keepalive(Transport.STREAMABLE_HTTP)
    recorder.interceptor("Guard").dealt(0.1, 0.1, Action.ERROR, "ValueError")
    for created in (True, False):
        recorder.pooled("http://mcp.example:80", created=created, waited=0.1)
    recorder.idle_connections = lambda: {"http://mcp.example:80": 1}
    points = collect()
    for metric in catalogue.CATALOGUE:
        shown = points.select(metric.name)
        assert sum(point.value for point in shown) > 0 or metric.instrument is Instrument.UP_DOWN_COUNTER
        keys = {key for point in shown for key in point.attributes}
        assert shown
        assert keys <= set(metric.attributes)
    assert {point.metric for point in points.all} == {metric.name for metric in catalogue.CATALOGUE}
