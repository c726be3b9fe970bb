"""Sessions of mcp 1.x: every message that crosses ``BaseSession``'s two streams.

The streams a session is built on are put behind :class:`_ReadStream` and :class:`_WriteStream`, which hand every
message to a :class:`SessionObserver` and pass it on untouched. The life of the connection is that of
``BaseSession._receive_loop``: it starts in ``__aenter__``, returns at the end of the stream, is cancelled at a local
exit. All it does it does with the read stream entered, so that the end of that is its own; a coroutine around it would
be woken up for every message.
"""

from __future__ import annotations

import functools
import sys
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ...core.fail_open import contained, report
from ...core.json_shapes import fields
from ...metrics.events import Answered, Connection, InboundRequests, Request, as_known
from ...metrics.labels import LISTINGS
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, OK, TIMEOUT, TOOL_ERROR, Outcome, error_reply
from ...metrics.vocabulary import Death, Direction, Role, Transport
from ...patching.arguments import Parameter
from ...patching.patches import names_in
from .. import ending
from ..outbound import reset
from ..sizes import MOST_WAITING, Sizes
from ..spans import Spans
from ..state import ModulePatch, State
from ..streams import StreamPair, Streams, broken
from .server import ServerNames

if TYPE_CHECKING:
    from .spans import SessionSpans

OBSERVER: Final = "_otel_mcp_observer"
"""Attribute left on a session object (not on its class)."""

_WRITTEN: Final[ContextVar[list[Any] | None]] = ContextVar("opentelemetry_instrumentation_mcp_written", default=None)
"""The ids of the requests that were written in this context."""

_TIMEOUT_CODE: Final = 408
"""``httpx.codes.REQUEST_TIMEOUT``, which 1.x puts into the error of its own timer."""


# What runs for every message looks past pydantic, into the dictionaries of the models: they look up what they have by a
# function of Python's, and ask long for what they do not have.


