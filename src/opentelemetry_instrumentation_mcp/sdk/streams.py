"""Which transport a stream pair belongs to.

The SDK's sessions and dispatchers see two memory streams and nothing of what is behind them. The transport functions
know; each is patched to leave a :class:`StreamPair` under the identity of the streams it yields, until they are closed.
(Streams of 2.x have ``__slots__``: no attribute and no weak reference can be left on them.)
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.fail_open import contained
from ..core.stdout import warn_on_stdio
from ..metrics.events import Connection
from ..metrics.outcome import End
from ..metrics.transports import DEFAULT_PORTS, TRANSPORTS
from ..metrics.vocabulary import Address, Mode, Role, Transport
from ..patching.arguments import Parameter
from . import ending
from .lifecycle import Lifecycle

if TYPE_CHECKING:
    from .state import ModulePatch, State


class StreamPair:
    """What is known about one stream pair.

    Attributes:
        transport: What is behind it.
        has_bytes: Whether messages become bytes.
        mode: Stateless for one server-side HTTP exchange.
        address: Where a client's peer is.
        server: The SDK's server object that serves it, once it does.
        connection: The connection on it, while somebody up the stack has opened one already.
        http_transport: The server-side streamable HTTP transport.
        end: How the pair is about to end, as far as the transport knows.
        failure: How it broke: the end it means and the error's name.
        generator: The SDK's asynchronous generator that closes the streams when this process leaves the transport,
            until that is seen.
        is_at_end: Whether the session has seen the end of its read stream, where it is noted here.
        is_closed: Whether the dispatcher has seen that end; None if it does not say.
        outbound: Finds a request sent on the pair by its JSON-RPC id.
        posts: Messages a client has written and not yet posted, where a transport posts them in that order.
        is_sent_again: Whether the next POST of a message repeats the one before.
    """

    __slots__ = (
        "address",
        "connection",
        "deleting",
        "end",
        "failure",
        "generator",
        "has_bytes",
        "http_transport",
        "is_at_end",
        "is_closed",
        "is_sent_again",
        "mode",
        "outbound",
        "posts",
        "server",
        "transport",
    )

    def __init__(
        self, transport: Transport, mode: Mode = Mode.STATEFUL, *, address: Address | None = None, http: Any = None
    ) -> None:
        self.transport = transport
        self.has_bytes = TRANSPORTS[transport].has_bytes
        self.mode = mode
        self.address = address
        self.server: Any = None
        self.connection: Connection | None = None
        self.http_transport = http
        self.deleting = False
        self.end: End | None = None
        self.failure: tuple[End, str | int | None] | None = None
        self.generator: weakref.ref[Any] | None = None
        self.is_at_end = False
        self.is_closed: Callable[[], bool | None] = lambda: None
        self.outbound: Callable[[Any], Any] = lambda _: None
        self.posts: deque[Any] | None = None
        self.is_sent_again = False

    @contained
    def opened_by(self, generator: Any) -> None:
        """The SDK's generator has yielded the streams. Not held: whoever drops it closes the streams, too."""
        self.generator = weakref.ref(generator)

    @contained
    def exited(self) -> None:
        """This process leaves the transport. If its session has seen the end before, that was the peer's."""
        self.generator = None
        if self.connection is not None and not self.is_at_end and not self.is_closed():
            self.connection.is_left = True

    def exited_before(self, connection: Connection) -> bool:
        """Whether this process has left the transport under its connection.

        A generator that is dropped, or closed by its event loop, is resumed without passing :class:`Opening`.
        """
        return connection.is_left or (self.generator is not None and _is_resumed(self.generator()))


def _is_resumed(generator: Any) -> bool:
    """Whether an asynchronous generator is past the ``yield`` at which it has waited, or not there any more."""
    return generator is None or bool(getattr(generator, "ag_running", False)) or generator.ag_frame is None


class Streams:
    """All open stream pairs, by the identity of either stream."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._pairs: dict[int, StreamPair] = {}
        lifecycle.at_fork(self._pairs.clear)

    def tag(self, pair: StreamPair, *streams: Any) -> None:
        """Remember the pair; to be undone while the streams are still alive."""
        for stream in streams:
            self._pairs[id(stream)] = pair

    @contained
    def untag(self, *streams: Any) -> None:
        """Forget the streams."""
        for stream in streams:
            self._pairs.pop(id(stream), None)

    @contained
    def exited(self, *streams: Any) -> None:
        """This process leaves the transport behind the streams, which ends with that; forget them."""
        for pair in {self._pairs.pop(id(stream)) for stream in streams if id(stream) in self._pairs}:
            pair.exited()

    def find(self, *streams: Any) -> StreamPair | None:
        """The pair of the first of ``streams`` that has one."""
        for stream in streams:
            pair = self._pairs.get(id(stream))
            if pair is not None:
                return pair
        return None


def address_of(url: object) -> Address | None:
    """The host and port of an endpoint URL; None if it is none."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return None
        return Address(parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme))
    except ValueError:
        # The SDK's own to refuse.
        return None


@contained
def _tag(
    open_streams: Streams, transport: Transport, url: object, streams: Iterable[Any], generator: Any = None
) -> None:
    pair = StreamPair(transport, address=address_of(url))
    if generator is not None:
        pair.opened_by(generator)
    open_streams.tag(pair, *streams)


@contained
def opening_failed(state: State, role: Role, transport: Transport, error: BaseException) -> None:
    """A transport could not be opened: no process, no connection, an HTTP refusal."""
    if state.recorder is None or ending.is_cancellation(error):
        return
    status = getattr(getattr(error, "response", None), "status_code", None)
    state.recorder.connection_error(role, transport, status if isinstance(status, int) else ending.leaf_name(error))


