"""Signs of life, deaths, and what a death means for the end of a connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.outcome import (
    CANCELLED,
    CONNECTION_LOST,
    OK,
    TIMEOUT,
    End,
    Outcome,
    error_reply,
    http_error,
)
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection, Request
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Death, Direction, Heartbeat, Mode, Role, Transport

from ..points import DIRECTION, ROLE, STATUS, TRANSPORT, Points
from .recording import INBOUND, OUTBOUND, Collect, begin, call, connect, one

pytestmark = pytest.mark.usefixtures("nothing_is_swallowed")

_CHECKS = "mcp.session.heartbeat_checks"
_DEATHS = "mcp.session.dead_detected"

_ERROR_REPLIES = [error_reply(-32601), error_reply(-32603), error_reply(-32001), error_reply(408), error_reply(4711)]
"""Replies of a peer, among them its own timeouts: it must be alive to send them."""


def _checks(points: Points) -> dict[tuple[str, str], float]:
    """The checks made, by direction and kind."""
    return {
        (point.attributes[DIRECTION], point.attributes["kind"]): point.value
        for point in points.select(_CHECKS)
        if point.value
    }


def _deaths(points: Points) -> dict[str, float]:
    return points.by("reason", _DEATHS)


def ping(connection: Connection) -> Request:
    """A ping that is on its way."""
    request = begin(connection, OUTBOUND, "ping")
    request.sent()
    return request


class TestChecks:
    @pytest.mark.parametrize("role", Role)
    def test_a_ping_is_a_check_as_soon_as_it_is_sent(self, recorder: Recorder, collect: Collect, role: Role) -> None:
        ping(connect(recorder, role, Transport.SSE))
        point = one(collect(), _CHECKS, {DIRECTION: "outbound", "kind": "ping"})
        assert point.value == 1
        assert point.attributes == {ROLE: role.value, TRANSPORT: "sse", DIRECTION: "outbound", "kind": "ping"}

    @pytest.mark.parametrize("outcome", [OK, CANCELLED, TIMEOUT, CONNECTION_LOST, *_ERROR_REPLIES], ids=repr)
    def test_a_ping_that_was_sent_is_one_check_however_it_ends(
        self, recorder: Recorder, collect: Collect, outcome: Outcome
    ) -> None:
        ping(connect(recorder, Role.CLIENT)).end(outcome)
        assert _checks(collect()) == {("outbound", "ping"): 1}

    def test_an_answered_ping_is_a_check_when_it_is_answered(self, recorder: Recorder, collect: Collect) -> None:
        request = begin(connect(recorder), INBOUND, "ping")
        assert _checks(collect()) == {}
        request.end(OK)
        request.end(OK)
        assert _checks(collect()) == {("inbound", "ping"): 1}

    @pytest.mark.parametrize("outcome", [CANCELLED, TIMEOUT, CONNECTION_LOST, *_ERROR_REPLIES], ids=repr)
    def test_a_ping_without_a_result_is_not_answered(
        self, recorder: Recorder, collect: Collect, outcome: Outcome
    ) -> None:
        begin(connect(recorder), INBOUND, "ping").end(outcome)
        assert _checks(collect()) == {}

    @pytest.mark.parametrize("direction", Direction)
    def test_nothing_but_a_ping_is_a_check(self, recorder: Recorder, collect: Collect, direction: Direction) -> None:
        connection = connect(recorder)
        for method in ("tools/list", "initialize", "x/ping", "server/discover"):
            begin(connection, direction, method).end(OK)
        connection.notified(direction, "ping")
        assert _checks(collect()) == {}

    @pytest.mark.parametrize("written", [False, None], ids=["refused by the SDK", "the connection is over"])
    def test_a_ping_that_was_never_sent_is_no_check(
        self, recorder: Recorder, collect: Collect, written: bool | None
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        if written is None:
            connection.close(End.CLOSED)
        request = begin(connection, OUTBOUND, "ping")
        if written is None:
            request.sent()
            request.end(CONNECTION_LOST)
        else:
            request.abandon()
        assert _checks(collect()) == {}

    @pytest.mark.parametrize("transport", [Transport.SSE, Transport.STREAMABLE_HTTP])
    def test_a_keepalive_frame_is_a_check_of_a_server(
        self, recorder: Recorder, collect: Collect, transport: Transport
    ) -> None:
        for _ in range(3):
            recorder.keepalive(transport)
        point = one(collect(), _CHECKS)
        assert point.value == 3
        assert point.attributes == {
            ROLE: "server",
            TRANSPORT: transport.value,
            DIRECTION: "outbound",
            "kind": "sse_keepalive",
        }

    def test_connections_of_one_transport_share_their_checks(self, recorder: Recorder, collect: Collect) -> None:
        for name in ("one", "two"):
            ping(connect(recorder, Role.CLIENT, server_name=name)).end(OK)
        assert one(collect(), _CHECKS, {DIRECTION: "outbound"}).value == 2

    def test_a_check_can_be_told_without_a_request(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.heartbeat(OUTBOUND, Heartbeat.PING)
        assert _checks(collect()) == {("outbound", "ping"): 1}


class TestDeaths:
    @pytest.mark.parametrize("reason", Death)
    def test_a_death_says_who_found_it_and_how(self, recorder: Recorder, collect: Collect, reason: Death) -> None:
        connect(recorder, Role.CLIENT, Transport.STREAMABLE_HTTP).dead(reason)
        point = one(collect(), _DEATHS, {"reason": reason.value})
        assert point.value == 1
        assert point.attributes == {ROLE: "client", TRANSPORT: "streamable_http", "reason": reason.value}

    def test_a_peer_dies_once_and_of_the_first_cause(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        for reason in (Death.WRITE_FAILED, Death.PING_FAILED, Death.WRITE_FAILED, Death.PEER_CLOSED):
            connection.dead(reason)
        connection.close(End.PEER_LOST)
        assert _deaths(collect()) == {"write_failed": 1}

    def test_each_connection_has_a_peer_of_its_own(self, recorder: Recorder, collect: Collect) -> None:
        for _ in range(3):
            connect(recorder, Role.CLIENT).dead(Death.WRITE_FAILED)
        assert _deaths(collect()) == {"write_failed": 3}

    @pytest.mark.parametrize("end", [end for end in End if end is not End.PEER_LOST])
    @pytest.mark.parametrize("reason", Death)
    def test_nobody_dies_after_the_end(self, recorder: Recorder, collect: Collect, end: End, reason: Death) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.close(end)
        connection.dead(reason)
        connection.close(End.PEER_LOST)
        points = collect()
        assert _deaths(points) == {}
        assert points.by(STATUS, "mcp.connection.duration") == {end.value: 1}

    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("outcome", [TIMEOUT, CONNECTION_LOST], ids=repr)
    def test_a_ping_that_nothing_answers_finds_the_peer_dead(
        self, recorder: Recorder, collect: Collect, role: Role, outcome: Outcome
    ) -> None:
        connection = connect(recorder, role)
        for _ in range(2):
            ping(connection).end(outcome)
        points = collect()
        assert _deaths(points) == {"ping_failed": 1}
        assert points.by(ROLE, _DEATHS) == {role.value: 1}

    @pytest.mark.parametrize("outcome", [OK, *_ERROR_REPLIES], ids=repr)
    def test_any_reply_to_a_ping_proves_life(self, recorder: Recorder, collect: Collect, outcome: Outcome) -> None:
        ping(connect(recorder, Role.CLIENT)).end(outcome)
        assert _deaths(collect()) == {}

    @pytest.mark.parametrize("outcome", [CANCELLED, http_error(401), http_error(503)], ids=repr)
    def test_a_ping_that_was_given_up_or_refused_proves_nothing(
        self, recorder: Recorder, collect: Collect, outcome: Outcome
    ) -> None:
        ping(connect(recorder, Role.CLIENT)).end(outcome)
        assert _deaths(collect()) == {}

    @pytest.mark.parametrize("outcome", [TIMEOUT, CONNECTION_LOST], ids=repr)
    def test_only_a_ping_finds_a_peer_dead_by_its_silence(
        self, recorder: Recorder, collect: Collect, outcome: Outcome
    ) -> None:
        call(connect(recorder, Role.CLIENT), "slow", outcome, OUTBOUND)
        assert _deaths(collect()) == {}

    @pytest.mark.parametrize("outcome", [CANCELLED, TIMEOUT, CONNECTION_LOST, error_reply(0)], ids=repr)
    def test_a_ping_of_the_peer_that_was_not_answered_says_nothing_about_the_peer(
        self, recorder: Recorder, collect: Collect, outcome: Outcome
    ) -> None:
        begin(connect(recorder), INBOUND, "ping").end(outcome)
        assert _deaths(collect()) == {}

    def test_a_ping_that_is_lost_because_the_connection_is_over_finds_nobody_dead(
        self, recorder: Recorder, collect: Collect
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        request = begin(connection, OUTBOUND, "ping")
        connection.close(End.CLOSED)
        request.end(CONNECTION_LOST)
        points = collect()
        assert _deaths(points) == {}
        assert points.by(STATUS, "mcp.connection.duration") == {"closed": 1}


class TestEndings:
    @pytest.mark.parametrize("role", Role)
    def test_a_lost_peer_is_a_death(self, recorder: Recorder, collect: Collect, role: Role) -> None:
        connect(recorder, role, Transport.WEBSOCKET).close(End.PEER_LOST)
        point = one(collect(), _DEATHS, {"reason": "peer_closed"})
        assert (point.attributes[ROLE], point.attributes[TRANSPORT], point.value) == (role.value, "websocket", 1)

    @pytest.mark.parametrize("end", [end for end in End if end is not End.PEER_LOST])
    def test_no_other_end_is_a_death(self, recorder: Recorder, collect: Collect, end: End) -> None:
        connect(recorder, Role.CLIENT).close(end, "ValueError")
        assert _deaths(collect()) == {}

    @pytest.mark.parametrize("reason", Death)
    def test_a_connection_that_closes_after_a_death_has_lost_its_peer(
        self, recorder: Recorder, collect: Collect, reason: Death
    ) -> None:
        connection = connect(recorder, Role.CLIENT)
        connection.establish("server", "2025-06-18")
        connection.dead(reason)
        connection.close(End.CLOSED)
        points = collect()
        for metric in ("mcp.connection.duration", "mcp.session.duration"):
            assert points.by(STATUS, metric) == {"peer_lost": 1}
        assert points.by("error.type", "mcp.client.session.duration") == {"ConnectionError": 1}
        assert _deaths(points) == {reason.value: 1}

    @pytest.mark.parametrize("end", [End.TERMINATED, End.EVICTED, End.SHUTDOWN, End.ERROR])
    def test_an_end_with_a_cause_of_its_own_keeps_it(self, recorder: Recorder, collect: Collect, end: End) -> None:
        connection = connect(recorder)
        connection.dead(Death.PING_FAILED)
        connection.close(end, "ValueError")
        points = collect()
        assert points.by(STATUS, "mcp.connection.duration") == {end.value: 1}
        assert _deaths(points) == {"ping_failed": 1}

    @pytest.mark.parametrize("end", [End.CLOSED, End.PEER_LOST])
    def test_a_death_and_a_lost_peer_are_counted_alike(self, recorder: Recorder, collect: Collect, end: End) -> None:
        for reason in Death:
            connection = connect(recorder, Role.CLIENT)
            connection.dead(reason)
            connection.close(end)
        connect(recorder, Role.CLIENT).close(End.CLOSED)
        points = collect()
        assert points.sum(_DEATHS) == points.sum("mcp.connection.duration", {STATUS: "peer_lost"}) == len(Death)


def _lost_ping(connection: Connection) -> None:
    ping(connection).end(TIMEOUT)


def _answered_ping(connection: Connection) -> None:
    begin(connection, INBOUND, "ping").end(OK)


def _lost_session(connection: Connection) -> None:
    connection.dead(Death.SESSION_NOT_FOUND)


def _lost_peer(connection: Connection) -> None:
    connection.close(End.PEER_LOST)


_PINGS = {("inbound", "ping"), ("outbound", "ping")}
_KEEPALIVES = {("outbound", "sse_keepalive")}


class TestZeroSeries:
    @pytest.mark.parametrize(
        ("role", "transport", "mode", "expected"),
        [
            (Role.CLIENT, Transport.STDIO, Mode.STATEFUL, _PINGS),
            (Role.CLIENT, Transport.STREAMABLE_HTTP, Mode.STATEFUL, _PINGS),
            (Role.CLIENT, Transport.SSE, Mode.STATEFUL, _PINGS),
            (Role.SERVER, Transport.STDIO, Mode.STATEFUL, _PINGS),
            (Role.SERVER, Transport.WEBSOCKET, Mode.STATEFUL, _PINGS),
            (Role.SERVER, Transport.IN_MEMORY, Mode.STATEFUL, _PINGS),
            (Role.SERVER, Transport.SSE, Mode.STATEFUL, _PINGS | _KEEPALIVES),
            (Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATEFUL, _PINGS | _KEEPALIVES),
            (Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS, _KEEPALIVES),
        ],
    )
    def test_checks_begin_at_zero_when_a_connection_opens(
        self,
        recorder: Recorder,
        collect: Collect,
        role: Role,
        transport: Transport,
        mode: Mode,
        expected: set[tuple[str, str]],
    ) -> None:
        connect(recorder, role, transport, mode)
        shown = collect().select(_CHECKS)
        assert {(point.attributes[DIRECTION], point.attributes["kind"]) for point in shown} == expected
        for point in shown:
            assert (point.value, point.attributes[ROLE], point.attributes[TRANSPORT]) == (
                0,
                role.value,
                transport.value,
            )

    @pytest.mark.parametrize(
        ("role", "transport", "mode", "expected"),
        [
            *(
                (role, transport, Mode.STATEFUL, {"ping_failed", "peer_closed", "write_failed"})
                for role in Role
                for transport in Transport
                if (role, transport) != (Role.CLIENT, Transport.STREAMABLE_HTTP)
            ),
            (
                Role.CLIENT,
                Transport.STREAMABLE_HTTP,
                Mode.STATEFUL,
                {"ping_failed", "peer_closed", "write_failed", "session_not_found"},
            ),
            (Role.SERVER, Transport.STREAMABLE_HTTP, Mode.STATELESS, {"peer_closed", "write_failed"}),
        ],
    )
    def test_deaths_begin_at_zero_in_every_way_the_connection_can_die(
        self, recorder: Recorder, collect: Collect, role: Role, transport: Transport, mode: Mode, expected: set[str]
    ) -> None:
        connect(recorder, role, transport, mode)
        shown = collect().select(_DEATHS)
        assert {point.attributes["reason"] for point in shown} == expected
        for point in shown:
            assert (point.value, point.attributes[ROLE], point.attributes[TRANSPORT]) == (
                0,
                role.value,
                transport.value,
            )

    @pytest.mark.parametrize("event", [_lost_ping, _answered_ping, _lost_session, _lost_peer])
    def test_what_happens_moves_a_series_that_began_at_zero(
        self, recorder: Recorder, collect: Collect, event: Callable[[Connection], None]
    ) -> None:
        connection = connect(recorder, Role.CLIENT, Transport.STREAMABLE_HTTP)
        before = collect()
        event(connection)
        after = collect()
        for metric in (_CHECKS, _DEATHS):
            assert [point.attributes for point in after.select(metric)] == [
                point.attributes for point in before.select(metric)
            ]
        assert after.sum(_CHECKS) + after.sum(_DEATHS) > 0

    def test_a_second_connection_does_not_set_them_back(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder, Role.CLIENT)
        ping(connection).end(TIMEOUT)
        connect(recorder, Role.CLIENT)
        points = collect()
        assert _checks(points) == {("outbound", "ping"): 1}
        assert _deaths(points) == {"ping_failed": 1}