class SessionObserver:
    """What crosses one session, and the requests that are open on it."""

    def __init__(self, state: State, sizes: Sizes, session: Any, pair: StreamPair) -> None:
        self.state = state
        self.pair = pair
        self.connection: Connection | None = None
        self.exit: BaseException | None = None
        """What the session's ``__aexit__`` was called with: the loop itself only sees a cancellation."""
        self.spans: SessionSpans | None = None
        self._session = session
        self._role = Role.CLIENT
        self._inbound: InboundRequests | None = None
        self._outbound: dict[Any, Request] = {}
        self._sizes = sizes
        self._outgoing = sizes.outgoing
        self.notification: tuple[str, float] | None = None
        """The notification that the session deals with, by its method and when it came."""
        self.finds_ids_when_written = False
        """Whether requests are found by :data:`_WRITTEN`, since the session does not say their ids."""
        pair.outbound = self._outbound.get
        # A notification of 1.x may have an id (its model allows extra fields), and a reply a method: only the class
        # decides.
        types: Any = sys.modules.get("mcp.types")
        self._request, self._notice, self._error = types.JSONRPCRequest, types.JSONRPCNotification, types.JSONRPCError

    @contained
    def open(self) -> None:
        """The session is entered, or its receive loop starts; whichever is seen first."""
        recorder = self.state.recorder
        if recorder is None or self.connection is not None:
            return
        session, pair = self._session, self.pair
        server_session = getattr(sys.modules.get("mcp.server.session"), "ServerSession", None)
        if server_session is not None and isinstance(session, server_session):
            self._role = Role.SERVER
        options = getattr(session, "_init_options", None)
        self.connection = pair.connection = recorder.open(
            self._role,
            pair.transport,
            pair.mode,
            server_name=getattr(options, "server_name", None),
            address=pair.address if self._role is Role.CLIENT else None,
            registry=ServerNames(pair.server) if pair.server is not None else None,
            session_versions=_session_versions() if self._role is Role.SERVER else (),
            crash_code="0",
        )
        if self.connection is not None:
            self._inbound = InboundRequests(self.connection)
            self.connection.in_flight = functools.partial(ending.give_up, self._inbound, self._outbound)
            self.connection.end_with_event_loop()

    @contained
    def finished(self, error: BaseException | None) -> None:
        """The receive loop ended; nothing can be answered any more."""
        connection = self.connection
        if connection is None:
            return
        self.settle()
        connection.is_closing = True
        for request, outcome in self._inbound.take_all() if self._inbound is not None else ():
            self._end(request, outcome)
        for request in self._outbound.values():
            self._end_all(request)
        self._outbound.clear()
        if error is not None and self._role is Role.SERVER and self.exit is not None:
            error = self.exit
        ending.close(connection, self.pair, self._role, error)
        self.pair.connection = None
        if self.spans is not None:
            self.spans.finished()

    @contained
    def left(self, error: BaseException | None) -> None:
        """The session is left: its loop is over, even where that has not left the read stream it was given."""
        if self.connection is not None and not self.connection.closed:
            self.finished(GeneratorExit() if error is None else error)

    def received(self, item: Any) -> None:
        """A message came off the read stream, or what the transport has to say instead of one."""
        inbound = self._inbound
        if inbound is None:
            return
        try:
            if isinstance(item, Exception):
                broken(self.state, self._role, self.pair, item)
                return
            message = item.message
            root = message.__dict__["root"]
            sizes, metadata = self._sizes, item.metadata
            size = sizes.incoming.pop(id(message), -1) if metadata is None else sizes.take(message, metadata)
            if not self.pair.has_bytes:
                size = -1
            if type(root) is self._notice:
                self._noticed(inbound, item, root)
            elif type(root) is not self._request:
                outbound, request_id = self._outbound, root.__dict__["id"]
                request = outbound.pop(request_id, None) or outbound.pop(as_known(outbound, request_id), None)
                if request is not None:
                    if request.shadowed is not None:
                        outbound[request.id] = request.shadowed
                    self._replied(request, _OUTBOUND, root, size)
            elif self.state.recorder is not None:
                values = root.__dict__
                if self.spans is None:
                    inbound.begin(values["id"], values, size)
                    return
                request = inbound.begin_request(values["id"], values, size)
                if request is not None:
                    self.spans.request_came(request, root, item.metadata)
        except Exception as error:
            report("session.received", error)

    def _noticed(self, inbound: InboundRequests, item: Any, root: Any) -> None:
        """A notification came off the read stream."""
        self.notification = (root.method, perf_counter())
        if self.spans is not None and self.state.recorder is not None:
            self.spans.notification_came(root, item.metadata)
        if root.method == "notifications/cancelled":
            inbound.cancel(fields(root.params).get("requestId"))

    def settle(self) -> None:
        """The session asks for the next message: it has dealt with the notification before it."""
        try:
            notification, self.notification = self.notification, None
            if notification is not None and self.connection is not None and self.state.recorder is not None:
                method, since = notification
                self.connection.notified(Direction.INBOUND, method, perf_counter() - since)
            if self.spans is not None:
                self.spans.settle()
        except Exception as error:
            report("session.settle", error)

    def sending(self, item: Any) -> tuple[str | None, Request | None]:
        """A message is about to be written; returns a notification's method, or the request."""
        inbound, connection = self._inbound, self.connection
        if inbound is None or connection is None:
            return None, None
        try:
            message = item.message
            root = message.__dict__["root"]
            if self.pair.posts is not None:
                self.pair.posts.append(message)
            if type(root) is self._request:
                if self.state.recorder is None:
                    return _NOTHING_ASKED
                values = root.__dict__
                request = connection.begin(_OUTBOUND, values["method"], values.get("params"))
                if request is None:
                    return _NOTHING_ASKED
                request.id = request_id = values["id"]
                outbound = self._outbound
                if request_id in outbound:
                    # It waits behind this one: the peer's fault, but each of them is answered.
                    request.shadowed = outbound[request_id]
                outbound[request_id] = request
                if self.finds_ids_when_written and (ids := _WRITTEN.get()) is not None:
                    ids.append(request_id)
                if request.is_ping:
                    request.sent()
                if self.spans is not None:
                    self.spans.request_goes(request, root, item)
                if self.pair.has_bytes:
                    self._outgoing[id(message)] = request
                    if len(self._outgoing) > MOST_WAITING:
                        self._sizes.give_up()
                return None, request
            if type(root) is self._notice:
                return self._noticing(item, root), None
            # Before the write, so that whoever has seen the reply finds it counted.
            values = root.__dict__
            answered = None
            if type(root) is not self._error:
                answered = inbound.answer(values["id"], values["result"])
            if answered is None:
                answered = self._answered(inbound, root)
            if answered is not None:
                if isinstance(answered, Request):
                    self._replied(answered, _INBOUND, root, -1)
                if self.pair.has_bytes:
                    outgoing = self._outgoing
                    outgoing[id(message)] = answered
                    if len(outgoing) > MOST_WAITING:
                        self._sizes.give_up()
            return _NOTHING_ASKED
        except Exception as error:
            report("session.sending", error)
            return None, None

    def _answered(self, inbound: InboundRequests, root: Any) -> Request | tuple[Any, Answered] | None:
        """An error is about to be written, or a result under an id that is not known as it is."""
        request_id = inbound.known(root.id)
        return inbound.take(request_id) if type(root) is self._error else inbound.answer(request_id, root.result)

    def _noticing(self, item: Any, root: Any) -> str | None:
        """A notification is about to be written; its method, if it is watched."""
        if self.state.recorder is None:
            return None
        if self.spans is not None:
            self.spans.notification_goes(root, item)
        method: str = root.method
        return method

    @contained
    def sent(self, method: str, since: float) -> None:
        """The write of a notification returned."""
        if self.connection is not None:
            self.connection.notified(Direction.OUTBOUND, method, perf_counter() - since)

    @contained
    def unsent(self, item: Any, request: Request | None, error: BaseException) -> None:
        """A write raised."""
        if isinstance(error, Exception):
            self._outgoing.pop(id(item.message), None)
        if self.pair.posts is not None:
            with suppress(ValueError):
                self.pair.posts.remove(item.message)
        if self.connection is not None and not ending.is_cancellation(error) and self.pair.end is None:
            self.connection.dead(Death.WRITE_FAILED)
        if request is not None:
            for request_id, each in tuple(self._outbound.items()):
                if each is request:
                    del self._outbound[request_id]
            self._end(request, self._without_reply(error))

    @contained
    def failed(self, request_id: Any, error: BaseException) -> None:
        """``send_request`` raised; if its reply did not pass, the exception says why."""
        request = self._outbound.pop(request_id, None)
        if request is not None:
            self._end(request, self._without_reply(error))

    def _without_reply(self, error: BaseException) -> Any:
        if self.pair.failure is not None:
            return CONNECTION_LOST
        if ending.is_cancellation(error):
            return CANCELLED
        code = getattr(getattr(error, "error", None), "code", None)
        return TIMEOUT if code == _TIMEOUT_CODE else CONNECTION_LOST

    def _replied(self, request: Request, direction: Direction, root: Any, size: int) -> None:
        """A reply passes, and ends the request."""
        if size >= 0:
            if request.ended:
                request.measured(size, response=True)
            else:
                # In place of that, since its end will take it.
                request.response_bytes = size
        if type(root) is self._error:
            error = root.error
            self._end(request, error_reply(error.code, error.message), error)
            return
        result = root.__dict__["result"]
        if result.__class__ is not dict:
            result = fields(result)
        method = request.method
        if method == "initialize":
            self._initialized(result)
        elif method in LISTINGS and self.connection is not None:
            self.connection.listed(direction, method, result)
        outcome = TOOL_ERROR if request.is_tool_call and result.get("isError") is True else OK
        if request.span is None:
            request.end(outcome)
        else:
            self._end(request, outcome)

    def _end(self, request: Request, outcome: Outcome, error: Any = None) -> None:
        if request.span is not None and self.spans is not None:
            self.spans.end(request, outcome, error, self.connection)
        else:
            request.end(outcome)

    def _end_all(self, request: Request | None) -> None:
        while request is not None:
            self._end(request, CONNECTION_LOST)
            request = request.shadowed

    def _initialized(self, result: Any) -> None:
        name = None
        if self._role is Role.CLIENT:
            name = fields(result.get("serverInfo")).get("name")
        if self.connection is not None:
            self.connection.establish(name, result.get("protocolVersion"))


