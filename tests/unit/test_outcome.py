from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import pytest

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER
from opentelemetry_instrumentation_mcp.metrics.outcome import (
    CALLER_FAULTS,
    CANCELLED,
    CONNECTION_LOST,
    OK,
    TIMEOUT,
    TOOL_ERROR,
    End,
    error_reply,
    http_error,
    number_name,
    status_name,
)
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Role, Transport

from ..points import Points

_BLAME_THE_CALLER = (-32700, -32600, -32601, -32602, -32002)
_OTHER_CLIENT_ERRORS = (-32020, -32021, -32022, -32042)
_SERVER_ERRORS = (0, 408, -32000, -32001, -32603)


@pytest.mark.parametrize("code", _BLAME_THE_CALLER + _OTHER_CLIENT_ERRORS)
def test_a_reply_that_refuses_what_was_asked_is_a_client_error(code: int) -> None:
    outcome = error_reply(code)
    assert (outcome.status, outcome.error_type, outcome.code) == ("client_error", str(code), str(code))


@pytest.mark.parametrize("code", _BLAME_THE_CALLER)
def test_the_conventions_hold_five_codes_against_the_caller(code: int) -> None:
    assert error_reply(code).caller_fault


@pytest.mark.parametrize("code", (*_OTHER_CLIENT_ERRORS, *_SERVER_ERRORS, -32800, 1))
def test_the_conventions_hold_no_other_code_against_the_caller(code: int) -> None:
    assert not error_reply(code).caller_fault


def test_the_codes_that_blame_the_caller_are_the_conventions() -> None:
    assert frozenset(_BLAME_THE_CALLER) == CALLER_FAULTS


@pytest.mark.parametrize("code", _SERVER_ERRORS)
def test_every_other_known_reply_is_a_server_error_even_the_peers_own_timeout(code: int) -> None:
    outcome = error_reply(code)
    assert (outcome.status, outcome.error_type, outcome.code) == ("server_error", str(code), str(code))


@pytest.mark.parametrize("code", [1, -5, 404, -32099, -32801, 32601, 10**20])
def test_an_unknown_code_is_a_server_error_without_a_name(code: int) -> None:
    outcome = error_reply(code)
    assert (outcome.status, outcome.error_type, outcome.code) == ("server_error", OTHER, OTHER)


@pytest.mark.parametrize("code", [None, "-32602", -32602.0, True, False, [-32602], object()])
def test_a_code_that_is_no_integer_is_an_unknown_one(code: object) -> None:
    outcome = error_reply(code)
    assert (outcome.status, outcome.error_type, outcome.code) == ("server_error", OTHER, OTHER)


def test_the_terminated_session_of_1x_gets_its_minus_sign_back() -> None:
    assert error_reply(32600) is error_reply(-32600)
    assert error_reply(32600).error_type == "-32600"


def test_the_protocols_own_code_for_a_cancelled_request_is_a_cancellation() -> None:
    outcome = error_reply(-32800)
    assert (outcome.status, outcome.error_type, outcome.code) == ("cancelled", "-32800", "-32800")


def test_code_0_is_a_cancellation_when_1x_says_so() -> None:
    assert error_reply(0, "Request cancelled").status == "cancelled"


@pytest.mark.parametrize("message", [None, "", "request cancelled", "Request cancelled.", 0])
def test_code_0_with_any_other_message_is_a_crashed_handler(message: object) -> None:
    assert error_reply(0, message).status == "server_error"


def test_the_message_of_1x_means_nothing_with_another_code() -> None:
    assert error_reply(-32603, "Request cancelled").status == "server_error"


@pytest.mark.parametrize("code", [-32602, -32603, -32800, 4711])
def test_equal_replies_share_one_outcome(code: int) -> None:
    assert error_reply(code) is error_reply(code)


def test_an_error_reply_is_never_taken_for_an_end_without_a_reply() -> None:
    # CONNECTION_LOST is compared with `is`, and decides how a connection ended.
    replies = [error_reply(code, "Request cancelled") for code in (0, 408, -32000, -32001, -32800)]
    assert not {CANCELLED, TIMEOUT, CONNECTION_LOST} & set(replies)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 421, 429, 499])
def test_an_http_4xx_is_the_clients_error(status: int) -> None:
    outcome = http_error(status)
    assert (outcome.status, outcome.error_type) == ("client_error", str(status))


@pytest.mark.parametrize("status", [500, 502, 503, 522, 302])
def test_every_other_http_refusal_is_the_servers_error(status: int) -> None:
    outcome = http_error(status)
    assert (outcome.status, outcome.error_type) == ("server_error", str(status))


@pytest.mark.parametrize("status", [-1, 0, 200, 299, 599, 600, 999, 10**6])
def test_a_status_that_is_no_refusal_of_http_has_no_name(status: int) -> None:
    outcome = http_error(status)
    assert (outcome.status, outcome.error_type) == ("server_error", OTHER)


def test_an_http_error_without_a_body_has_no_json_rpc_code_and_blames_nobody() -> None:
    assert http_error(404).code is None
    assert not http_error(404).caller_fault


def test_ends_without_a_reply_are_named_after_the_exception_that_tells_them() -> None:
    ends = {outcome.status: outcome.error_type for outcome in (OK, TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST)}
    assert ends == {
        "ok": None,
        "tool_error": "tool_error",
        "cancelled": "CancelledError",
        "timeout": "TimeoutError",
        "connection_lost": "ConnectionError",
    }


def test_ends_without_an_error_reply_have_no_code() -> None:
    assert {outcome.code for outcome in (OK, TOOL_ERROR, CANCELLED, TIMEOUT, CONNECTION_LOST)} == {None}


def test_connections_end_in_six_ways() -> None:
    assert {end.value for end in End} == {"closed", "terminated", "evicted", "shutdown", "peer_lost", "error"}


def test_an_outcome_shows_what_it_is() -> None:
    assert repr(error_reply(-32602)) == "Outcome(client_error, error_type=-32602, code=-32602)"


def test_a_cancellation_that_was_answered_with_code_0_keeps_its_code() -> None:
    outcome = error_reply(0, "Request cancelled")
    assert (outcome.error_type, outcome.code) == ("0", "0")


class Number(IntEnum):
    """As Python 3.10 shows a member of ``http.HTTPStatus``: by its name."""

    TEAPOT = 418
    NOT_FOUND = -32601
    CANCELLED = -32800

    def __str__(self) -> str:
        return f"Number.{self.name}"

    def __format__(self, format_spec: str) -> str:
        return str(self)


def test_a_number_with_a_name_is_shown_as_the_number() -> None:
    assert status_name(Number.TEAPOT) == "418"
    assert http_error(Number.TEAPOT).error_type == "418"
    assert number_name(Number.TEAPOT) == "418"


@pytest.mark.parametrize("code", [Number.NOT_FOUND, Number.CANCELLED])
def test_a_code_with_a_name_is_shown_as_the_number(code: Number) -> None:
    # Known ones are remembered, by a key that equals the plain number's.
    for given in (code, int(code)):
        outcome = error_reply(given)
        assert (outcome.error_type, outcome.code) == (str(int(code)), str(int(code)))


@pytest.mark.parametrize("error", [Number.TEAPOT, 418])
def test_a_connection_error_by_a_number_with_a_name_is_shown_as_the_number(
    error: int, recorder: Recorder, collect: Callable[[], Points]
) -> None:
    recorder.connection_error(Role.SERVER, Transport.STREAMABLE_HTTP, error)
    assert collect().by("error.type", "mcp.connection.errors") == {"418": 1}
