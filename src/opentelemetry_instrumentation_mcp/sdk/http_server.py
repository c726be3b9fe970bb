"""The server side of SSE and streamable HTTP, in both generations.

``StreamableHTTPServerTransport`` and ``SseServerTransport`` have the same names and shapes in mcp 1.12 to 2.3. The
stream pairs they make are linked to their transport here, and what only the transport knows about the end of a session
(a DELETE, an idle timeout, the application's ``terminate()``) is left on the pair.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final

from ..core.fail_open import contained
from ..metrics.outcome import End
from ..metrics.vocabulary import Mode, Transport
from ..patching.arguments import Parameter
from .ending import idle_expired
from .http_edge import Edge, watch
from .state import ModulePatch, State
from .streams import StreamPair, Streams

_PAIR: Final = "_otel_mcp_pair"
"""Attribute left on a transport object (not on its class)."""


def patches(state: State, open_streams: Streams) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.streamable_http", functools.partial(_patch_streamable_http, state, open_streams)),
        ("mcp.server.sse", functools.partial(_patch_sse, state, open_streams)),
    )


def _patch_streamable_http(state: State, open_streams: Streams, module: ModuleType) -> None:
    transport = module.StreamableHTTPServerTransport
    state.patches.replace(transport, "connect", lambda original: _connect(state, open_streams, original))
    # Where a DELETE is not seen it looks like the application's own doing.
    if state.patches.expect(transport, "_handle_delete_request"):
        state.patches.replace(transport, "terminate", lambda original: _terminate(state, original))
    state.patches.replace(transport, "_handle_delete_request", lambda original: _delete(state, original))


def _sse(_: object) -> Transport:
    return Transport.SSE


def _patch_sse(state: State, open_streams: Streams, module: ModuleType) -> None:
    edge = Edge(state, _sse)

    def make(original: Any) -> Any:
        scope, send = Parameter(original, "scope", 0), Parameter(original, "send", 2)

        @asynccontextmanager
        async def connect_sse(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            answer = watch(edge, self, scope.of(args, kwargs), send.of(args, kwargs))
            if answer is not None:
                args, kwargs = send.put(args, kwargs, answer.send)
            try:
                async with original(self, *args, **kwargs) as streams:
                    pair = _sse_pair(open_streams, streams) if state.recorder is not None else None
                    try:
                        yield streams
                    finally:
                        if pair is not None:
                            open_streams.untag(*streams)
            finally:
                if answer is not None:
                    answer.finished()

        return functools.wraps(original)(connect_sse)

    state.patches.replace(module.SseServerTransport, "connect_sse", make)


@contained
def _sse_pair(open_streams: Streams, streams: Any) -> StreamPair:
    pair = StreamPair(Transport.SSE)
    open_streams.tag(pair, *streams)
    return pair


def _connect(state: State, open_streams: Streams, original: Any) -> Any:
    @asynccontextmanager
    async def connect(self: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with original(self, *args, **kwargs) as streams:
            if state.recorder is None:
                yield streams
                return
            _tag(open_streams, self, streams)
            try:
                yield streams
            finally:
                open_streams.untag(*streams)

    return functools.wraps(original)(connect)


@contained
def _tag(open_streams: Streams, transport: Any, streams: Any) -> None:
    mode = Mode.STATELESS if transport.mcp_session_id is None else Mode.STATEFUL
    pair = StreamPair(Transport.STREAMABLE_HTTP, mode, http=transport)
    setattr(transport, _PAIR, pair)
    open_streams.tag(pair, *streams)


def _terminate(state: State, original: Any) -> Any:
    @functools.wraps(original)
    async def terminate(self: Any, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is not None:
            _terminating(self)
        return await original(self, *args, **kwargs)

    return terminate


@contained
def _terminating(transport: Any) -> None:
    pair: StreamPair | None = getattr(transport, _PAIR, None)
    if pair is None or pair.end is not None or pair.mode is Mode.STATELESS:
        return
    if pair.deleting:
        pair.end = End.CLOSED
    elif idle_expired(transport):
        pair.end = End.EVICTED
    elif pair.connection is not None and pair.connection.has_session and not pair.connection.closed:
        # The SDK terminates, by itself, only what it is discarding: a connection that is over, or one that never
        # had a session. This one is alive, so it is the application that ends it.
        pair.end = End.TERMINATED


def _delete(state: State, original: Any) -> Any:
    @functools.wraps(original)
    async def handle_delete_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        pair: StreamPair | None = getattr(self, _PAIR, None)
        if state.recorder is None or pair is None:
            return await original(self, *args, **kwargs)
        pair.deleting = True
        try:
            return await original(self, *args, **kwargs)
        finally:
            pair.deleting = False

    return handle_delete_request