@contained
def broken(state: State, role: Role, pair: StreamPair, item: Exception) -> None:
    """The transport put an exception on the read stream instead of a message."""
    # What an HTTP server could not read it has answered with a status, which is seen at its edge.
    is_answered = role is Role.SERVER and TRANSPORTS[pair.transport].is_http
    if state.recorder is not None and not is_answered:
        state.recorder.connection_error(role, pair.transport, type(item).__name__)


class Opening:
    """The generator behind a transport function, with somebody looking on; ``asynccontextmanager`` drives it.

    It delegates to the one real generator. A second one around it would be closed twice when a loop ends with the
    transport still open.
    """

    def __init__(
        self,
        generator: Any,
        *,
        opened: Callable[[Any], None],
        closing: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._generator = generator
        self._opened = opened
        self._closing = closing
        self._failed = failed
        self._streams: Any = None

    @classmethod
    @contained
    def of(
        cls,
        generator: Any,
        *,
        opened: Callable[[Any], None],
        closing: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> Opening:
        """The generator, watched; None if that is not to be had."""
        return cls(generator, opened=opened, closing=closing, failed=failed)

    def __aiter__(self) -> Opening:
        return self

    async def __anext__(self) -> Any:
        if self._streams is not None:
            self._close()
            return await self._generator.__anext__()
        try:
            streams = await self._generator.__anext__()
        except BaseException as error:
            self._call(self._failed, error)
            raise
        self._streams = streams
        self._call(self._opened, streams)
        return streams

    async def athrow(self, *args: Any) -> Any:
        """An exception leaves the body of the ``async with``."""
        self._close()
        return await self._generator.athrow(*args)

    async def aclose(self) -> None:
        """The generator is given up."""
        self._close()
        await self._generator.aclose()

    @contained
    def _close(self) -> None:
        streams, self._streams = self._streams, ()
        if streams:
            self._closing(streams)

    @contained
    def _call(self, callback: Callable[[Any], None], value: Any) -> None:
        callback(value)


def _tagged(state: State, open_streams: Streams, transport: Transport, role: Role) -> Callable[[Any], Any]:
    """Make a wrapper for the generator function of a transport that yields ``(read, write, ...)``."""

    def make(original: Any) -> Any:
        url = Parameter(original, "url", 0)

        @functools.wraps(original)
        def generator(*args: Any, **kwargs: Any) -> Any:
            if state.recorder is None:
                return original(*args, **kwargs)
            if TRANSPORTS[transport].is_on_stdout and role is Role.SERVER:
                warn_on_stdio()
            opening = original(*args, **kwargs)
            # A server's transport, once left, still waits for its client to end the stream.
            is_ours = role is Role.CLIENT
            forget = open_streams.exited if is_ours else open_streams.untag
            watched = Opening.of(
                opening,
                opened=lambda streams: _tag(
                    open_streams, transport, url.of(args, kwargs), streams[:2], opening if is_ours else None
                ),
                closing=lambda streams: forget(*streams[:2]),
                failed=lambda error: opening_failed(state, role, transport, error),
            )
            return opening if watched is None else watched

        return generator

    return make


def _tagged_pairs(state: State, open_streams: Streams) -> Callable[[Any], Any]:
    """Likewise for ``create_client_server_memory_streams``, which yields two pairs."""

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def generator(*args: Any, **kwargs: Any) -> Any:
            if state.recorder is None:
                return original(*args, **kwargs)
            opening = original(*args, **kwargs)
            watched = Opening.of(
                opening,
                opened=lambda pairs: _tag_pairs(open_streams, pairs, opening),
                closing=lambda pairs: open_streams.exited(*(stream for pair in pairs for stream in pair)),
                failed=lambda error: None,
            )
            return opening if watched is None else watched

        return generator

    return make


@contained
def _tag_pairs(open_streams: Streams, pairs: Any, generator: Any) -> None:
    for pair in pairs:
        _tag(open_streams, Transport.IN_MEMORY, None, pair, generator)


def patches(state: State, open_streams: Streams) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""

    def tagging(function: str, transport: Transport, role: Role) -> Callable[[ModuleType], None]:
        return partial(_patch, state, open_streams, function, transport, role)

    return (
        ("mcp.server.stdio", tagging("stdio_server", Transport.STDIO, Role.SERVER)),
        ("mcp.client.stdio", tagging("stdio_client", Transport.STDIO, Role.CLIENT)),
        ("mcp.client.streamable_http", partial(_patch_streamable_http_client, state, open_streams)),
        ("mcp.server.websocket", tagging("websocket_server", Transport.WEBSOCKET, Role.SERVER)),
        ("mcp.shared.memory", partial(_patch_memory, state, open_streams)),
    )


def _patch(
    state: State, open_streams: Streams, function: str, transport: Transport, role: Role, module: ModuleType
) -> None:
    state.patches.replace_generator(module, function, _tagged(state, open_streams, transport, role))


def _patch_memory(state: State, open_streams: Streams, module: ModuleType) -> None:
    state.patches.replace_generator(module, "create_client_server_memory_streams", _tagged_pairs(state, open_streams))


def _patch_streamable_http_client(state: State, open_streams: Streams, module: ModuleType) -> None:
    # 1.12 to 1.23 have the old name only; from 1.24 on it delegates to the new one.
    name = "streamable_http_client" if hasattr(module, "streamable_http_client") else "streamablehttp_client"
    _patch(state, open_streams, name, Transport.STREAMABLE_HTTP, Role.CLIENT, module)
