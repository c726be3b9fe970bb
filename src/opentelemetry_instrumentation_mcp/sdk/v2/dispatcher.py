"""``JSONRPCDispatcher``: every stream pair of 2.x, of both roles and both eras.

The life of a client's connection, and of a server's over HTTP, is that of ``run``: it returns at the end of the stream
and is cancelled at a local exit. A server behind ``Server.run`` has a dispatcher only from its first request on; its
connection is opened there (:mod:`.server`) and found here.

What sees every message is put on the dispatcher itself while it runs, made for its side, so that no message has to look
for that. What is called seldom, or after the end, is replaced in the class.

A request begins when it is taken off the read stream, and ends when its answer is written or it is settled without one.
A release whose functions are not as we know them has its handler wrapped instead (:mod:`.handler`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Collection, Mapping
from functools import partial
from types import ModuleType
from typing import Any, Final, NamedTuple

from ...core.fail_open import contained, report
from ...core.json_shapes import fields
from ...metrics.events import Answered, Request, as_known
from ...metrics.outcome import CONNECTION_LOST
from ...metrics.vocabulary import Death, Role, Transport
from ...patching.arguments import Parameter
from ...patching.patches import names_in, parameters_of
from .. import ending
from ..http_client import can_be_a_reply
from ..object_methods import ObjectMethods
from ..outbound import CURRENT
from ..sizes import MOST_WAITING, Sizes
from ..spans import Spans
from ..state import ModulePatch, State
from ..streams import StreamPair, Streams, broken
from . import handler, messages, seam
from .seam import SIDE, DispatcherSide, side_of
from .server import open_server, server_behind

_WATCHED: Final = ("_dispatch", "_write", "_spawn")
"""The methods every message goes through."""

_RESULT: Final = "_write_result"
_SETTLE: Final = "_settle_unanswered"
"""The methods with which a request ends: with a result, and without an answer, since its peer has cancelled it."""

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
_HANDLE_REQUEST: Final = frozenset(
    {
        "CONNECTION_CLOSED", "ErrorData", "Exception", "_SHUTDOWN_WRITE_TIMEOUT", "_final_write", "_in_flight",
        "_raise_handler_exceptions", "_settle_unanswered", "_write_error", "_write_result", "anyio", "cancel_requested",
        "close", "coerce_request_id", "dctx", "exception", "get", "get_cancelled_exc_class",
        "handler_exception_to_error_data", "id", "is_set", "logger", "method", "params", "partial", "str"
    }
)  # fmt: skip
_PARAMETERS: Final = {
    "_dispatch": ("item", "on_request", "on_notify", "sender_ctx"),
    "_dispatch_request": ("req", "metadata", "on_request", "sender_ctx"),
    "_handle_request": ("req", "dctx", "scope", "on_request"),
    "_write": ("message", "metadata"),
    _RESULT: ("request_id", "result"),
}
_WRITE: Final = frozenset({"SessionMessage", "_write_stream", "send"})
_WRITE_RESULT: Final = frozenset(
    {"BrokenResourceError", "ClosedResourceError", "JSONRPCResponse", "_write", "anyio", "debug", "logger"}
)
"""Every name these methods use in 2.0 to 2.3, and their parameters. Where they still do, we know what they do with a
message, and do it in their place: another call around each of them is what a request would notice most."""


class _Services(NamedTuple):
    """What the dispatchers of one ``instrument()`` share."""

    state: State
    open_streams: Streams
    sizes: Sizes
    spans: Spans
    methods: ObjectMethods


class _Sdk(NamedTuple):
    """What is known of the release's dispatcher: the classes of messages, and which methods are as we know them."""

    request: Any
    response: Any
    error: Any
    notification: Any
    session_message: Any
    watched: tuple[str, ...]
    functions: Mapping[str, Any]
    logger: Any
    unwritable: tuple[Any, ...]
    dispatches_as_known: bool
    writes_as_known: bool
    answers_as_known: bool