def _session_versions() -> tuple[str, ...]:
    module = sys.modules.get("mcp.shared.version")
    return tuple(getattr(module, "SUPPORTED_PROTOCOL_VERSIONS", ()))


_INBOUND: Final = Direction.INBOUND
_OUTBOUND: Final = Direction.OUTBOUND
_NOTHING_ASKED: Final = (None, None)


class _Stream:
    """A stream behind which an observer stands; everything it does not do itself is the stream's."""

    def __init__(self, stream: Any, observer: SessionObserver) -> None:
        self._stream = stream
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":
            # Not there yet: copy.copy() makes an empty object first.
            raise AttributeError(name)
        return getattr(self._stream, name)

    # Python looks these up on the type, past __getattr__.
    async def __aenter__(self) -> Any:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> Any:
        return await self._stream.__aexit__(*exc_info)


_ANEXT: Final = frozenset({"receive", "EndOfStream", "StopAsyncIteration"})
"""All that ``__anext__`` of anyio's streams uses; done in its place that is one coroutine less for every message."""


@contained
def _end_of(stream: Any) -> type[Exception] | None:
    """What ``receive`` of a stream raises at the end, where that is all there is to its ``__anext__``."""
    kind: type[object] = type(stream)  # pyright: ignore[reportUnknownVariableType]
    function: Any = getattr(kind, "__anext__", None)
    return function.__globals__.get("EndOfStream") if names_in(function) == _ANEXT else None


