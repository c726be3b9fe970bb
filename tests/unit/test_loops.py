from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Mode, Role, Transport

from ..points import STATUS, Points

Collect = Callable[[], Points]
_ACTIVE = "mcp.connections.active"


def _open(recorder: Recorder, role: Role = Role.CLIENT, mode: Mode = Mode.STATEFUL) -> Connection:
    connection = recorder.open(role, Transport.STDIO, mode)
    assert connection is not None
    connection.establish("server", "2025-06-18")
    connection.end_with_event_loop()
    return connection


@contextmanager
def _asyncio() -> Generator[Callable[[Any], Any]]:
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.close()


@contextmanager
def _uvloop() -> Generator[Callable[[Any], Any]]:
    loop = import_module("uvloop").new_event_loop()
    yield loop.run_until_complete
    loop.close()


@pytest.mark.parametrize("loop", [_asyncio, _uvloop])
def test_what_is_open_when_its_loop_is_closed_ends_once_at_the_next_collection(
    loop: Any, recorder: Recorder, collect: Collect
) -> None:
    async def question() -> Connection:
        return _open(recorder)

    with loop() as run:
        connection = run(question())
        assert collect().sum(_ACTIVE) == 1
    points = collect()
    assert points.sum(_ACTIVE) == points.sum("mcp.sessions.active") == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 1}
    assert points.by(STATUS, "mcp.session.duration") == {"closed": 1}
    assert points.by("reason", "mcp.session.dead_detected") == {}
    connection.event_loop_closed()
    assert collect().sum("mcp.connection.duration") == 1


def test_a_run_of_trio_ends_with_it(recorder: Recorder, collect: Collect) -> None:
    trio = import_module("trio")

    async def question() -> None:
        _open(recorder)
        assert collect().sum(_ACTIVE) == 1

    trio.run(question)
    points = collect()
    assert points.sum(_ACTIVE) == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 1}


@pytest.mark.parametrize(
    ("mode", "status"), [(Mode.STATEFUL, "shutdown"), (Mode.STATELESS, "closed")], ids=["stateful", "stateless"]
)
def test_a_server_whose_loop_is_closed_is_shut_down(
    mode: Mode, status: str, recorder: Recorder, collect: Collect
) -> None:
    async def serve() -> None:
        _open(recorder, Role.SERVER, mode)

    with _asyncio() as run:
        run(serve())
    assert collect().by(STATUS, "mcp.connection.duration") == {status: 1}


def test_what_has_ended_before_its_loop_is_closed_ends_as_it_has(recorder: Recorder, collect: Collect) -> None:
    from opentelemetry_instrumentation_mcp.metrics.outcome import End  # noqa: PLC0415

    async def question() -> None:
        _open(recorder).close(End.PEER_LOST)

    with _asyncio() as run:
        run(question())
    points = collect()
    assert points.sum(_ACTIVE) == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"peer_lost": 1}


def test_loops_that_nobody_collects_from_are_not_kept(recorder: Recorder, collect: Collect) -> None:
    async def question() -> None:
        _open(recorder)

    for _ in range(30):
        with _asyncio() as run:
            run(question())
        assert len(recorder._shared.loops._open) <= 1  # pyright: ignore[reportPrivateUsage]
    points = collect()
    assert points.sum(_ACTIVE) == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 30}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_is_dropped_has_ended_too(recorder: Recorder, collect: Collect) -> None:
    async def question() -> None:
        _open(recorder)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(question())
    del loop
    gc.collect()
    assert collect().by(STATUS, "mcp.connection.duration") == {"closed": 1}


def test_a_connection_opened_outside_of_any_loop_is_left_alone(recorder: Recorder, collect: Collect) -> None:
    _open(recorder)
    assert collect().sum(_ACTIVE) == 1
