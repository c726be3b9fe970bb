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
from ..adapter import Adapter
from ..release import is_v2
from ..streams import Link

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


def _patch_lowlevel(adapter: Adapter, module: ModuleType) -> None:
    if is_v2():
        adapter.patches.replace(module.Server, "run", lambda original: _run(adapter, original))


def _run(adapter: Adapter, original: Any) -> Any:
    read_stream, write_stream = Parameter(original, "read_stream", 0), Parameter(original, "write_stream", 1)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        streams = read_stream.of(args, kwargs), write_stream.of(args, kwargs)
        opened = _open(adapter, self, *streams) if adapter.recorder is not None else None
        if opened is None:
            return await original(self, *args, **kwargs)
        link, made = opened
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _close(link, error)
            raise
        else:
            _close(link, None)
            return result
        finally:
            if made:
                adapter.streams.untag(*streams)

    return run


@contained
def open_server(adapter: Adapter, link: Link, server: Any) -> Connection | None:
    """Open the connection of a served stream pair."""
    if adapter.recorder is None:
        return None
    adapter.spans.seek(adapter)
    versions: Any = getattr(sys.modules.get("mcp_types.version"), "HANDSHAKE_PROTOCOL_VERSIONS", ())
    return adapter.recorder.open(
        Role.SERVER,
        link.transport,
        link.mode,
        server_name=getattr(server, "name", None),
        registry=ServerNames(server) if server is not None else None,
        session_versions=versions,
        crash_code="0",
    )


@contained
def _open(adapter: Adapter, server: Any, read_stream: Any, write_stream: Any) -> tuple[Link, bool] | None:
    """The link of a served pair with its connection, and whether the link had to be made for that."""
    link = adapter.streams.find(write_stream, read_stream)
    made = link is None
    if link is None:
        link = Link(Transport.OTHER)
        adapter.streams.tag(link, read_stream, write_stream)
    link.server = server
    link.connection = open_server(adapter, link, server)
    if link.connection is not None:
        link.connection.lives_here()
    return link, made


@contained
def _close(link: Link, error: BaseException | None) -> None:
    connection, link.connection = link.connection, None
    if connection is not None:
        ending.close(connection, link, Role.SERVER, error)


def _patch_client(adapter: Adapter, module: ModuleType) -> None:
    # Only where it is used: a by-value import of a wrapped original could not be taken back.
    adapter.patches.replace(module, "modern_on_request", lambda original: _modern_on_request(original))


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


PATCHES: Final = (
    ("mcp.server.lowlevel.server", _patch_lowlevel),
    ("mcp.client.client", _patch_client),
)