def patches(
    state: State, open_streams: Streams, sizes: Sizes, spans: Spans, methods: ObjectMethods
) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    services = _Services(state, open_streams, sizes, spans, methods)
    return (("mcp.shared.jsonrpc_dispatcher", partial(_patch, services)),)


def _patch(services: _Services, module: ModuleType) -> None:
    state, dispatcher = services.state, module.JSONRPCDispatcher
    functions: dict[str, Any] = {
        name: getattr(dispatcher, name, None)
        for name in (*_WATCHED, "_dispatch_request", "_handle_request", _RESULT, _SETTLE)
    }
    # A method with another parameter is one we do not know, whatever names it uses.
    names = {
        name: names_in(function)
        if parameters_of(function) == _PARAMETERS.get(name, parameters_of(function))
        else frozenset[str]()
        for name, function in functions.items()
    }
    # From where they are defined: the dispatcher's own imports are no part of what it is.
    types: Any = sys.modules.get("mcp_types")
    request, response, error, notification = (
        getattr(types, f"JSONRPC{kind}", None) for kind in ("Request", "Response", "Error", "Notification")
    )
    session_message = getattr(sys.modules.get("mcp.shared.message"), "SessionMessage", None)
    are_known = None not in (request, response, error, notification, session_message)
    watched = tuple(name for name in _WATCHED if state.patches.expect(dispatcher, name))
    dispatches_as_known = names["_dispatch"] == _DISPATCH and names["_dispatch_request"] == _DISPATCH_REQUEST
    found = (getattr(sys.modules.get("anyio"), name, None) for name in ("BrokenResourceError", "ClosedResourceError"))
    unwritable = tuple(each for each in found if each is not None)
    answers_as_known = (
        are_known
        and len(unwritable) == 2
        and {"_dispatch", "_write"}.issubset(watched)
        and dispatches_as_known
        and names["_handle_request"] == _HANDLE_REQUEST
        and names["_write"] == _WRITE
        and names[_RESULT] == _WRITE_RESULT
        and bool(names[_SETTLE])
    )
    sdk = _Sdk(
        request,
        response,
        error,
        notification,
        session_message,
        (*watched, _RESULT, _SETTLE) if answers_as_known else watched,
        functions,
        getattr(module, "logger", None),
        unwritable,
        are_known and dispatches_as_known,
        are_known and names["_write"] == _WRITE,
        answers_as_known,
    )
    state.patches.replace(dispatcher, "run", lambda original: _run(services, sdk, original))
    state.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(state, original))
    state.patches.replace(dispatcher, "notify", lambda original: _notify(state, original))


