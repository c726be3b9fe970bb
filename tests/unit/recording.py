"""What the tests of the recorder share: opening and beginning things, and reading the one point that came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import Target
from opentelemetry_instrumentation_mcp.metrics.outcome import OK, Outcome
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection, Request
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Direction, Mode, Role, Transport

from ..points import Point, Points

INBOUND, OUTBOUND = Direction.INBOUND, Direction.OUTBOUND
SERVER_NAME = "mcp.server.name"

Collect = Callable[[], Points]


class Registry:
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


def connect(
    recorder: Recorder,
    role: Role = Role.SERVER,
    transport: Transport = Transport.STDIO,
    mode: Mode = Mode.STATEFUL,
    **known: Any,
) -> Connection:
    connection = recorder.open(role, transport, mode, **known)
    assert connection is not None
    return connection


def begin(connection: Connection, direction: Direction, method: str, params: object = None) -> Request:
    request = connection.begin(direction, method, params)
    assert request is not None
    return request


def call(connection: Connection, tool: object, outcome: Outcome = OK, direction: Direction = INBOUND) -> None:
    begin(connection, direction, "tools/call", {"name": tool, "arguments": {"secret": 1}}).end(outcome)


def one(points: Points, metric: str, where: dict[str, Any] | None = None) -> Point:
    (point,) = points.select(metric, where)
    return point
