"""The twin of 1.x against a session that is entered, read and left as ``BaseSession`` is, without the SDK."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from opentelemetry_instrumentation_mcp.install import Installation
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.sdk.v1 import session as v1_session

from ..points import METHOD, STATUS
from .recording import Collect

pytestmark = pytest.mark.usefixtures("nothing_is_swallowed")


class _Stream:
    """A stream on which nothing ever arrives, and everything can be sent."""

    async def __aenter__(self) -> _Stream:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        pass

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(3600)

    async def send(self, item: Any) -> None:
        await asyncio.sleep(0)


@dataclass
class JSONRPCRequest:
    """As in ``mcp.types``."""

    id: int
    method: str
    params: dict[str, Any] | None = None


class _Session:
    """What ``BaseSession`` does with its streams, and nothing else."""

    enters = True
    """Whether it enters the streams it reads and writes, as ``BaseSession`` does."""

    def __init__(self, read_stream: Any, write_stream: Any) -> None:
        self._read_stream = read_stream
        self._write_stream = write_stream

    async def __aenter__(self) -> _Session:
        self._loop = asyncio.create_task(self._receive_loop())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._loop.cancel()
        with suppress(asyncio.CancelledError):
            await self._loop

    async def _receive_loop(self) -> None:
        if not self.enters:
            return await self._read()
        async with self._read_stream, self._write_stream:
            await self._read()

    async def _read(self) -> None:
        async for _ in self._read_stream:
            raise AssertionError("nothing was sent")

    async def send_request(self, method: str) -> Any:
        message = SimpleNamespace(root=JSONRPCRequest(0, method))
        await self._write_stream.send(SimpleNamespace(message=message, metadata=None))
        await asyncio.sleep(3600)


@pytest.fixture
def session(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Session]]:
    """The class of sessions, instrumented."""
    types = SimpleNamespace(JSONRPCRequest=JSONRPCRequest, JSONRPCNotification=None, JSONRPCError=None)
    monkeypatch.setitem(sys.modules, "mcp.types", cast("Any", types))
    installation = Installation(recorder, {})
    state, open_streams = installation.state, installation.open_streams
    ((_, patch),) = v1_session.patches(state, open_streams, installation.sizes, installation.spans)
    patch(cast("Any", SimpleNamespace(BaseSession=_Session)))
    yield _Session
    installation.end()


@pytest.mark.parametrize("enters", [True, False], ids=["enters its streams", "does not enter them"])
@pytest.mark.parametrize("method", ["tools/list", "ping"])
def test_a_client_that_leaves_while_somebody_still_waits_has_closed_and_found_nobody_dead(
    session: type[_Session], collect: Collect, method: str, enters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "enters", enters)

    async def scenario() -> None:
        async with session(_Stream(), _Stream()) as client:
            waiting = asyncio.create_task(client.send_request(method))
            await asyncio.sleep(0.01)
        waiting.cancel()

    asyncio.run(scenario())
    points = collect()
    assert points.sum("mcp.requests.total", {METHOD: method}) == 1
    assert points.sum("mcp.session.dead_detected") == 0
    assert points.by(STATUS, "mcp.connection.duration") == {"closed": 1}
