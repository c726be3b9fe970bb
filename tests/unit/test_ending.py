from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.outcome import CANCELLED, CONNECTION_LOST, End
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Direction, Mode, Role, Transport
from opentelemetry_instrumentation_mcp.sdk import ending
from opentelemetry_instrumentation_mcp.sdk.streams import StreamPair

from ..points import Points

_CLIENT, _SERVER = Role.CLIENT, Role.SERVER
_CANCELLED = asyncio.CancelledError()


class _Group(Exception):
    """An exception group as anyio raises it where Python has none of its own."""

    def __init__(self, *exceptions: BaseException) -> None:
        self.exceptions = exceptions


class _BaseGroup(BaseException):
    def __init__(self, *exceptions: BaseException) -> None:
        self.exceptions = exceptions


def _http(expired: bool) -> Any:
    return SimpleNamespace(idle_scope=SimpleNamespace(cancel_called=expired))


@pytest.fixture
def ended(recorder: Recorder, collect: Callable[[], Points]) -> Callable[..., tuple[Any, Any]]:
    """Close a connection; the value is the ``status`` and the ``error.type`` it ended with."""

    def close(role: Role, error: BaseException | None, *, lost: bool = False, **known: Any) -> tuple[Any, Any]:
        pair = StreamPair(Transport.STDIO, known.pop("mode", Mode.STATEFUL))
        for name, value in known.items():
            setattr(pair, name, value)
        connection = recorder.open(role, pair.transport, pair.mode)
        assert isinstance(connection, Connection)
        request = connection.begin(Direction.INBOUND, "ping")
        assert request is not None
        request.end(CONNECTION_LOST if lost else CANCELLED)
        ending.close(connection, pair, role, error)
        (point,) = collect().select("mcp.connection.duration")
        return point.attributes.get("status"), point.attributes.get("error.type")

    return close


@pytest.mark.parametrize("error", [_CANCELLED, KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_a_cancellation_and_the_interpreters_stop_are_no_errors(error: BaseException) -> None:
    assert ending.is_cancellation(error)


@pytest.mark.parametrize("error", [ValueError(), _Group(ValueError()), _BaseGroup(ValueError())])
def test_exceptions_and_groups_of_them_are_errors(error: BaseException) -> None:
    assert not ending.is_cancellation(error)


def test_an_error_is_named_after_its_class() -> None:
    assert ending.leaf_name(ValueError("secret")) == "ValueError"


def test_a_group_is_named_after_its_first_leaf() -> None:
    assert ending.leaf_name(_Group(_BaseGroup(KeyError(), ValueError()), OSError())) == "KeyError"


Ended = Callable[..., tuple[Any, Any]]


@pytest.mark.parametrize("role", Role)
def test_a_message_loop_that_raises_is_an_error_named_after_the_exception(ended: Ended, role: Role) -> None:
    assert ended(role, _Group(ValueError())) == ("error", "ValueError")


@pytest.mark.parametrize("role", Role)
def test_an_error_says_more_than_what_the_transport_knew(ended: Ended, role: Role) -> None:
    known = {"end": End.TERMINATED, "failure": (End.PEER_LOST, None), "http_transport": _http(expired=True)}
    assert ended(role, ValueError(), **known) == ("error", "ValueError")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("error", [None, _CANCELLED])
def test_a_transport_that_broke_says_how(ended: Ended, role: Role, error: BaseException | None) -> None:
    assert ended(role, error, failure=(End.ERROR, 503), end=End.CLOSED) == ("error", "503")


def test_a_client_that_sees_the_end_of_the_stream_has_lost_its_peer(ended: Ended) -> None:
    assert ended(_CLIENT, None) == ("peer_lost", None)


def test_a_client_that_leaves_has_closed(ended: Ended) -> None:
    assert ended(_CLIENT, _CANCELLED) == ("closed", None)


def test_a_server_at_the_end_of_the_stream_with_nothing_pending_has_closed(ended: Ended) -> None:
    assert ended(_SERVER, None) == ("closed", None)


def test_a_server_at_the_end_of_the_stream_with_requests_pending_has_lost_its_peer(ended: Ended) -> None:
    assert ended(_SERVER, None, lost=True) == ("peer_lost", None)


@pytest.mark.parametrize("error", [None, _CANCELLED])
@pytest.mark.parametrize("end", [End.TERMINATED, End.CLOSED, End.EVICTED])
@pytest.mark.parametrize("lost", [False, True])
def test_a_server_ends_as_its_transport_was_told_to(
    ended: Ended, error: BaseException | None, end: End, lost: bool
) -> None:
    assert ended(_SERVER, error, end=end, lost=lost) == (end.value, None)


@pytest.mark.parametrize("error", [None, _CANCELLED])
def test_a_session_whose_idle_timeout_has_fired_is_evicted(ended: Ended, error: BaseException | None) -> None:
    assert ended(_SERVER, error, http_transport=_http(expired=True)) == ("evicted", None)


def test_a_session_whose_idle_timeout_has_not_fired_is_not(ended: Ended) -> None:
    assert ended(_SERVER, _CANCELLED, http_transport=_http(expired=False)) == ("shutdown", None)


def test_a_transport_from_before_idle_timeouts_never_evicts(ended: Ended) -> None:
    assert ended(_SERVER, None, http_transport=SimpleNamespace()) == ("closed", None)


@pytest.mark.parametrize("lost", [False, True])
def test_a_server_that_is_cancelled_shuts_down(ended: Ended, lost: bool) -> None:
    assert ended(_SERVER, _CANCELLED, lost=lost) == ("shutdown", None)


def test_the_end_of_a_stateless_exchange_is_no_shutdown(ended: Ended) -> None:
    assert ended(_SERVER, _CANCELLED, mode=Mode.STATELESS) == ("closed", None)


def test_a_stateless_exchange_cut_short_is(ended: Ended) -> None:
    assert ended(_SERVER, _CANCELLED, mode=Mode.STATELESS, lost=True) == ("shutdown", None)


def test_a_connection_whose_end_cannot_be_told_is_closed_all_the_same(recorder: Recorder) -> None:
    pair: Any = None
    connection = recorder.open(_SERVER, Transport.STDIO)
    assert connection is not None
    ending.close(connection, pair, _SERVER, None)
    assert connection.closed
