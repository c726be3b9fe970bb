"""The bytes of a message, taken where they already are, and the request they belong to.

The SDK serialises the very object that was handed to the transport, and hands on the very object it has parsed. So the
join is by identity: an outgoing message waits here from its write until a transport serialises it, an incoming one from
its parsing until the session takes it. Messages are held weakly, so that one that is never serialised (in memory, or
dropped) or never taken (parsed by the application) leaves nothing behind. Nothing is serialised for a measure; text
that is not ASCII is encoded once, since its length in bytes stands nowhere.
"""

from __future__ import annotations

import functools
import weakref
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ..metrics.connection import Request
from ..safety import contained
from .outbound import current_post

if TYPE_CHECKING:
    from .adapter import Adapter


class Sizes:
    """Messages between two sights of them, by identity."""

    def __init__(self) -> None:
        # The weak reference is kept with the entry, for its callback is what removes it.
        self._outgoing: dict[int, tuple[weakref.ref[Any], Request, bool]] = {}
        self._incoming: dict[int, tuple[weakref.ref[Any], int]] = {}

    def expect(self, message: Any, request: Request, *, response: bool) -> None:
        """A message goes to a transport that will serialise it."""
        key, outgoing = id(message), self._outgoing
        outgoing[key] = (weakref.ref(message, lambda _: outgoing.pop(key, None)), request, response)

    @contained
    def serialised(self, message: Any, size: int) -> None:
        """A transport has made ``size`` bytes of a message; another time is a replay."""
        waiting = self._outgoing.pop(id(message), None)
        if waiting is not None:
            waiting[1].measured(size, response=waiting[2])

    def waits_for(self, message: Any) -> bool:
        """Whether the bytes of this message are still to be told."""
        return id(message) in self._outgoing

    @contained
    def parsed(self, message: Any, size: int) -> None:
        """A transport has parsed a message from ``size`` bytes."""
        key, incoming = id(message), self._incoming
        incoming[key] = (weakref.ref(message, lambda _: incoming.pop(key, None)), size)

    def take(self, message: Any, metadata: Any) -> int | None:
        """The bytes of a message that has arrived; None if there are none or they are not known."""
        parsed = self._incoming.pop(id(message), None)
        if parsed is not None:
            return parsed[1]
        # Streamable HTTP parses in two steps; the body is still with the request it came in.
        body = getattr(getattr(metadata, "request_context", None), "_body", None)
        return len(body) if body is not None else None


def wire_size(text: str | bytes | bytearray) -> int:
    """The bytes of a message without its line ending."""
    size = len(text) if not isinstance(text, str) or text.isascii() else len(text.encode())
    ends = ("\r\n", "\n") if isinstance(text, str) else (b"\r\n", b"\n")
    for end in ends:
        if text.endswith(end):  # type: ignore[arg-type]
            return size - len(end)
    return size


def _model_dump_json(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def model_dump_json(self: Any, *args: Any, **kwargs: Any) -> str:
        text: str = original(self, *args, **kwargs)
        if adapter.recorder is not None and adapter.sizes.waits_for(self):
            adapter.sizes.serialised(self, _size(text) or 0)
        return text

    return model_dump_json


@contained
def _size(text: Any) -> int:
    return wire_size(text)


def _parsed(adapter: Adapter, message: Any, data: Any) -> None:
    size = _size(data)
    if size is not None:
        adapter.sizes.parsed(message, size)


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
                _parsed(adapter, parsed, json_data)
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
                _parsed(adapter, parsed, data)
            return parsed

        return validate_json

    # On the one adapter object everybody imports by value.
    adapter.patches.replace(module.jsonrpc_message_adapter, "validate_json", validate)


PATCHES: Final = (("mcp.types", _patch_v1), ("mcp_types.jsonrpc", _patch_v2))
