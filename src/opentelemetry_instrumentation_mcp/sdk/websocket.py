"""The websocket client of mcp 1.x; 2.x has no websocket.

It is the one transport that makes JSON of a message by ``json.dumps``, in the task that writes to the socket, one
message after another in the order they were sent. That task inherits the context it is started in, which says whose
messages they are.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from ..core.fail_open import contained
from ..metrics.vocabulary import Role, Transport
from ..patching.arguments import Parameter
from .interceptors.interception import Instead
from .outbound import reset
from .sizes import Sizes, wire_size
from .state import ModulePatch, State
from .streams import Opening, StreamPair, Streams, address_of, opening_failed

_PAIR: Final[ContextVar[StreamPair | None]] = ContextVar("opentelemetry_instrumentation_mcp_websocket", default=None)


class _Opening(Opening):
    """Opens the transport in a context that says which pair it is for."""

    def __init__(self, generator: Any, pair: StreamPair, **callbacks: Callable[[Any], None]) -> None:
        super().__init__(generator, **callbacks)
        self._pair = pair

    async def __anext__(self) -> Any:
        # Until it yields, no longer: the context is the caller's.
        token = _PAIR.set(self._pair)
        try:
            return await super().__anext__()
        finally:
            reset(_PAIR, token)


def _client(state: State, open_streams: Streams, original: Any) -> Any:
    url = Parameter(original, "url", 0)

    @functools.wraps(original)
    def websocket_client(*args: Any, **kwargs: Any) -> Any:
        opening = original(*args, **kwargs)
        watched = _watched(state, open_streams, opening, url.of(args, kwargs)) if state.recorder is not None else None
        return opening if watched is None else watched

    return websocket_client


@contained
def _watched(state: State, open_streams: Streams, opening: Any, url: object) -> _Opening:
    pair = StreamPair(Transport.WEBSOCKET, address=address_of(url))
    pair.posts = deque()
    pair.opened_by(opening)
    return _Opening(
        opening,
        pair,
        opened=lambda streams: open_streams.tag(pair, *streams[:2]),
        closing=lambda streams: open_streams.exited(*streams[:2]),
        failed=lambda error: opening_failed(state, Role.CLIENT, Transport.WEBSOCKET, error),
    )


def _json(sizes: Sizes, original: Any) -> Any:
    """The module ``json`` as it is, but for a ``dumps`` that is watched."""

    @functools.wraps(original.dumps)
    def dumps(*args: Any, **kwargs: Any) -> Any:
        text: Any = original.dumps(*args, **kwargs)
        _serialised(sizes, text)
        return text

    return Instead(original, "dumps", dumps)


@contained
def _serialised(sizes: Sizes, text: str) -> None:
    pair = _PAIR.get()
    if pair is not None and pair.posts:
        sizes.serialised(pair.posts.popleft(), wire_size(text))


def patches(state: State, open_streams: Streams, sizes: Sizes) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.client.websocket", functools.partial(_patch, state, open_streams, sizes)),)


def _patch(state: State, open_streams: Streams, sizes: Sizes, module: ModuleType) -> None:
    state.patches.replace_generator(module, "websocket_client", lambda original: _client(state, open_streams, original))
    state.patches.replace(module, "json", lambda original: _json(sizes, original))