def _run(services: _Services, sdk: _Sdk, original: Any) -> Any:
    state, run_with = services.state, seam.RunWith(original)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        opened = _open(services, self, run_with.on_request.of(args, kwargs)) if state.recorder is not None else None
        if opened is None:
            return await original(self, *args, **kwargs)
        side, owned = opened
        if not _watch(services, sdk, side, self):
            args, kwargs = run_with.on_request.change(args, kwargs, partial(handler.watched, state, side))
        args, kwargs = run_with.watched_notifications(state, side, args, kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _finished(side, owned, error)
            raise
        else:
            _finished(side, owned, None)
            return result
        finally:
            services.methods.take_off(self)

    return run


@contained
def _open(services: _Services, dispatcher: Any, on_request: Any) -> tuple[DispatcherSide, bool] | None:
    """The side of a dispatcher that starts to run, and whether the connection's life is that of the run."""
    state, open_streams = services.state, services.open_streams
    recorder = state.recorder
    if recorder is None:
        return None
    pair = open_streams.find(dispatcher._write_stream, dispatcher._read_stream) or StreamPair(Transport.OTHER)
    session = seam.client_session(dispatcher, on_request)
    role = Role.SERVER if session is None else Role.CLIENT
    connection = pair.connection if role is Role.SERVER else None
    owned = connection is None
    if connection is None:
        if role is Role.SERVER:
            connection = open_server(state, services.spans, pair, server_behind(on_request) or pair.server)
        else:
            connection = recorder.open(role, pair.transport, address=pair.address)
        if connection is None:
            return None
        pair.connection = connection
    side = DispatcherSide(state, connection, pair, role, dispatcher)
    connection.in_flight = partial(ending.give_up, side.inbound, side.outbound)
    if owned:
        connection.end_with_event_loop()
    setattr(dispatcher, SIDE, side)
    seam.establish_adopted(side, session)
    return side, owned


def _send_raw_request(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def send_raw_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        # As side_of() has it, for every request.
        side: DispatcherSide | None = getattr(self, SIDE, None)
        if side is not None and (side.state is not state or state.recorder is None):
            side = None
        return seam.call(side, original, self, args, kwargs)

    return send_raw_request


@contained
def _watch(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any) -> bool:
    """Watch the methods of a dispatcher; whether its requests are seen from their beginning to their end by that."""
    if not hasattr(dispatcher, "_closed") or any(
        getattr(dispatcher.__class__, name, None) is not function for name, function in sdk.functions.items()
    ):
        # A class of the application's own, or somebody else stands around them: they are to be called.
        sdk = sdk._replace(
            watched=tuple(name for name in sdk.watched if name in _WATCHED),
            dispatches_as_known=False,
            writes_as_known=False,
            answers_as_known=False,
        )
    make = {
        "_dispatch": _dispatch,
        "_write": _write,
        "_spawn": _spawn,
        _RESULT: _write_result,
        _SETTLE: _settle_unanswered,
    }
    methods = {name: make[name](services, sdk, side, dispatcher, getattr(dispatcher, name)) for name in sdk.watched}
    if sdk.dispatches_as_known and "_spawn" in methods:
        # For the time of what is not a request: see _dispatch_counting.
        side.spawn = methods.pop("_spawn")
    services.methods.put_on(dispatcher, methods, _staying)
    side.sees_replies = {"_dispatch", "_write"}.issubset(methods)
    return sdk.answers_as_known


def _staying(dispatcher: Any) -> Collection[str]:
    """What has to go on after an ``uninstrument()``: what is open still ends."""
    side: DispatcherSide = getattr(dispatcher, SIDE)
    side.is_retired = True
    return ("_write", _RESULT, _SETTLE) if side.inbound.opened else ()


@contained
def _finished(side: DispatcherSide, owned: bool, error: BaseException | None) -> None:
    """The dispatcher has stopped: what is still open has got no answer."""
    side.is_finished = True
    handler.end_all(side)
    if owned:
        ending.close(side.connection, side.pair, side.role, error)


# What follows runs for every message, and contains itself: a decorator costs more than what many of these do.


def _dispatch(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any, original: Any) -> Any:
    request_class, response_class = sdk.request, sdk.response
    has_bytes, answers_as_known = side.pair.has_bytes, sdk.answers_as_known
    state, incoming = services.state, services.sizes.incoming
    take, in_body = incoming.pop, services.sizes.take
    begin, arrived, outbound = side.inbound.begin, side.arrived, side.outbound
    # It starts one task for a request, whatever becomes of that.
    task_started = side.connection.task_started if sdk.dispatches_as_known else None

    @functools.wraps(original)
    def _dispatch(*args: Any, **kwargs: Any) -> Any:
        item: Any = args[0] if args else kwargs.get("item")
        try:
            message = item.message
            if type(message) is request_class:
                metadata = item.metadata
                # Past pydantic, which would look each of them up by a function of Python's.
                values = message.__dict__
                size = -1
                if has_bytes or incoming:
                    size = take(id(message), -1) if metadata is None else in_body(message, metadata)
                    if not has_bytes:
                        # Parsed by a transport of the application's own.
                        size = -1
                if answers_as_known:
                    begin(values["id"], values, size)
                elif size >= 0:
                    arrived[values["id"]] = size
                if task_started is not None:
                    task_started()
                    if len(args) == 4 and not kwargs:
                        return dispatcher._dispatch_request(message, metadata, args[1], args[3])
                return original(*args, **kwargs)
            if type(message) is response_class:
                metadata = item.metadata
                size = -1
                if has_bytes or incoming:
                    size = take(id(message), -1) if metadata is None else in_body(message, metadata)
                    if not has_bytes:
                        # Parsed by a transport of the application's own.
                        size = -1
                request_id = message.__dict__["id"]
                request = outbound.get(request_id) or outbound.get(as_known(outbound, request_id))
                if request is not None:
                    request.answered = True
                    if size >= 0:
                        if request.response_bytes < 0 and not request.ended:
                            # In place of Request.measured(), since its end will take it.
                            request.response_bytes = size
                        else:
                            request.measured(size, response=True)
                if task_started is not None:
                    # It starts none.
                    return original(*args, **kwargs)
            else:
                _arrived(services, sdk, side, item, message)
        except Exception as error:
            if isinstance(item, Exception):
                broken(state, side.role, side.pair, item)
            else:
                report("dispatcher.dispatch", error)
        if side.spawn is None:
            return original(*args, **kwargs)
        return _dispatch_counting(side, dispatcher, original(*args, **kwargs))

    return _dispatch


async def _dispatch_counting(side: DispatcherSide, dispatcher: Any, dispatching: Awaitable[Any]) -> Any:
    """What is neither request nor response starts no task, one or two; they are counted where they are started."""
    methods = dispatcher.__dict__
    methods["_spawn"] = side.spawn
    try:
        return await dispatching
    finally:
        methods.pop("_spawn", None)


def _arrived(services: _Services, sdk: _Sdk, side: DispatcherSide, item: Any, message: Any) -> None:
    """Something other than a request or its result came off the read stream."""
    if isinstance(item, Exception):
        broken(services.state, side.role, side.pair, item)
        return
    size = services.sizes.take(message, item.metadata)
    if not side.pair.has_bytes:
        size = -1
    if type(message) is not sdk.notification:
        _error_came(side, message.id, size)
    elif side.inbound.opened and message.method == "notifications/cancelled":
        side.inbound.cancel(side.inbound.known(fields(message.params).get("requestId")))


def _error_came(side: DispatcherSide, request_id: Any, size: int) -> None:
    request = side.outbound.get(as_known(side.outbound, request_id))
    if request is not None:
        request.answered = True
        # What the SDK has made of an HTTP error was never parsed: a size under its identity is that of a message long
        # dropped. The answer itself has it (messages.call_raised).
        if size >= 0 and can_be_a_reply(request.hint):
            request.measured(size, response=True)


def _write_result(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any, original: Any) -> Any:
    response, session_message, has_bytes = sdk.response, sdk.session_message, side.pair.has_bytes
    posts, answer = side.pair.posts, side.inbound.answer
    sizes, outgoing = services.sizes, services.sizes.outgoing

    @functools.wraps(original)
    async def _write_result(*args: Any, **kwargs: Any) -> Any:
        if len(args) != 2 or kwargs:
            # More than we know. The result is seen when it is written.
            return await original(*args, **kwargs)
        request_id, result = args
        message = response(jsonrpc="2.0", id=request_id, result=result)
        # In the step in which the handler was done.
        try:
            if dispatcher._closed:
                answered = _too_late(side, request_id)
            else:
                answered = answer(request_id, result)
                if isinstance(answered, Request):
                    # It says more than that its request is done well, or not even that.
                    messages.answered(answered, answered.hint, result)
            if has_bytes and answered is not None:
                outgoing[id(message)] = answered
                if len(outgoing) > MOST_WAITING:
                    sizes.give_up()
            if posts is not None:
                posts.append(message)
        except Exception as error:
            report("dispatcher.result", error)
        try:
            await dispatcher._write_stream.send(session_message(message=message, metadata=None))
        except sdk.unwritable:
            # As the SDK does: the result is lost, and that is all.
            _unwritten(sizes, side, message)
            sdk.logger.debug("dropped result for %r: write stream closed", request_id)
        except Exception:
            _unwritten(sizes, side, message)
            raise
        finally:
            if side.is_retired:
                _retired(services.methods, side, dispatcher)

    return _write_result


def _write(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any, original: Any) -> Any:
    posts, has_bytes, request_class = side.pair.posts, side.pair.has_bytes, sdk.request
    sizes, outgoing, outbound = services.sizes, services.sizes.outgoing, side.outbound

    @functools.wraps(original)
    async def _write(*args: Any, **kwargs: Any) -> Any:
        message = args[0] if args else kwargs.get("message")
        try:
            if posts is not None:
                posts.append(message)
            if type(message) is request_class:
                request = CURRENT.get()
                if request is not None and not request.ended:
                    request.id = request_id = message.__dict__["id"]
                    outbound[request_id] = request
                    if request.is_ping:
                        request.sent()
                    if has_bytes:
                        outgoing[id(message)] = request
                        if len(outgoing) > MOST_WAITING:
                            sizes.give_up()
            else:
                _writing(sizes, sdk, side, message)
        except Exception as error:
            report("dispatcher.write", error)
        try:
            if sdk.writes_as_known and 0 < len(args) <= 2 and not kwargs:
                metadata = args[1] if len(args) == 2 else None
                await dispatcher._write_stream.send(sdk.session_message(message=message, metadata=metadata))
                return None
            return await original(*args, **kwargs)
        except Exception:
            _unwritten(sizes, side, message)
            raise
        finally:
            if side.is_retired:
                _retired(services.methods, side, dispatcher)

    return _write


@contained
def _retired(methods: ObjectMethods, side: DispatcherSide, dispatcher: Any) -> None:
    if not side.inbound.opened:
        methods.take_off(dispatcher)


def _too_late(side: DispatcherSide, request_id: Any) -> Request | None:
    """A result is written when the stream has ended under it."""
    request = side.inbound.take(request_id)
    if request is not None:
        request.end(CONNECTION_LOST)
    return request


def _writing(sizes: Sizes, sdk: _Sdk, side: DispatcherSide, message: Any) -> None:
    """Something other than a request goes to the write stream."""
    request: Request | tuple[Any, Answered] | None
    if type(message) is sdk.error:
        request = handler.refused(side, message.id, message.error)
    elif type(message) is not sdk.response:
        return
    elif sdk.answers_as_known:
        # The SDK has written the result itself.
        request = side.inbound.answer(message.id, message.result)
        if isinstance(request, Request):
            messages.answered(request, request.hint, message.result)
    else:
        # Where results are not written as we know it.
        request, side.answering = side.answering, None
    if request is not None and side.pair.has_bytes:
        sizes.expect(message, request)


def _settle_unanswered(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any, original: Any) -> Any:
    dctx = Parameter(original, "dctx", 0)

    @functools.wraps(original)
    def settle_unanswered(*args: Any, **kwargs: Any) -> Any:
        handler.settled(side, dctx.of(args, kwargs))
        if side.is_retired:
            _retired(services.methods, side, dispatcher)
        return original(*args, **kwargs)

    return settle_unanswered


@contained
def _unwritten(sizes: Sizes, side: DispatcherSide, message: Any) -> None:
    sizes.outgoing.pop(id(message), None)
    if side.closed() is False and side.pair.end is None:
        side.connection.dead(Death.WRITE_FAILED)


def _spawn(services: _Services, sdk: _Sdk, side: DispatcherSide, dispatcher: Any, original: Any) -> Any:
    @functools.wraps(original)
    def _spawn(*args: Any, **kwargs: Any) -> Any:
        try:
            side.connection.task_started()
        except Exception as error:
            report("dispatcher.spawn", error)
        return original(*args, **kwargs)

    return _spawn


def _notify(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def notify(self: Any, *args: Any, **kwargs: Any) -> Any:
        return seam.notify(side_of(state, self), original, self, args, kwargs)

    return notify