class _ReadStream(_Stream):
    def __init__(self, stream: Any, observer: SessionObserver) -> None:
        super().__init__(stream, observer)
        self._end = _end_of(stream)

    async def __aenter__(self) -> Any:
        await self._stream.__aenter__()
        self._observer.open()
        return self

    async def __aexit__(self, *exc_info: Any) -> Any:
        error: BaseException | None = exc_info[1] if exc_info else None
        try:
            return await self._stream.__aexit__(*exc_info)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._observer.finished(error)
            # It refers to this frame.
            error = None

    def __aiter__(self) -> _ReadStream:
        # A stream of the application's own may only be iterable.
        return _ReadStream(self._stream.__aiter__(), self._observer)

    async def __anext__(self) -> Any:
        observer = self._observer
        if observer.notification is not None or observer.spans is not None:
            observer.settle()
        if self._end is None:
            try:
                item = await self._stream.__anext__()
            except StopAsyncIteration:
                observer.pair.is_at_end = True
                raise
        else:
            try:
                item = await self._stream.receive()
            except self._end:
                observer.pair.is_at_end = True
                raise StopAsyncIteration from None
        observer.received(item)
        return item

    async def receive(self, *args: Any, **kwargs: Any) -> Any:
        observer = self._observer
        observer.settle()
        item = await self._stream.receive(*args, **kwargs)
        observer.received(item)
        return item


class _WriteStream(_Stream):
    async def send(self, *args: Any, **kwargs: Any) -> Any:
        observer = self._observer
        item: Any = args[0] if args else kwargs.get("item")
        method, request = observer.sending(item)
        since = perf_counter() if method is not None else 0.0
        try:
            result = await self._stream.send(*args, **kwargs)
        except BaseException as error:
            observer.unsent(item, request, error)
            if method is not None and observer.spans is not None:
                observer.spans.unwritten(item, error)
            raise
        if method is not None:
            observer.sent(method, since)
            if observer.spans is not None:
                observer.spans.written(item)
        return result


