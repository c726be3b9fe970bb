"""Traffic for a recorder without an SDK: a server connection whose tools are called in turn."""

from __future__ import annotations

from collections.abc import Collection
from time import perf_counter
from typing import Final

from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import Target
from opentelemetry_instrumentation_mcp.metrics.outcome import OK
from opentelemetry_instrumentation_mcp.metrics.store.connection import Connection
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Direction, Role, Transport

from ..example import NAME, tool_name


class _Tools:
    """A server that has registered these tools."""

    def __init__(self, count: int) -> None:
        self._names = tuple(tool_name(number) for number in range(count))

    def lists(self, target: Target) -> bool:
        return target is Target.TOOL

    def knows(self, target: Target, name: str) -> bool:
        return target is Target.TOOL and name in self._names

    def names(self, target: Target) -> Collection[str]:
        return self._names if target is Target.TOOL else ()

    def serves(self, method: str) -> bool:
        return False


_MIDDLEWARE: Final = ("one", "another")


class Calls:
    """Calls of ``tools`` tools, one after the other, each of which passes two middlewares."""

    def __init__(self, recorder: Recorder, tools: int) -> None:
        connection = recorder.open(Role.SERVER, Transport.STDIO, server_name=NAME, registry=_Tools(tools))
        assert connection is not None
        self._connection: Connection = connection
        self._parameters = [{"name": tool_name(number)} for number in range(tools)]
        passages = recorder.interceptor_sequence([recorder.interceptor(name) for name in _MIDDLEWARE])
        assert passages is not None
        self._passed = passages.passed
        self._number = 0

    def one(self) -> None:
        """A call with a request and a response of some size."""
        self._number += 1
        request = self._connection.begin(
            Direction.INBOUND, "tools/call", self._parameters[self._number % len(self._parameters)]
        )
        assert request is not None
        request.measured(150, response=False)
        request.measured(120, response=True)
        self._passed([perf_counter() for _ in range(2 * len(_MIDDLEWARE) + 2)])
        request.end(OK)

    def many(self, count: int) -> None:
        """That many calls."""
        for _ in range(count):
            self.one()
