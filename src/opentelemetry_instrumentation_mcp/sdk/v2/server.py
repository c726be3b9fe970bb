"""Servers of 2.x: the life of a connection behind ``Server.run``, and what a server has registered."""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, Final

from ...core.fail_open import contained
from ...core.json_shapes import fields
from ...metrics.events import Connection
from ...metrics.labels import METHODS, Target
from ...metrics.vocabulary import Role, Transport
from ...patching.arguments import Parameter
from .. import ending
from ..release import is_v2
from ..spans import Spans
from ..state import ModulePatch, State
from ..streams import StreamPair, Streams

_LIST: Final = {Target.TOOL: "tools/list", Target.PROMPT: "prompts/list"}
_MANAGER: Final = {Target.TOOL: ("_tool_manager", "_tools"), Target.PROMPT: ("_prompt_manager", "_prompts")}

_served: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""The server behind an ``on_request`` callback that is a plain function (``modern_on_request``)."""


class ServerNames:
    """The registry of a 2.x ``Server``: its schema lookup, and the managers of the ``MCPServer`` in front of it."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def lists(self, target: Target) -> bool:
        return self._server.get_request_handler(_LIST[target]) is not None

    def knows(self, target: Target, name: str) -> bool:
        if name in self._table(target):
            return True
        lookup = getattr(self._server, "get_tool_input_schema", None) if target is Target.TOOL else None
        if lookup is None:
            return False
        try:
            return lookup(name) is not None
        except Exception:
            # The application's own function; the SDK takes it for "nothing to validate".
            return False

    def names(self, target: Target) -> Collection[str]:
        return tuple(self._table(target))

    def _table(self, target: Target) -> Mapping[str, Any]:
        entry = self._server.get_request_handler(_LIST[target])
        # MCPServer registers bound methods of its own.
        front = getattr(getattr(entry, "handler", None), "__self__", None)
        manager, table = _MANAGER[target]
        return fields(getattr(getattr(front, manager, None), table, None))

    def serves(self, method: str) -> bool:
        server = self._server
        handled = server.get_request_handler(method) or server.get_notification_handler(method)
        return method not in METHODS and handled is not None


def server_behind(on_request: Any) -> Any:
    """The server an ``on_request`` callback belongs to, if that can be told."""
    runner = getattr(on_request, "__self__", None)
    if runner is not None:
        return getattr(runner, "server", None)
    try:
        return _served.get(on_request)
    except TypeError:
        return None


def patches(state: State, open_streams: Streams, spans: Spans) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.lowlevel.server", functools.partial(_patch_lowlevel, state, open_streams, spans)),
        ("mcp.client.client", functools.partial(_patch_client, state)),
    )


def _patch_lowlevel(state: State, open_streams: Streams, spans: Spans, module: ModuleType) -> None:
    if is_v2():
        state.patches.replace(module.Server, "run", lambda original: _run(state, open_streams, spans, original))


def _run(state: State, open_streams: Streams, spans: Spans, original: Any) -> Any:
    read_stream, write_stream = Parameter(original, "read_stream", 0), Parameter(original, "write_stream", 1)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        streams = read_stream.of(args, kwargs), write_stream.of(args, kwargs)
        opened = _open(state, open_streams, spans, self, *streams) if state.recorder is not None else None
        if opened is None:
            return await original(self, *args, **kwargs)
        pair, made = opened
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _close(pair, error)
            raise
        else:
            _close(pair, None)
            return result
        finally:
            if made:
                open_streams.untag(*streams)

    return run


@contained
def open_server(state: State, spans: Spans, pair: StreamPair, server: Any) -> Connection | None:
    """Open the connection of a served stream pair."""
    if state.recorder is None:
        return None
    spans.operations()
    versions: Any = getattr(sys.modules.get("mcp_types.version"), "HANDSHAKE_PROTOCOL_VERSIONS", ())
    return state.recorder.open(
        Role.SERVER,
        pair.transport,
        pair.mode,
        server_name=getattr(server, "name", None),
        registry=ServerNames(server) if server is not None else None,
        session_versions=versions,
        crash_code="0",
    )


@contained
def _open(
    state: State, open_streams: Streams, spans: Spans, server: Any, read_stream: Any, write_stream: Any
) -> tuple[StreamPair, bool] | None:
    """A served pair with its connection, and whether the pair had to be made for that."""
    pair = open_streams.find(write_stream, read_stream)
    made = pair is None
    if pair is None:
        pair = StreamPair(Transport.OTHER)
        open_streams.tag(pair, read_stream, write_stream)
    pair.server = server
    pair.connection = open_server(state, spans, pair, server)
    if pair.connection is not None:
        pair.connection.end_with_event_loop()
    return pair, made


@contained
def _close(pair: StreamPair, error: BaseException | None) -> None:
    connection, pair.connection = pair.connection, None
    if connection is not None:
        ending.close(connection, pair, Role.SERVER, error)


def _patch_client(state: State, module: ModuleType) -> None:
    # Only where it is used: a by-value import of a wrapped original could not be taken back.
    state.patches.replace(module, "modern_on_request", lambda original: _modern_on_request(original))


def _modern_on_request(original: Any) -> Any:
    server = Parameter(original, "server", 0)

    @functools.wraps(original)
    def modern_on_request(*args: Any, **kwargs: Any) -> Any:
        on_request = original(*args, **kwargs)
        _remember(on_request, server.of(args, kwargs))
        return on_request

    return modern_on_request


@contained
def _remember(on_request: Any, server: Any) -> None:
    _served[on_request] = server
