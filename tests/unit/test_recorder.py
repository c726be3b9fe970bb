from __future__ import annotations

import os
from collections.abc import Callable, Collection
from time import perf_counter
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View

from opentelemetry_instrumentation_mcp import __version__
from opentelemetry_instrumentation_mcp.environment_variables import OTEL_INSTRUMENTATION_MCP_MAX_NAMES
from opentelemetry_instrumentation_mcp.metrics import catalogue
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
from opentelemetry_instrumentation_mcp.metrics.recorder import (
    Address,
    Connection,
    Direction,
    Mode,
    Recorder,
    Request,
    Role,
    Transport,
)

from ..points import DIRECTION, ERROR, METHOD, MODE, PROMPT, ROLE, STATUS, TOOL, TRANSPORT, Point, Points

_INBOUND, _OUTBOUND = Direction.INBOUND, Direction.OUTBOUND
_SERVER_NAME = "mcp.server.name"
_VERSION = "mcp.protocol.version"
_CODE = "rpc.response.status_code"
_SERVER_OPERATION = "mcp.server.operation.duration"
_CLIENT_OPERATION = "mcp.client.operation.duration"

Collect = Callable[[], Points]


class _Registry:
    """A server with these names and methods."""

    def __init__(self, *, tools: Collection[str] = (), prompts: Collection[str] = (), listing: bool = True) -> None:
        self.table: dict[Target, Collection[str]] = {Target.TOOL: tools, Target.PROMPT: prompts}
        self.hidden: set[str] = set()
        """Names the server knows when asked for, but does not enumerate."""
        self.methods: set[str] = set()
        self._listing = listing

    def lists(self, target: Target) -> bool:
        return self._listing

    def knows(self, target: Target, name: str) -> bool:
        return name in self.table[target] or name in self.hidden

    def names(self, target: Target) -> Collection[str]:
        return self.table[target]

    def serves(self, method: str) -> bool:
        return method in self.methods


def _open(
    recorder: Recorder,
    role: Role = Role.SERVER,
    transport: Transport = Transport.STDIO,
    mode: Mode = Mode.STATEFUL,
    **known: Any,
) -> Connection:
    connection = recorder.open(role, transport, mode, **known)
    assert connection is not None
    return connection


def _begin(connection: Connection, direction: Direction, method: str, params: object = None) -> Request:
    request = connection.begin(direction, method, params)
    assert request is not None
    return request


def _call(connection: Connection, tool: object, outcome: Outcome = OK, direction: Direction = _INBOUND) -> None:
    _begin(connection, direction, "tools/call", {"name": tool, "arguments": {"secret": 1}}).end(outcome)


def _one(points: Points, metric: str, where: dict[str, Any] | None = None) -> Point:
    (point,) = points.select(metric, where)
    return point


