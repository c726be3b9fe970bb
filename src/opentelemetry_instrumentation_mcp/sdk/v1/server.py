"""Servers of mcp 1.x: which server object serves a stream pair, and what it has registered."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any, Final

from ...core.fail_open import contained
from ...core.json_shapes import fields
from ...metrics.labels import Target
from ...metrics.vocabulary import Role, Transport
from ...patching.arguments import Parameter
from ..release import is_v2
from ..state import ModulePatch, State
from ..streams import StreamPair, Streams

_LIST: Final = {Target.TOOL: "ListToolsRequest", Target.PROMPT: "ListPromptsRequest"}
_MANAGER: Final = {Target.TOOL: ("_tool_manager", "_tools"), Target.PROMPT: ("_prompt_manager", "_prompts")}


class ServerNames:
    """The registry of a 1.x ``Server``: its tool cache, and the managers of the ``FastMCP`` in front of it."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._front: Any = None

    def lists(self, target: Target) -> bool:
        return self._handler(_LIST[target]) is not None

    def knows(self, target: Target, name: str) -> bool:
        return name in self._tables(target)

    def names(self, target: Target) -> Collection[str]:
        return tuple(self._tables(target))

    def serves(self, method: str) -> bool:
        for request_type in self._server.request_handlers:
            field = getattr(request_type, "model_fields", {}).get("method")
            if field is not None and method in getattr(field.annotation, "__args__", ()):
                return True
        return False

    def _tables(self, target: Target) -> Mapping[str, Any]:
        front = self._front
        if front is None:
            front = self._front = self._find_front()
        manager, table = _MANAGER[target]
        registered = fields(getattr(getattr(front, manager, None), table, None))
        if not registered and target is Target.TOOL:
            # Filled before the first call of a tool the cache does not know (Server._get_cached_tool_definition).
            return fields(getattr(self._server, "_tool_cache", None))
        return registered

    def _find_front(self) -> Any:
        # FastMCP registers bound methods of its own; the decorators of Server keep them in a closure cell.
        for handler in ("GetPromptRequest", "ReadResourceRequest", "CallToolRequest"):
            for cell in getattr(self._handler(handler), "__closure__", None) or ():
                owner = getattr(cell.cell_contents, "__self__", None)
                if hasattr(owner, "_prompt_manager"):
                    return owner
        return self

    def _handler(self, request: str) -> Any:
        request_type = getattr(sys.modules.get("mcp.types"), request, None)
        return self._server.request_handlers.get(request_type)


def patches(state: State, open_streams: Streams) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.server.lowlevel.server", functools.partial(_patch, state, open_streams)),)


def _patch(state: State, open_streams: Streams, module: ModuleType) -> None:
    if not is_v2():
        state.patches.replace(module.Server, "run", lambda original: _run(state, open_streams, original))
        state.patches.replace(module.Server, "_handle_message", lambda original: _handle_message(state, original))


def _run(state: State, open_streams: Streams, original: Any) -> Any:
    read_stream, write_stream = Parameter(original, "read_stream", 0), Parameter(original, "write_stream", 1)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is None:
            return await original(self, *args, **kwargs)
        streams = read_stream.of(args, kwargs), write_stream.of(args, kwargs)
        untagged = _serve(open_streams, self, *streams)
        try:
            return await original(self, *args, **kwargs)
        finally:
            if untagged:
                open_streams.untag(*streams)

    return run


def _handle_message(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def _handle_message(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Run as a task of its own, for every message the session hands on.
        if (recorder := state.recorder) is not None:
            recorder.task_started(Role.SERVER)
        return original(self, *args, **kwargs)

    return _handle_message


@contained
def _serve(open_streams: Streams, server: Any, *streams: Any) -> bool:
    """Tell the pair which server it is; True if the pair had to be made for that."""
    pair = open_streams.find(*reversed(streams))
    made = pair is None
    if pair is None:
        pair = StreamPair(Transport.OTHER)
        open_streams.tag(pair, *streams)
    pair.server = server
    return made
