"""``DirectDispatcher``: a client and a server in one process, without streams.

A call is an await of the peer's ``_dispatch_request``, in both directions (a handler's back-channel goes there without
passing the peer's ``send_raw_request``). One that finds its own side closed is refused before it gets there.
"""

from __future__ import annotations

import functools
from functools import partial
from types import ModuleType
from typing import Any, Final

from ...core.fail_open import contained, report
from ...metrics.events import Request
from ...metrics.outcome import CANCELLED
from ...metrics.vocabulary import Direction, Role, Transport
from ...patching.arguments import Parameter
from .. import ending
from ..state import ModulePatch, State
from ..streams import StreamPair
from . import messages, seam
from .seam import DCTX, METHOD, PARAMS, SIDE, DispatcherSide, side_of
from .server import ServerNames, server_behind

_CRASH_CODE: Final = "-32603"


def patches(state: State) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.shared.direct_dispatcher", partial(_patch, state)),)


def _patch(state: State, module: ModuleType) -> None:
    dispatcher = module.DirectDispatcher
    state.patches.replace(dispatcher, "run", lambda original: _run(state, original))
    state.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(state, original))
    state.patches.replace(dispatcher, "_dispatch_request", lambda original: _dispatch_request(state, original))
    state.patches.replace(dispatcher, "_dispatch_notify", lambda original: _dispatch_notify(state, original))


def _run(state: State, original: Any) -> Any:
    run_with = seam.RunWith(original)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        side = _open(state, self, run_with.on_request.of(args, kwargs)) if state.recorder is not None else None
        if side is None:
            return await original(self, *args, **kwargs)
        args, kwargs = run_with.on_request.change(args, kwargs, partial(_handle_requests, state, side))
        args, kwargs = run_with.watched_notifications(state, side, args, kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            side.is_finished = True
            ending.close(side.connection, side.pair, side.role, error)
            raise
        side.is_finished = True
        # It returns when it is closed, by this process; nothing comes from the other side.
        side.connection.is_left = True
        ending.close(side.connection, side.pair, side.role, None)
        return result

    return run


@contained
def _open(state: State, dispatcher: Any, on_request: Any) -> DispatcherSide | None:
    recorder = state.recorder
    if recorder is None:
        return None
    session = seam.client_session(dispatcher, on_request)
    role = Role.SERVER if session is None else Role.CLIENT
    pair = StreamPair(Transport.IN_MEMORY)
    server = server_behind(on_request) if role is Role.SERVER else None
    connection = recorder.open(
        role,
        Transport.IN_MEMORY,
        server_name=getattr(server, "name", None),
        registry=ServerNames(server) if server is not None else None,
        crash_code=_CRASH_CODE,
    )
    if connection is None:
        return None
    side = DispatcherSide(state, connection, pair, role, dispatcher, has_peer=True)
    setattr(dispatcher, SIDE, side)
    connection.end_with_event_loop()
    seam.establish_adopted(side, session)
    return side


@contained
def _handle_requests(state: State, side: DispatcherSide, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with. The handler runs in the caller's task."""
    begin = side.connection.begin
    inbound = Direction.INBOUND

    async def on_request_seen(*args: Any, **kwargs: Any) -> Any:
        dctx, method, params = DCTX.of(args, kwargs), METHOD.of(args, kwargs), PARAMS.of(args, kwargs)
        request = begin(inbound, method, params) if state.recorder is not None else None
        if request is None:
            return await on_request(*args, **kwargs)
        try:
            result = await on_request(*args, **kwargs)
        except BaseException as error:
            _raised(side, request, dctx, error)
            raise
        try:
            if dctx.cancel_requested.is_set():
                request.end(CANCELLED)
            else:
                messages.answered(request, params, result)
        except Exception as error:
            report("direct.returned", error)
        return result

    return on_request_seen


@contained
def _raised(side: DispatcherSide, request: Request, dctx: Any, error: BaseException) -> None:
    cancelled = not isinstance(error, Exception) or dctx.cancel_requested.is_set()
    request.end(CANCELLED if cancelled else messages.outcome_of(error, side.connection.crash_code))


def _send_raw_request(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def send_raw_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        side = side_of(state, self)
        if side is None or not side.closed():
            return original(self, *args, **kwargs)
        return seam.call(side, original, self, args, kwargs)

    return send_raw_request


def _dispatch_request(state: State, original: Any) -> Any:
    method_of, params_of = Parameter(original, "method", 0).of, Parameter(original, "params", 1).of

    @functools.wraps(original)
    async def _dispatch_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        side = side_of(state, getattr(self, "_peer", None))
        request, params = None, params_of(args, kwargs)
        if side is not None:
            request = side.connection.begin(Direction.OUTBOUND, method_of(args, kwargs), params)
        if request is None or side is None:
            return await original(self, *args, **kwargs)
        if request.is_ping and not side.closed():
            request.sent()
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            messages.call_raised(side, request, error)
            raise
        messages.answered(request, params, result)
        return result

    return _dispatch_request


def _dispatch_notify(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def _dispatch_notify(self: Any, *args: Any, **kwargs: Any) -> Any:
        return seam.notify(side_of(state, getattr(self, "_peer", None)), original, self, args, kwargs)

    return _dispatch_notify