def patches(state: State, open_streams: Streams, sizes: Sizes, spans: Spans) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.shared.session", functools.partial(_patch, state, open_streams, sizes, spans)),)


def _patch(state: State, open_streams: Streams, sizes: Sizes, spans: Spans, module: ModuleType) -> None:
    session = module.BaseSession
    state.patches.replace(session, "__init__", lambda original: _init(state, open_streams, sizes, spans, original))
    state.patches.replace(session, "__aenter__", _aenter)
    state.patches.replace(session, "__aexit__", _aexit)
    state.patches.replace(session, "send_request", _send_request)


def _init(state: State, open_streams: Streams, sizes: Sizes, spans: Spans, original: Any) -> Any:
    read_stream, write_stream = Parameter(original, "read_stream", 0), Parameter(original, "write_stream", 1)

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        watched = None
        if state.recorder is not None:
            streams = read_stream.of(args, kwargs), write_stream.of(args, kwargs)
            watched = _observed(state, open_streams, sizes, spans, self, *streams)
        if watched is not None:
            args, kwargs = read_stream.put(args, kwargs, watched[0])
            args, kwargs = write_stream.put(args, kwargs, watched[1])
        original(self, *args, **kwargs)

    return __init__


@contained
def _observed(
    state: State,
    open_streams: Streams,
    sizes: Sizes,
    spans: Spans,
    session: Any,
    read_stream: Any,
    write_stream: Any,
) -> tuple[_ReadStream, _WriteStream] | None:
    if read_stream is None or write_stream is None:
        # Called in a way that is not known.
        return None
    pair = open_streams.find(write_stream, read_stream) or StreamPair(Transport.OTHER)
    observer = SessionObserver(state, sizes, session, pair)
    operations = spans.operations()
    if operations is not None:
        from .spans import SessionSpans  # noqa: PLC0415

        observer.spans = SessionSpans(operations, pair)
    watched = _ReadStream(read_stream, observer), _WriteStream(write_stream, observer)
    setattr(session, OBSERVER, observer)
    return watched


def _aenter(original: Any) -> Any:
    @functools.wraps(original)
    async def __aenter__(self: Any, *args: Any, **kwargs: Any) -> Any:
        entered = await original(self, *args, **kwargs)
        observer: SessionObserver | None = getattr(self, OBSERVER, None)
        if observer is not None:
            # The loop is only scheduled yet, and the session may send before it runs.
            observer.open()
        return entered

    return __aenter__


def _aexit(original: Any) -> Any:
    exc_val = Parameter(original, "exc_val", 1)

    @functools.wraps(original)
    async def __aexit__(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer: SessionObserver | None = getattr(self, OBSERVER, None)
        if observer is None:
            return await original(self, *args, **kwargs)
        observer.exit = exc_val.of(args, kwargs)
        try:
            return await original(self, *args, **kwargs)
        finally:
            observer.left(observer.exit)

    return __aexit__


def _send_request(original: Any) -> Any:
    @functools.wraps(original)
    async def send_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer: SessionObserver | None = getattr(self, OBSERVER, None)
        if observer is None:
            return await original(self, *args, **kwargs)
        # The id the SDK takes first thing, before its first await.
        request_id = getattr(self, "_request_id", None)
        if request_id is None:
            return await _found_when_written(observer, original, self, args, kwargs)
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            observer.failed(request_id, error)
            raise

    return send_request


async def _found_when_written(observer: SessionObserver, original: Any, session: Any, args: Any, kwargs: Any) -> Any:
    """Send a request of a session that does not say its next id: it is seen where the request is written, in here."""
    observer.finds_ids_when_written = True
    ids: list[Any] = []
    token = _WRITTEN.set(ids)
    try:
        return await original(session, *args, **kwargs)
    except BaseException as error:
        for request_id in ids:
            observer.failed(request_id, error)
        raise
    finally:
        reset(_WRITTEN, token)
