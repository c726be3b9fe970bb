"""The bytes of a message, taken where they already are, and the request they belong to.

The SDK serialises the very object that was handed to the transport, and hands on the very object it has parsed. So the
join is by identity: an outgoing message waits here from its write until a transport serialises it, an incoming one from
its parsing until the session takes it. Messages are held weakly, and those that are gone are swept out. Nothing is
serialised for a measure; text that is not ASCII is encoded once, since its length in bytes stands nowhere.
"""

from __future__ import annotations

import functools
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ..metrics.connection import Request
from ..safety import report
from .outbound import current_post

if TYPE_CHECKING:
    from .adapter import Adapter


_SWEEP_AT: Final = 256
"""So many messages may wait before those that are gone are swept out."""

_MOST: Final = 4096
"""So many may wait at all: an event store keeps what it never gets to send."""


class Sizes:
    """Messages between two sights of them, by identity."""

    def __init__(self) -> None:
        self._outgoing: dict[int, tuple[weakref.ref[Any], Request, bool]] = {}
        self._incoming: dict[int, tuple[weakref.ref[Any], int]] = {}

    def expect(self, message: Any, request: Request, *, response: bool) -> None:
        """A message goes to a transport that will serialise it."""
        outgoing = self._outgoing
        if len(outgoing) >= _SWEEP_AT:
            _sweep(outgoing)
        outgoing[id(message)] = (weakref.ref(message), request, response)

    def serialised(self, message: Any, data: str | bytes | int) -> None:
        """A transport has made ``data``, or so many bytes, of a message; another time is a replay."""
        try:
            # An entry whose message is gone may stand under the identity of this one.
            waiting = self._outgoing.pop(id(message), None)
            if waiting is not None and waiting[0]() is message:
                size = data if isinstance(data, int) else wire_size(data)
                waiting[1].measured(size, response=waiting[2])
        except Exception as error:
            report("Sizes.serialised", error)

    def parsed(self, message: Any, data: str | bytes) -> None:
        """A transport has parsed a message from ``data``."""
        try:
            incoming = self._incoming
            if len(incoming) >= _SWEEP_AT:
                _sweep(incoming)
            incoming[id(message)] = (weakref.ref(message), wire_size(data))
        except Exception as error:
            report("Sizes.parsed", error)

    def take(self, message: Any, metadata: Any) -> int | None:
        """The bytes of a message that has arrived; None if there are none or they are not known."""
        parsed = self._incoming.pop(id(message), None)
        if parsed is not None and parsed[0]() is message:
            return parsed[1]
        if metadata is None:
            return None
        # Streamable HTTP parses in two steps; the body is still with the request it came in.
        body = getattr(getattr(metadata, "request_context", None), "_body", None)
        return len(body) if body is not None else None


def _sweep(table: dict[int, Any]) -> None:
    """Forget messages that were dropped: never serialised (in memory), or never taken (parsed by the application).

    Where more than that wait, all are under way. They are few, and none is worth a callback for every message.
    """
    for key, entry in tuple(table.items()):
        if entry[0]() is None:
            table.pop(key, None)
    if len(table) >= _MOST:
        # Their sizes are lost; nobody may ever have asked for them.
        table.clear()


def wire_size(text: str | bytes | bytearray) -> int:
    """The bytes of a message without its line ending."""
    if isinstance(text, str):
        size = len(text) if text.isascii() else len(text.encode())
        return size if text[-1:] != "\n" else size - (2 if text[-2:] == "\r\n" else 1)
    size = len(text)
    return size if text[-1:] != b"\n" else size - (2 if text[-2:] == b"\r\n" else 1)


def _model_dump_json(adapter: Adapter, original: Any) -> Any:
    serialised = adapter.sizes.serialised

    @functools.wraps(original)
    def model_dump_json(self: Any, *args: Any, **kwargs: Any) -> str:
        text: str = original(self, *args, **kwargs)
        if adapter.recorder is not None:
            serialised(self, text)
        return text

    return model_dump_json


def _unparsable(adapter: Adapter, error: Exception) -> None:
    post = current_post()
    if post is not None and adapter.recorder is not None:
        # The SDK answers the waiting request itself; elsewhere the error arrives on the read stream.
        post.unparsable(error)


def _patch_v1(adapter: Adapter, module: ModuleType) -> None:
    message = getattr(module, "JSONRPCMessage", None)
    if not isinstance(message, type):  # 2.x keeps a module of this name with other contents.
        return

    def validate(original: Any) -> Any:
        @functools.wraps(original.__func__)
        def model_validate_json(cls: Any, json_data: Any, **kwargs: Any) -> Any:
            parsed = original.__func__(cls, json_data, **kwargs)
            if adapter.recorder is not None:
                adapter.sizes.parsed(parsed, json_data)
            return parsed

        return classmethod(model_validate_json)

    adapter.patches.replace(message, "model_validate_json", validate)
    adapter.patches.replace(message, "model_dump_json", lambda original: _model_dump_json(adapter, original))


def _patch_v2(adapter: Adapter, module: ModuleType) -> None:
    for name in ("JSONRPCRequest", "JSONRPCResponse", "JSONRPCError"):
        model = getattr(module, name)
        adapter.patches.replace(model, "model_dump_json", lambda original: _model_dump_json(adapter, original))

    def validate(original: Any) -> Any:
        @functools.wraps(original)
        def validate_json(data: Any, **kwargs: Any) -> Any:
            try:
                parsed = original(data, **kwargs)
            except Exception as error:
                _unparsable(adapter, error)
                raise
            if adapter.recorder is not None:
                adapter.sizes.parsed(parsed, data)
            return parsed

        return validate_json

    # On the one adapter object everybody imports by value.
    adapter.patches.replace(module.jsonrpc_message_adapter, "validate_json", validate)


PATCHES: Final = (("mcp.types", _patch_v1), ("mcp_types.jsonrpc", _patch_v2))
