"""``JSONRPCDispatcher``: every stream pair of 2.x, of both roles and both eras.

The life of a client's connection, and of a server's over HTTP, is that of ``run``: it returns at the end of the stream
and is cancelled at a local exit. A server behind ``Server.run`` has a dispatcher only from its first request on; its
connection is opened there (:mod:`.server`) and found here.

What sees every message is put on the dispatcher itself while it runs, made for its line, so that no message has to look
for that. What is called seldom, or after the end, is replaced in the class.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

from ...metrics.connection import Request
from ...metrics.outcome import CANCELLED, CONNECTION_LOST, Outcome
from ...metrics.vocabulary import Death, Direction, Role, Transport
from ...patching import names_in
from ...safety import contained, report
from ..adapter import Adapter
from ..outbound import current_request
from ..sizes import MOST_WAITING
from ..streams import Link, broken
from . import messages, seam
from .seam import LINE, Line, line_of
from .server import open_server, server_behind

_WATCHED: Final = ("_dispatch", "_write", "_spawn")
"""The methods every message goes through."""

_DISPATCH: Final = frozenset(
    {
        "Exception", "JSONRPCError", "JSONRPCNotification", "JSONRPCRequest", "JSONRPCResponse",
        "_dispatch_notification", "_dispatch_request", "_resolve_pending", "debug", "error", "exception", "id",
        "isinstance", "logger", "message", "metadata", "on_stream_exception", "result"
    }
)  # fmt: skip
_DISPATCH_REQUEST: Final = frozenset(
    {
        "CancelScope", "ErrorData", "Event", "Exception", "INTERNAL_ERROR", "_InFlight", "_JSONRPCDispatchContext",
        "_handle_request", "_in_flight", "_inline_methods", "_spawn", "_transport_builder", "_write_error", "anyio",
        "coerce_request_id", "exception", "id", "logger", "method", "params", "progress_token_from_params", "wait"
    }
)  # fmt: skip
_WRITE: Final = frozenset({"SessionMessage", "_write_stream", "send"})
"""Every name these methods use in 2.0 to 2.3. Where they still do, we know what they do with a message, and do it in
their place: another call around each of them is what a request would notice most."""


class _Sdk(NamedTuple):
    """What is known of the release's dispatcher: the classes of messages, and which methods are as we know them."""

    request: Any
    response: Any
    error: Any
    notification: Any
    session_message: Any
    watched: tuple[str, ...]
    dispatches_as_known: bool
    writes_as_known: bool


def _patch(adapter: Adapter, module: ModuleType) -> None:
    dispatcher = module.JSONRPCDispatcher
    names = {name: names_in(getattr(dispatcher, name, None)) for name in (*_WATCHED, "_dispatch_request")}
    # From where they are defined: the dispatcher's own imports are no part of what it is.
    types: Any = sys.modules.get("mcp_types")
    request, response, error, notification = (
        getattr(types, f"JSONRPC{kind}", None) for kind in ("Request", "Response", "Error", "Notification")
    )
    session_message = getattr(sys.modules.get("mcp.shared.message"), "SessionMessage", None)
    are_known = None not in (request, response, error, notification, session_message)
    sdk = _Sdk(
        request,
        response,
        error,
        notification,
        session_message,
        tuple(name for name in _WATCHED if adapter.patches.expect(dispatcher, name)),
        are_known and names["_dispatch"] == _DISPATCH and names["_dispatch_request"] == _DISPATCH_REQUEST,
        are_known and names["_write"] == _WRITE,
    )
    adapter.patches.replace(dispatcher, "run", lambda original: _run(adapter, sdk, original))
    adapter.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(adapter, original))
    adapter.patches.replace(dispatcher, "notify", lambda original: _notify(adapter, original))


def _run(adapter: Adapter, sdk: _Sdk, original: Any) -> Any:
    @functools.wraps(original)
    async def run(self: Any, on_request: Any, on_notify: Any, on_notify_intercept: Any = None, **kwargs: Any) -> None:
        opened = _open(adapter, self, on_request) if adapter.recorder is not None else None
        if opened is None:
            await original(self, on_request, on_notify, on_notify_intercept, **kwargs)
            return
        line, owned = opened
        on_request = _handle_requests(adapter, line, self, on_request) or on_request
        _watch(adapter, sdk, line, self)
        try:
            await seam.drive(
                adapter, line, owned, partial(original, self, **kwargs), on_request, on_notify, on_notify_intercept
            )
        finally:
            adapter.unwatch(self)

    return run