@pytest.fixture(autouse=True)
def nothing_is_swallowed(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Any:
    # The recorder contains its own failures; a test must not pass because of that.
    yield
    assert not [record for record in caplog.get_records("call") if "a metric was lost" in record.getMessage()]


class TestConnections:
    def test_an_open_connection_is_counted_and_active(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder, Role.CLIENT, Transport.SSE)
        points = collect()
        expected = {ROLE: "client", TRANSPORT: "sse", MODE: "stateful"}
        for metric in ("mcp.connections.total", "mcp.connections.active"):
            point = _one(points, metric)
            assert (point.attributes, point.value) == (expected, 1)
        assert not points.select("mcp.connection.duration")

    def test_a_closed_connection_is_counted_no_more_as_active_and_its_duration_is_known(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = _open(recorder)
        connection.close(End.CLOSED)
        points = collect()
        assert points.sum("mcp.connections.total") == 1
        assert points.sum("mcp.connections.active") == 0
        duration = _one(points, "mcp.connection.duration")
        assert duration.attributes == {ROLE: "server", TRANSPORT: "stdio", MODE: "stateful", STATUS: "closed"}
        assert 0 < duration.total < 60
        assert connection.closed

    @pytest.mark.parametrize("end", End)
    def test_every_ending_brings_active_back_to_zero_with_the_same_attributes(
        self, recorder: Recorder, collect: Collect, end: End
    ) -> None:
        connection = _open(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.close(end)
        points = collect()
        for metric in ("mcp.connections.active", "mcp.sessions.active"):
            assert [point.value for point in points.select(metric)] == [0]
        for metric in ("mcp.connection.duration", "mcp.session.duration"):
            assert _one(points, metric).attributes[STATUS] == end.value

    def test_the_first_end_counts(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        connection.establish(None, "2025-06-18")
        connection.close(End.TERMINATED)
        connection.close(End.ERROR, "ValueError")
        points = collect()
        for metric in ("mcp.connection.duration", "mcp.session.duration"):
            assert points.by(STATUS, metric) == {"terminated": 1}
        assert points.sum("mcp.connections.active") == points.sum("mcp.sessions.active") == 0

    def test_a_crash_is_named_after_its_exception(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder).close(End.ERROR, "ValueError")
        assert _one(collect(), "mcp.connection.duration").attributes[ERROR] == "ValueError"

    @pytest.mark.parametrize("end", [end for end in End if end is not End.ERROR])
    def test_only_a_crash_has_an_error_type(self, recorder: Recorder, collect: Collect, end: End) -> None:
        _open(recorder).close(end, "ValueError")
        assert ERROR not in _one(collect(), "mcp.connection.duration").attributes

    def test_a_stateless_exchange_is_a_connection(self, recorder: Recorder, collect: Collect) -> None:
        for _ in range(3):
            _open(recorder, Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS).close(End.CLOSED)
        points = collect()
        assert points.by(MODE, "mcp.connections.total") == {"stateless": 3}
        assert points.sum("mcp.connections.active") == 0
        assert points.sum("mcp.connection.duration", {MODE: "stateless"}) == 3

    def test_exception_names_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(exceptions=1))
        for name in ("ValueError", "KeyError", "ValueError"):
            _open(recorder).close(End.ERROR, name)
        recorder.retire()
        assert collect().by(ERROR, "mcp.connection.duration") == {"ValueError": 2, OTHER: 1}

    def test_server_names_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(servers=1))
        for name in ("a", "b"):
            _begin(_open(recorder, server_name=name), _INBOUND, "ping").end(OK)
        recorder.retire()
        assert collect().by(_SERVER_NAME, "mcp.requests.total") == {"a": 1, OTHER: 1}

    @pytest.mark.parametrize("name", [None, 7, ["server"]])
    def test_a_server_name_that_is_no_string_is_absent(self, recorder: Recorder, collect: Collect, name: Any) -> None:
        _begin(_open(recorder, server_name=name), _INBOUND, "ping").end(OK)
        assert _SERVER_NAME not in _one(collect(), "mcp.requests.total").attributes


class TestSessions:
    def test_a_session_is_counted_with_what_is_known_about_it(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT)
        assert not connection.has_session
        connection.establish("server", "2025-06-18")
        assert connection.has_session
        expected = {ROLE: "client", TRANSPORT: "stdio", _SERVER_NAME: "server", _VERSION: "2025-06-18"}
        points = collect()
        for metric in ("mcp.sessions.created", "mcp.sessions.active"):
            point = _one(points, metric)
            assert (point.attributes, point.value) == (expected, 1)

    def test_a_session_is_counted_once_per_connection(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        connection.establish("server", "2025-06-18")
        connection.establish("another", "2024-11-05")
        connection.close(End.CLOSED)
        points = collect()
        assert points.by(_VERSION, "mcp.sessions.created") == {"2025-06-18": 1}
        assert points.by(_VERSION, "mcp.session.duration") == {"2025-06-18": 1}
        assert points.sum("mcp.sessions.active") == 0

    def test_a_stateless_exchange_never_has_a_session(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(
            recorder, Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS, session_versions=["2025-06-18"]
        )
        connection.establish("server", "2025-06-18")
        assert not connection.has_session
        connection.close(End.CLOSED)
        points = collect()
        for metric in ("mcp.sessions.created", "mcp.sessions.active", "mcp.session.duration", "mcp.sessions.evicted"):
            assert not points.select(metric)

    def test_a_closed_connection_has_no_session_any_more(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        connection.close(End.CLOSED)
        connection.establish("server", "2025-06-18")
        assert not collect().select("mcp.sessions.created")

    def test_a_connection_without_a_session_ends_without_one(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder).close(End.CLOSED)
        points = collect()
        for metric in ("mcp.session.duration", "mcp.server.session.duration", "mcp.client.session.duration"):
            assert not points.select(metric)

    def test_what_becomes_known_later_does_not_change_the_attributes_a_session_ends_with(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = _open(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.identify("renamed", "2025-11-25")
        connection.close(End.CLOSED)
        points = collect()
        assert [(point.attributes[_SERVER_NAME], point.value) for point in points.select("mcp.sessions.active")] == [
            ("server", 0)
        ]
        assert _one(points, "mcp.session.duration").attributes[_SERVER_NAME] == "server"

    def test_an_unpublished_revision_has_no_name(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        connection.establish("server", "1999-01-01")
        assert connection.protocol_version == OTHER
        assert collect().by(_VERSION, "mcp.sessions.created") == {OTHER: 1}

    def test_an_eviction_is_counted_as_one(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
        connection.establish("server", "2025-06-18")
        connection.close(End.EVICTED)
        point = _one(collect(), "mcp.sessions.evicted")
        assert (point.attributes, point.value) == ({TRANSPORT: "streamable_http", "reason": "idle_timeout"}, 1)

    @pytest.mark.parametrize("end", [end for end in End if end is not End.EVICTED])
    def test_no_other_end_is_an_eviction(self, recorder: Recorder, collect: Collect, end: End) -> None:
        connection = _open(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
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
        connection = _open(recorder, role, Transport.STREAMABLE_HTTP)
        connection.establish("server", "2025-06-18")
        connection.close(End.CLOSED)
        points = collect()
        point = _one(points, metric)
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
        connection = _open(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.close(end, name)
        points = collect()
        assert _one(points, "mcp.client.session.duration").attributes.get(ERROR) == error
        assert ERROR not in _one(points, "mcp.session.duration").attributes


class TestRequests:
    def test_a_request_is_in_flight_until_it_ends(self, recorder: Recorder, collect: Collect) -> None:
        request = _begin(_open(recorder), _INBOUND, "tools/list")
        assert not request.ended
        point = _one(collect(), "mcp.requests.active")
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
        connection = _open(recorder, server_name="server")
        connection.establish(None, "2025-06-18")
        _begin(connection, _INBOUND, "resources/read", {"uri": "secret://x", "name": "secret"}).end(OK)
        points = collect()
        expected = {
            ROLE: "server",
            DIRECTION: "inbound",
            TRANSPORT: "stdio",
            _SERVER_NAME: "server",
            METHOD: "resources/read",
            STATUS: "ok",
        }
        assert _one(points, "mcp.requests.total").attributes == expected
        assert _one(points, "mcp.request.duration").attributes == expected
        assert _one(points, _SERVER_OPERATION).attributes == {
            METHOD: "resources/read",
            _VERSION: "2025-06-18",
            "network.transport": "pipe",
        }
        assert not points.select(_CLIENT_OPERATION)

    def test_counts_and_durations_agree_over_many_requests(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        for _ in range(1000):
            _begin(connection, _INBOUND, "ping").end(OK)
        points = collect()
        for metric in ("mcp.requests.total", "mcp.request.duration", _SERVER_OPERATION):
            assert points.sum(metric) == 1000
        assert points.sum("mcp.requests.active") == 0

    def test_each_collection_has_everything_up_to_it(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        for number in range(1, 6):
            _begin(connection, _INBOUND, "ping").end(OK)
            assert collect().sum("mcp.requests.total") == number

    def test_a_request_that_ends_twice_counts_once(self, recorder: Recorder, collect: Collect) -> None:
        request = _begin(_open(recorder), _INBOUND, "ping")
        request.end(CANCELLED)
        request.end(OK)
        request.abandon()
        points = collect()
        assert points.by(STATUS, "mcp.requests.total") == {"cancelled": 1}
        assert points.sum("mcp.requests.active") == 0

    def test_an_abandoned_request_never_was_one(self, recorder: Recorder, collect: Collect) -> None:
        request = _begin(_open(recorder), _OUTBOUND, "ping")
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
        request = _open(recorder).begin(_INBOUND, "ping", started=perf_counter() - 100.0)
        assert request is not None
        request.end(OK)
        points = collect()
        for metric in ("mcp.request.duration", _SERVER_OPERATION):
            assert 100.0 <= _one(points, metric).total < 160.0

    def test_a_request_ends_under_the_name_that_is_known_by_then(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT)
        request = _begin(connection, _OUTBOUND, "initialize")
        connection.identify("server", "2025-06-18")
        request.end(OK)
        points = collect()
        assert points.by(_SERVER_NAME, "mcp.requests.total") == {"server": 1}
        assert points.by(_VERSION, _CLIENT_OPERATION) == {"2025-06-18": 1}
        assert points.sum("mcp.requests.active") == 0

    def test_what_is_not_said_again_stays_known(self, recorder: Recorder) -> None:
        connection = _open(recorder, Role.CLIENT)
        connection.identify("server", "2025-06-18")
        connection.identify(None, None)
        assert connection.protocol_version == "2025-06-18"
        connection.identify("other")
        assert connection.protocol_version == "2025-06-18"

    def test_a_connection_remembers_the_requests_that_lost_their_peer(self, recorder: Recorder) -> None:
        connection = _open(recorder)
        for outcome in (OK, CANCELLED, TIMEOUT, CONNECTION_LOST, CONNECTION_LOST):
            _begin(connection, _INBOUND, "ping").end(outcome)
        assert connection.lost_requests == 2

    def test_methods_of_nobody_are_folded(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT)
        for method in ("x/one", "x/two", "ping"):
            _begin(connection, _OUTBOUND, method).end(OK)
        points = collect()
        assert points.by(METHOD, "mcp.requests.total") == {OTHER: 2, "ping": 1}
        assert {point.attributes[METHOD] for point in points.select("mcp.requests.active")} == {OTHER, "ping"}

    def test_methods_the_server_registered_are_named_up_to_their_limit(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(methods=1))
        registry = _Registry()
        registry.methods = {"x/one", "x/two"}
        connection = _open(recorder, registry=registry)
        for method in ("x/free", "x/one", "x/two", "x/one"):
            _begin(connection, _INBOUND, method).end(OK)
        recorder.retire()
        assert collect().by(METHOD, "mcp.requests.total") == {OTHER: 2, "x/one": 2}

    def test_an_open_ended_request_is_counted_but_not_timed(self, recorder: Recorder, collect: Collect) -> None:
        for direction in Direction:
            _begin(_open(recorder), direction, "subscriptions/listen").end(CANCELLED)
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
        _begin(_open(recorder), _OUTBOUND, "tools/list").end(outcome)
        points = collect()
        total = _one(points, "mcp.requests.total")
        assert (total.attributes[STATUS], total.attributes.get(ERROR)) == (status, error)
        duration = _one(points, "mcp.request.duration")
        assert duration.attributes[STATUS] == status
        assert ERROR not in duration.attributes

    def test_past_the_last_cell_requests_lose_their_method_but_not_their_count(
        self, recorder: Recorder, collect: Collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("opentelemetry_instrumentation_mcp.metrics.recorder._MOST_CELLS", 2)
        connection = _open(recorder)
        for method in ("ping", "tools/list", "prompts/list", "roots/list", "prompts/list", "ping"):
            _begin(connection, _INBOUND, method).end(OK)
        points = collect()
        assert points.by(METHOD, "mcp.requests.total") == {"ping": 2, "tools/list": 1, OTHER: 3}
        assert points.sum("mcp.requests.active") == 0


class TestOperations:
    """The histograms of the semantic conventions."""

    @pytest.mark.parametrize("role", Role)
    def test_who_receives_is_the_server_of_an_operation_whatever_the_process_is(
        self, recorder: Recorder, collect: Collect, role: Role
    ) -> None:
        connection = _open(recorder, role)
        _begin(connection, _INBOUND, "ping").end(OK)
        _begin(connection, _OUTBOUND, "roots/list").end(OK)
        points = collect()
        assert points.by(METHOD, _SERVER_OPERATION) == {"ping": 1}
        assert points.by(METHOD, _CLIENT_OPERATION) == {"roots/list": 1}

    @pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602, -32002])
    def test_a_caller_at_fault_is_no_error_of_the_server_and_one_of_the_client(
        self, recorder: Recorder, collect: Collect, code: int
    ) -> None:
        connection = _open(recorder)
        for direction in Direction:
            _begin(connection, direction, "ping").end(error_reply(code))
        points = collect()
        server, client = _one(points, _SERVER_OPERATION).attributes, _one(points, _CLIENT_OPERATION).attributes
        assert (server[_CODE], server.get(ERROR)) == (str(code), None)
        assert (client[_CODE], client.get(ERROR)) == (str(code), str(code))
        assert points.sum("mcp.requests.total", {STATUS: "client_error", ERROR: str(code)}) == 2

    @pytest.mark.parametrize("code", [0, -32603, -32000, -32020, -32042])
    @pytest.mark.parametrize("direction", Direction)
    def test_every_other_error_reply_is_an_error_on_both_sides(
        self, recorder: Recorder, collect: Collect, code: int, direction: Direction
    ) -> None:
        _begin(_open(recorder), direction, "ping").end(error_reply(code))
        metric = _SERVER_OPERATION if direction is _INBOUND else _CLIENT_OPERATION
        attributes = _one(collect(), metric).attributes
        assert (attributes[_CODE], attributes[ERROR]) == (str(code), str(code))

    @pytest.mark.parametrize("outcome", [TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST], ids=repr)
    @pytest.mark.parametrize("direction", Direction)
    def test_what_ends_without_an_error_reply_has_an_error_type_and_no_code(
        self, recorder: Recorder, collect: Collect, outcome: Outcome, direction: Direction
    ) -> None:
        _begin(_open(recorder), direction, "tools/call").end(outcome)
        metric = _SERVER_OPERATION if direction is _INBOUND else _CLIENT_OPERATION
        attributes = _one(collect(), metric).attributes
        assert attributes[ERROR] == outcome.error_type
        assert _CODE not in attributes

    def test_a_tool_call_is_the_execution_of_a_tool_and_nothing_else_is(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = _open(recorder)
        _call(connection, "add")
        _begin(connection, _INBOUND, "prompts/get", {"name": "greet"}).end(OK)
        points = collect()
        call = _one(points, _SERVER_OPERATION, {METHOD: "tools/call"}).attributes
        assert (call["gen_ai.operation.name"], call[TOOL]) == ("execute_tool", "add")
        get = _one(points, _SERVER_OPERATION, {METHOD: "prompts/get"}).attributes
        assert get[PROMPT] == "greet"
        assert "gen_ai.operation.name" not in get

    def test_the_conventions_know_nothing_of_our_attributes(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, server_name="server")
        for direction in Direction:
            _begin(connection, direction, "ping").end(OK)
        points = collect()
        for metric in (_SERVER_OPERATION, _CLIENT_OPERATION):
            ours = {ROLE, DIRECTION, TRANSPORT, _SERVER_NAME, STATUS}
            assert not ours & _one(points, metric).attributes.keys()

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
        _begin(_open(recorder, transport=transport), _INBOUND, "ping").end(OK)
        attributes = _one(collect(), _SERVER_OPERATION).attributes
        assert attributes.get("network.transport") == network
        assert attributes.get("network.protocol.name") == protocol

    def test_a_client_says_where_its_server_is(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT, Transport.STREAMABLE_HTTP, address=Address("mcp.example", 8000))
        connection.establish("server", "2025-06-18")
        _begin(connection, _OUTBOUND, "ping").end(OK)
        connection.close(End.CLOSED)
        points = collect()
        for metric in (_CLIENT_OPERATION, "mcp.client.session.duration"):
            attributes = _one(points, metric).attributes
            assert (attributes["server.address"], attributes["server.port"]) == ("mcp.example", 8000)
        for metric in ("mcp.requests.total", "mcp.connections.total", "mcp.sessions.created"):
            assert "server.address" not in _one(points, metric).attributes

    def test_addresses_are_bounded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(addresses=1))
        for port in (8000, 8001, 8000):
            connection = _open(recorder, Role.CLIENT, Transport.SSE, address=Address("mcp.example", port))
            _begin(connection, _OUTBOUND, "ping").end(OK)
        recorder.retire()
        points = collect()
        assert points.by("server.address", _CLIENT_OPERATION) == {"mcp.example": 2, OTHER: 1}
        assert points.by("server.port", _CLIENT_OPERATION) == {"8000": 2, "None": 1}


class TestNotifications:
    @pytest.mark.parametrize(
        ("direction", "metric", "absent"),
        [(_INBOUND, _SERVER_OPERATION, _CLIENT_OPERATION), (_OUTBOUND, _CLIENT_OPERATION, _SERVER_OPERATION)],
    )
    def test_a_notification_is_counted_and_timed_but_is_no_request(
        self, recorder: Recorder, collect: Collect, direction: Direction, metric: str, absent: str
    ) -> None:
        connection = _open(recorder, Role.CLIENT)
        connection.notified(direction, "notifications/progress", 0.25)
        connection.notified(direction, "notifications/progress", 0.5)
        points = collect()
        count = _one(points, "mcp.notifications.total")
        assert count.value == 2
        assert count.attributes == {
            ROLE: "client",
            DIRECTION: direction.value,
            TRANSPORT: "stdio",
            METHOD: "notifications/progress",
        }
        duration = _one(points, metric)
        assert (duration.value, duration.total) == (2, 0.75)
        assert duration.attributes == {METHOD: "notifications/progress", "network.transport": "pipe"}
        for name in (absent, "mcp.requests.total", "mcp.requests.active", "mcp.request.duration"):
            assert not points.select(name)

    def test_notifications_of_nobody_are_folded(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder).notified(_INBOUND, "notifications/x")
        assert collect().by(METHOD, "mcp.notifications.total") == {OTHER: 1}


class TestNames:
    def test_a_registered_name_is_shown_however_the_call_ends(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, registry=_Registry(tools=["add"]))
        for outcome in (OK, TOOL_ERROR, error_reply(-32602), CANCELLED):
            _call(connection, "add", outcome)
        assert collect().by(TOOL, "mcp.requests.total") == {"add": 4}

    def test_a_name_the_server_can_list_and_does_not_is_folded(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, registry=_Registry(tools=["add"]))
        for name in ("free", "choice"):
            _call(connection, name, OK)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 2}

    def test_a_name_the_server_knows_when_asked_is_registered(self, recorder: Recorder, collect: Collect) -> None:
        registry = _Registry()
        registry.hidden = {"dynamic"}
        connection = _open(recorder, registry=registry)
        for name in ("dynamic", "free"):
            _call(connection, name, TOOL_ERROR)
        assert collect().by(TOOL, "mcp.requests.total") == {"dynamic": 1, OTHER: 1}

    def test_where_nobody_lists_a_success_proves_a_name(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, registry=_Registry(listing=False))
        _call(connection, "add", TOOL_ERROR)
        _call(connection, "add", OK)
        _call(connection, "add", error_reply(-32602))
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1, "add": 2}

    @pytest.mark.parametrize(
        "outcome", [TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST, error_reply(-32602), error_reply(0)], ids=repr
    )
    def test_nothing_but_a_success_proves_a_name(self, recorder: Recorder, collect: Collect, outcome: Outcome) -> None:
        connection = _open(recorder, Role.CLIENT)
        _call(connection, "add", outcome, _OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1}

    def test_at_most_twenty_names_are_proved(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT)
        for number in range(30):
            _call(connection, f"t{number}", OK, _OUTBOUND)
        shown = collect().by(TOOL, "mcp.requests.total")
        assert len(shown) == 21
        assert shown[OTHER] == 10

    def test_a_clients_names_are_those_its_server_has_listed(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT, server_name="server")
        connection.listed(_OUTBOUND, "tools/list", {"tools": [{"name": "add"}, {"name": "sub"}]})
        for name in ("add", "free"):
            _call(connection, name, OK, _OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {"add": 1, OTHER: 1}

    def test_a_listing_of_tools_says_nothing_about_prompts(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT, server_name="server")
        connection.listed(_OUTBOUND, "tools/list", {"tools": []})
        _begin(connection, _OUTBOUND, "prompts/get", {"name": "greet"}).end(OK)
        assert collect().by(PROMPT, "mcp.requests.total") == {"greet": 1}

    def test_a_listing_of_one_server_says_nothing_about_another(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder, Role.CLIENT, server_name="one").listed(_OUTBOUND, "tools/list", {"tools": []})
        _call(_open(recorder, Role.CLIENT, server_name="two"), "add", OK, _OUTBOUND)
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
        connection = _open(recorder, Role.CLIENT)
        connection.listed(_OUTBOUND, "tools/list", result)
        _call(connection, "add", OK, _OUTBOUND)
        shown = collect().select("mcp.requests.total")
        assert [(point.attributes[TOOL], point.value) for point in shown] == [(OTHER, 1)]

    @pytest.mark.parametrize("params", [None, {}, {"name": None}, {"name": 7}, {"name": ["add"]}, ["add"], "add"])
    def test_a_call_that_names_nothing_has_no_name(self, recorder: Recorder, collect: Collect, params: object) -> None:
        _begin(_open(recorder), _INBOUND, "tools/call", params).end(error_reply(-32602))
        points = collect()
        assert points.sum("mcp.requests.total") == 1
        assert TOOL not in _one(points, "mcp.requests.total").attributes

    @pytest.mark.parametrize("method", ["resources/read", "tools/list", "x/call"])
    def test_only_tools_and_prompts_have_names(self, recorder: Recorder, collect: Collect, method: str) -> None:
        connection = _open(recorder, Role.CLIENT)
        _call(connection, "add", OK, _OUTBOUND)
        _begin(connection, _OUTBOUND, method, {"name": "add"}).end(OK)
        assert not {TOOL, PROMPT} & _one(collect(), "mcp.requests.total", {TOOL: None}).attributes.keys()

    def test_a_server_that_calls_its_client_does_not_use_its_own_names(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = _Registry()
        registry.hidden = {"mine"}
        _call(_open(recorder, registry=registry), "mine", TOOL_ERROR, _OUTBOUND)
        assert collect().by(TOOL, "mcp.requests.total") == {OTHER: 1}

    def test_a_name_that_finds_no_place_any_more_is_folded(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(names=1))
        connection = _open(recorder, registry=_Registry(tools=["a", "b"]))
        for name in ("a", "b"):
            _call(connection, name)
        recorder.retire()
        assert collect().by(TOOL, "mcp.requests.total") == {"a": 1, OTHER: 1}


class TestZeroSeries:
    def test_a_registered_tool_begins_at_zero_for_success_tool_error_and_crash(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        _open(recorder, server_name="server", registry=_Registry(tools=["add"]))
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
            assert point.attributes[_SERVER_NAME] == "server"

    def test_a_registered_prompt_has_no_tool_errors(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder, registry=_Registry(prompts=["greet"]))
        shown = collect().select("mcp.requests.total", {PROMPT: "greet", METHOD: "prompts/get"})
        assert {(point.attributes[STATUS], point.value) for point in shown} == {("ok", 0), ("server_error", 0)}

    def test_a_crash_has_the_code_the_sdk_answers_with(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, registry=_Registry(tools=["add"]), crash_code="-32603")
        assert connection.crash_code == -32603
        shown = collect().select("mcp.requests.total", {STATUS: "server_error"})
        assert [point.attributes[ERROR] for point in shown] == ["-32603"]

    def test_a_call_moves_the_series_that_began_at_zero(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, server_name="server", registry=_Registry(tools=["add"]))
        connection.establish(None, "2025-06-18")
        before = len(collect().select("mcp.requests.total"))
        for outcome in (OK, TOOL_ERROR, error_reply(0)):
            _call(connection, "add", outcome)
        points = collect()
        assert points.by(STATUS, "mcp.requests.total") == {"ok": 1, "tool_error": 1, "server_error": 1}
        assert len(points.select("mcp.requests.total")) == before

    def test_histograms_do_not_begin_at_zero(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder, registry=_Registry(tools=["add"]), session_versions=["2025-06-18"])
        assert {point.metric for point in collect().all} == {
            "mcp.connections.total",
            "mcp.connections.active",
            "mcp.sessions.created",
            "mcp.requests.total",
            "mcp.memory.usage",
        }

    def test_names_a_server_listed_to_a_client_begin_at_zero_there(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder, Role.CLIENT, server_name="server")
        connection.listed(_OUTBOUND, "tools/list", {"tools": [{"name": "add"}]})
        shown = collect().select("mcp.requests.total", {TOOL: "add", DIRECTION: "outbound", _SERVER_NAME: "server"})
        assert {(point.attributes[STATUS], point.value) for point in shown} == {
            ("ok", 0),
            ("tool_error", 0),
            ("server_error", 0),
        }

    def test_sessions_of_a_server_begin_at_zero_for_every_revision_it_can_speak(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = _open(recorder, server_name="server", session_versions=["2025-03-26", "2025-06-18"])
        shown = collect().select("mcp.sessions.created", {_SERVER_NAME: "server"})
        assert {(point.attributes[_VERSION], point.value) for point in shown} == {("2025-03-26", 0), ("2025-06-18", 0)}
        connection.establish(None, "2025-06-18")
        assert collect().by(_VERSION, "mcp.sessions.created") == {"2025-06-18": 1}

    def test_evictions_begin_at_zero_where_they_can_happen(self, recorder: Recorder, collect: Collect) -> None:
        _open(recorder, Role.SERVER, Transport.STREAMABLE_HTTP)
        point = _one(collect(), "mcp.sessions.evicted")
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
        _open(recorder, role, transport, mode)
        assert not collect().select("mcp.sessions.evicted")

    def test_a_later_connection_adds_the_names_that_came_since(self, recorder: Recorder, collect: Collect) -> None:
        registry = _Registry(tools=["add"])
        _open(recorder, registry=registry)
        registry.table[Target.TOOL] = ["add", "sub"]
        _open(recorder, registry=registry)
        shown = collect().select("mcp.requests.total", {STATUS: "ok"})
        assert {point.attributes[TOOL] for point in shown} == {"add", "sub"}

    def test_a_name_known_from_one_server_begins_at_zero_on_another_too(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        for server in ("one", "two"):
            _open(recorder, server_name=server, registry=_Registry(tools=["add"]))
        shown = collect().select("mcp.requests.total", {STATUS: "ok", TOOL: "add"})
        assert {point.attributes[_SERVER_NAME] for point in shown} == {"one", "two"}

    def test_a_known_name_begins_at_zero_though_one_before_it_found_no_place(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(names=1))
        _open(recorder, server_name="one", registry=_Registry(tools=["known"]))
        _open(recorder, server_name="two", registry=_Registry(tools=["late", "known"]))
        points = collect()
        recorder.retire()
        assert points.select("mcp.requests.total", {TOOL: "known", _SERVER_NAME: "two"})

    def test_a_name_that_took_the_place_of_another_begins_at_zero_on_the_next_connection(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = _Registry(tools=["add"])
        _open(recorder, registry=registry)
        registry.table[Target.TOOL] = ["sub"]
        _open(recorder, registry=registry)
        assert collect().select("mcp.requests.total", {TOOL: "sub"})

    def test_a_name_that_is_first_known_by_a_call_begins_at_zero_for_its_other_ends(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        registry = _Registry()
        connection = _open(recorder, registry=registry)
        registry.table[Target.TOOL] = ["added later"]
        _call(connection, "added later", OK)
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
        connection = _open(recorder, registry=_Registry(tools=tools))
        for number, name in enumerate(tools):
            _call(connection, name, (OK, TOOL_ERROR, error_reply(-32602))[number % 3])
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
        connections = [_open(recorder, Role.CLIENT, server_name=f"s{number}") for number in range(40)]
        for connection in connections:
            connection.establish(None, "2025-06-18")
        assert collect().sum("mcp.sessions.active") == 40
        for connection in connections:
            connection.close(End.CLOSED)
        points = collect()
        recorder.retire()
        assert len(points.select("mcp.sessions.active")) == 10
        assert {point.value for point in points.select("mcp.sessions.active")} == {0}

    def test_the_limits_come_from_the_environment(
        self, provider: MeterProvider, collect: Collect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "1")
        recorder = Recorder(provider)
        connection = _open(recorder, registry=_Registry(tools=["a", "b"]))
        for name in ("a", "b"):
            _call(connection, name)
        recorder.retire()
        assert collect().by(TOOL, "mcp.requests.total") == {"a": 1, OTHER: 1}

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
        point = _one(collect(), "mcp.memory.usage")
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
                _begin(_open(recorder), _INBOUND, "ping").end(OK)
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
        connection = _open(recorder)
        request = _begin(connection, _INBOUND, "ping")
        waiting = connection.series.active(_INBOUND, "ping")
        request.end(OK)
        assert waiting.values == [-1]
        other_reader = InMemoryMetricReader()
        other_provider = MeterProvider([other_reader])
        other = Recorder(other_provider, Limits())
        Points.of(other_reader)
        assert waiting.values == [-1]
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
        connection = _open(recorder)
        seen: list[tuple[float, float]] = []
        for count in (1, 10, 0, 300):
            for _ in range(count):
                _begin(connection, _INBOUND, "ping").end(OK)
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
        connection = _open(recorder)
        for _ in range(10):
            _begin(connection, _INBOUND, "ping").end(OK)
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
        connection = _open(recorder)
        for _ in range(10):
            _begin(connection, _INBOUND, "ping").end(OK)
        points = collect()
        assert points.sum("mcp.requests.total") == 10
        assert len(points.select("mcp.memory.usage")) == 1
        recorder.retire()

    def test_two_recorders_on_one_provider_add_up_and_observe_memory_once(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorders = [Recorder(provider, Limits()) for _ in range(2)]
        for recorder in recorders:
            connection = _open(recorder)
            for _ in range(10):
                _begin(connection, _INBOUND, "ping").end(OK)
        points = collect()
        assert points.sum("mcp.requests.total") == 20
        recorders[0].retire()
        alone = _one(collect(), "mcp.memory.usage").value
        assert _one(points, "mcp.memory.usage").value < 1.5 * alone
        recorders[1].retire()


class TestRetirement:
    def test_what_was_kept_is_handed_over(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        for _ in range(10):
            _begin(connection, _INBOUND, "ping").end(OK)
        recorder.retire()
        assert collect().sum("mcp.requests.total") == 10

    def test_memory_is_observed_no_longer(self, recorder: Recorder, collect: Collect) -> None:
        assert collect().select("mcp.memory.usage")
        recorder.retire()
        assert not collect().select("mcp.memory.usage")

    def test_what_was_open_still_ends_and_balances(self, recorder: Recorder, collect: Collect) -> None:
        connection = _open(recorder)
        connection.establish("server", "2025-06-18")
        requests = [_begin(connection, _INBOUND, "ping") for _ in range(3)]
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
        _begin(_open(recorder), _INBOUND, "ping").end(OK)
        recorder.retire()
        recorder.retire()
        assert collect().sum("mcp.requests.total") == 1


def test_without_a_provider_everything_is_accepted_and_nothing_is_recorded() -> None:
    recorder = Recorder(None, Limits())
    connection = _open(recorder, server_name="server", registry=_Registry(tools=["add"]))
    connection.establish(None, "2025-06-18")
    _call(connection, "add")
    connection.close(End.CLOSED)
    recorder.retire()


def test_the_scope_is_the_package_and_its_version(recorder: Recorder, reader: InMemoryMetricReader) -> None:
    _open(recorder)
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("opentelemetry_instrumentation_mcp", __version__)


def test_a_registry_that_raises_costs_a_metric_and_not_the_request(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(_Registry):
        def knows(self, target: Target, name: str) -> bool:
            raise RuntimeError

    reported: list[str] = []

    def note(where: str, error: BaseException) -> None:
        reported.append(where)

    monkeypatch.setattr("opentelemetry_instrumentation_mcp.safety.report", note)
    connection = _open(recorder, registry=Broken())
    _call(connection, "add")
    assert reported == ["Request.end"]


def test_every_metric_of_the_catalogue_can_be_moved(recorder: Recorder, collect: Collect) -> None:
    for role in Role:
        connection = _open(recorder, role, Transport.STREAMABLE_HTTP, session_versions=["2025-06-18"])
        connection.establish("server", "2025-06-18")
        for direction in Direction:
            _begin(connection, direction, "ping").end(OK)
            connection.notified(direction, "notifications/progress")
        connection.close(End.EVICTED)
    points = collect()
    assert {point.metric for point in points.all} == {metric.name for metric in catalogue.CATALOGUE}
    for metric in catalogue.CATALOGUE:
        for point in points.select(metric.name):
            assert point.attributes.keys() <= set(metric.attributes)
