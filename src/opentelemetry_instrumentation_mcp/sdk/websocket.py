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
from .outbound import leave
from .sizes import Sizes, wire_size
from .state import ModulePatch, State
from .streams import Link, Opening, Streams, address_of, opening_failed

_LINK: Final[ContextVar[Link | None]] = ContextVar("opentelemetry_instrumentation_mcp_websocket", default=None)


class _Opening(Opening):
    """Opens the transport in a context that says which link it is for."""

    def __init__(self, generator: Any, link: Link, **told: Callable[[Any], None]) -> None:
        super().__init__(generator, **told)
        self._link = link

    async def __anext__(self) -> Any:
        # Until it yields, no longer: the context is the caller's.
        token = _LINK.set(self._link)
        try:
            return await super().__anext__()
        finally:
            leave(_LINK, token)


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
    link = Link(Transport.WEBSOCKET, address=address_of(url))
    link.posts = deque()
    link.opened_by(opening)
    return _Opening(
        opening,
        link,
        opened=lambda streams: open_streams.tag(link, *streams[:2]),
        closing=lambda streams: open_streams.leave(*streams[:2]),
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
    link = _LINK.get()
    if link is not None and link.posts:
        sizes.serialised(link.posts.popleft(), wire_size(text))


def patches(state: State, open_streams: Streams, sizes: Sizes) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.client.websocket", functools.partial(_patch, state, open_streams, sizes)),)


def _patch(state: State, open_streams: Streams, sizes: Sizes, module: ModuleType) -> None:
    state.patches.replace_generator(module, "websocket_client", lambda original: _client(state, open_streams, original))
    state.patches.replace(module, "json", lambda original: _json(sizes, original))