@contained
def _open(adapter: Adapter, dispatcher: Any, on_request: Any) -> tuple[Line, bool] | None:
    """The line of a dispatcher that starts to run, and whether the connection's life is that of the run."""
    recorder = adapter.recorder
    if recorder is None:
        return None
    link = adapter.streams.find(dispatcher._write_stream, dispatcher._read_stream) or Link(Transport.OTHER)
    session = seam.client_session(dispatcher, on_request)
    role = Role.SERVER if session is None else Role.CLIENT
    connection = link.connection if role is Role.SERVER else None
    owned = connection is None
    if connection is None:
        if role is Role.SERVER:
            connection = open_server(adapter, link, server_behind(on_request) or link.server)
        else:
            connection = recorder.open(role, link.transport, address=link.address)
        if connection is None:
            return None
        link.connection = connection
    line = Line(adapter, connection, link, role, lambda: dispatcher._closed)
    line.tasks = recorder.tasks(role)
    setattr(dispatcher, LINE, line)
    seam.establish_adopted(line, session)
    return line, owned


def _send_raw_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def send_raw_request(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> Any:
        send = partial(original, self, method, params, opts, **kwargs)
        return seam.call(line_of(adapter, self), method, params, send)

    return send_raw_request


@contained
def _watch(adapter: Adapter, sdk: _Sdk, line: Line, dispatcher: Any) -> None:
    make = {"_dispatch": _dispatch, "_write": _write, "_spawn": _spawn}
    methods = {name: make[name](adapter, sdk, line, dispatcher, getattr(dispatcher, name)) for name in sdk.watched}
    if sdk.dispatches_as_known and "_spawn" in methods:
        # For the time of what is not a request: see _dispatch_counting.
        line.spawn = methods.pop("_spawn")
    adapter.watch(dispatcher, methods)


# What follows runs for every message, and contains itself: a decorator costs more than what many of these do.


def _dispatch(adapter: Adapter, sdk: _Sdk, line: Line, dispatcher: Any, original: Any) -> Any:
    request, arrived, has_bytes = sdk.request, line.arrived, line.link.has_bytes
    take, in_body = adapter.sizes.incoming.pop, adapter.sizes.take
    # It starts one task for a request, whatever becomes of that.
    tasks = line.tasks if sdk.dispatches_as_known else None

    @functools.wraps(original)
    def _dispatch(item: Any, on_request: Any, on_notify: Any, sender_ctx: Any) -> Any:
        try:
            message = item.message
            if type(message) is request:
                metadata = item.metadata
                if has_bytes:
                    size = take(id(message), None) if metadata is None else in_body(message, metadata)
                    if size is not None:
                        arrived[message.id] = size
                if tasks is not None:
                    tasks.values.append(1)
                    if len(tasks.values) >= tasks.due:
                        tasks.look_after(1)
                    return dispatcher._dispatch_request(message, metadata, on_request, sender_ctx)
                return original(item, on_request, on_notify, sender_ctx)
            _arrived(adapter, sdk, line, item, message)
        except Exception as error:
            _no_message(adapter, line, item, error)
        if line.spawn is None:
            return original(item, on_request, on_notify, sender_ctx)
        return _dispatch_counting(line, dispatcher, original(item, on_request, on_notify, sender_ctx))

    return _dispatch


async def _dispatch_counting(line: Line, dispatcher: Any, dispatching: Awaitable[None]) -> None:
    """What is not a request starts no task, one or two; they are counted where they are started."""
    methods = dispatcher.__dict__
    methods["_spawn"] = line.spawn
    try:
        await dispatching
    finally:
        methods.pop("_spawn", None)


def _arrived(adapter: Adapter, sdk: _Sdk, line: Line, item: Any, message: Any) -> None:
    """Something other than a request came off the read stream."""
    if isinstance(item, Exception):
        broken(adapter, line.role, line.link, item)
        return
    size = adapter.sizes.take(message, item.metadata) if line.link.has_bytes else None
    if type(message) is not sdk.notification:
        _replied(line, message.id, size)


def _no_message(adapter: Adapter, line: Line, item: Any, error: Exception) -> None:
    if isinstance(item, Exception):
        broken(adapter, line.role, line.link, item)
    else:
        report("dispatcher.dispatch", error)


def _replied(line: Line, request_id: Any, size: int | None) -> None:
    request = line.outbound.get(request_id)
    if request is None and isinstance(request_id, str):
        # As the dispatcher does (dispatcher.coerce_request_id).
        with suppress(ValueError):
            request = line.outbound.get(int(request_id))
    if request is not None:
        request.answered = True
        if size is not None:
            request.measured(size, response=True)


@contained
def _handle_requests(adapter: Adapter, line: Line, dispatcher: Any, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with."""
    take = line.arrived.pop
    begin = line.connection.begin
    inbound = Direction.INBOUND

    async def on_request_seen(dctx: Any, method: str, params: Any) -> Any:
        request = begin(inbound, method, params) if adapter.recorder is not None else None
        if request is None:
            return await on_request(dctx, method, params)
        try:
            request.id = request_id = dctx.request_id
            request.request_bytes = take(request_id, -1)
        except Exception as error:
            report("dispatcher.begin", error)
        try:
            result = await on_request(dctx, method, params)
        except BaseException as error:
            _raised(line, dispatcher, request, dctx, error)
            raise
        try:
            if dctx.cancel_requested.is_set() or dispatcher._closed:
                request.end(_unanswered(dctx))
            else:
                line.answering = request
                messages.answered(request, params, result)
        except Exception as error:
            report("dispatcher.returned", error)
        return result

    return on_request_seen


def _unanswered(dctx: Any) -> Outcome:
    """Why no reply is written to a request whose handler is done: cancelled, or the stream has ended under it."""
    return CANCELLED if dctx.cancel_requested.is_set() else CONNECTION_LOST


@contained
def _raised(line: Line, dispatcher: Any, request: Request, dctx: Any, error: BaseException) -> None:
    if dctx.cancel_requested.is_set() or dispatcher._closed:
        request.end(_unanswered(dctx))
    else:
        line.answering = request
        request.end(messages.outcome_of(error, line.connection.crash_code))


def _write(adapter: Adapter, sdk: _Sdk, line: Line, dispatcher: Any, original: Any) -> Any:
    response, session_message, has_bytes = sdk.response, sdk.session_message, line.link.has_bytes
    posts = line.link.posts
    sizes, outgoing = adapter.sizes, adapter.sizes.outgoing

    @functools.wraps(original)
    async def _write(message: Any, metadata: Any = None) -> None:
        try:
            if posts is not None:
                posts.append(message)
            if type(message) is not response:
                _writing(adapter, sdk, line, message)
            # A result is written in the step in which its handler was done.
            elif has_bytes:
                request = line.answering
                if request is not None:
                    line.answering = None
                    outgoing[id(message)] = request
                    if len(outgoing) > MOST_WAITING:
                        sizes.give_up()
        except Exception as error:
            report("dispatcher.write", error)
        try:
            if sdk.writes_as_known:
                await dispatcher._write_stream.send(session_message(message=message, metadata=metadata))
            else:
                await original(message, metadata)
        except Exception:
            _unwritten(line)
            raise

    return _write


def _writing(adapter: Adapter, sdk: _Sdk, line: Line, message: Any) -> None:
    """Something other than a result goes to the write stream."""
    if type(message) is sdk.request:
        request = current_request()
        if request is None:
            return
        request.id = message.id
        line.outbound[message.id] = request
        request.sent()
    elif type(message) is sdk.error:
        request, line.answering = line.answering, None
        if request is None or request.id != message.id:
            return
    else:
        return
    if line.link.has_bytes:
        adapter.sizes.expect(message, request)


@contained
def _unwritten(line: Line) -> None:
    if not line.closed() and line.link.end is None:
        line.connection.dead(Death.WRITE_FAILED)


def _spawn(adapter: Adapter, sdk: _Sdk, line: Line, dispatcher: Any, original: Any) -> Any:
    @functools.wraps(original)
    def _spawn(*args: Any, **kwargs: Any) -> Any:
        if line.tasks is not None:
            try:
                line.tasks.add(1)
            except Exception as error:
                report("dispatcher.spawn", error)
        return original(*args, **kwargs)

    return _spawn


def _notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def notify(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> Any:
        return seam.notify(line_of(adapter, self), method, partial(original, self, method, params, opts, **kwargs))

    return notify


PATCHES: Final = (("mcp.shared.jsonrpc_dispatcher", _patch),)
