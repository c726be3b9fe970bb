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
from ..adapter import Adapter
from ..streams import Link
from . import messages, seam
from .seam import DCTX, LINE, METHOD, PARAMS, Line, line_of
from .server import ServerNames, server_behind

_CRASH_CODE: Final = "-32603"


def _patch(adapter: Adapter, module: ModuleType) -> None:
    dispatcher = module.DirectDispatcher
    adapter.patches.replace(dispatcher, "run", lambda original: _run(adapter, original))
    adapter.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(adapter, original))
    adapter.patches.replace(dispatcher, "_dispatch_request", lambda original: _dispatch_request(adapter, original))
    adapter.patches.replace(dispatcher, "_dispatch_notify", lambda original: _dispatch_notify(adapter, original))


def _run(adapter: Adapter, original: Any) -> Any:
    run_with = seam.RunWith(original)

    @functools.wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        line = _open(adapter, self, run_with.on_request.of(args, kwargs)) if adapter.recorder is not None else None
        if line is None:
            return await original(self, *args, **kwargs)
        args, kwargs = run_with.on_request.change(args, kwargs, partial(_handle_requests, adapter, line))
        args, kwargs = run_with.watched_notifications(adapter, line, args, kwargs)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            line.is_over = True
            ending.close(line.connection, line.link, line.role, error)
            raise
        line.is_over = True
        # It returns when it is closed, by this process; nothing comes from the other side.
        line.connection.is_left = True
        ending.close(line.connection, line.link, line.role, None)
        return result

    return run


@contained
def _open(adapter: Adapter, dispatcher: Any, on_request: Any) -> Line | None:
    recorder = adapter.recorder
    if recorder is None:
        return None
    session = seam.client_session(dispatcher, on_request)
    role = Role.SERVER if session is None else Role.CLIENT
    link = Link(Transport.IN_MEMORY)
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
    line = Line(adapter, connection, link, role, dispatcher, has_peer=True)
    setattr(dispatcher, LINE, line)
    connection.lives_here()
    seam.establish_adopted(line, session)
    return line


@contained
def _handle_requests(adapter: Adapter, line: Line, on_request: Any) -> Any:
    """Wrap the ``on_request`` callback a dispatcher is run with. The handler runs in the caller's task."""
    begin = line.connection.begin
    inbound = Direction.INBOUND

    async def on_request_seen(*args: Any, **kwargs: Any) -> Any:
        dctx, method, params = DCTX.of(args, kwargs), METHOD.of(args, kwargs), PARAMS.of(args, kwargs)
        request = begin(inbound, method, params) if adapter.recorder is not None else None
        if request is None:
            return await on_request(*args, **kwargs)
        try:
            result = await on_request(*args, **kwargs)
        except BaseException as error:
            _raised(line, request, dctx, error)
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
def _raised(line: Line, request: Request, dctx: Any, error: BaseException) -> None:
    cancelled = not isinstance(error, Exception) or dctx.cancel_requested.is_set()
    request.end(CANCELLED if cancelled else messages.outcome_of(error, line.connection.crash_code))


def _send_raw_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def send_raw_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        line = line_of(adapter, self)
        if line is None or not line.closed():
            return original(self, *args, **kwargs)
        return seam.call(line, original, self, args, kwargs)

    return send_raw_request


def _dispatch_request(adapter: Adapter, original: Any) -> Any:
    method_of, params_of = Parameter(original, "method", 0).of, Parameter(original, "params", 1).of

    @functools.wraps(original)
    async def _dispatch_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        line = line_of(adapter, getattr(self, "_peer", None))
        request, params = None, params_of(args, kwargs)
        if line is not None:
            request = line.connection.begin(Direction.OUTBOUND, method_of(args, kwargs), params)
        if request is None or line is None:
            return await original(self, *args, **kwargs)
        if request.is_ping and not line.closed():
            request.sent()
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            messages.call_raised(line, request, error)
            raise
        messages.answered(request, params, result)
        return result

    return _dispatch_request


def _dispatch_notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def _dispatch_notify(self: Any, *args: Any, **kwargs: Any) -> Any:
        return seam.notify(line_of(adapter, getattr(self, "_peer", None)), original, self, args, kwargs)

    return _dispatch_notify


PATCHES: Final = (("mcp.shared.direct_dispatcher", _patch),)
