"""``JSONRPCDispatcher``: every stream pair of 2.x, of both roles and both eras.

The life of a client's connection, and of a server's over HTTP, is that of ``run``: it returns at the end of the stream
and is cancelled at a local exit. A server behind ``Server.run`` has a dispatcher only from its first request on; its
connection is opened there (:mod:`.server`) and found here.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, Final

from ...metrics.vocabulary import Death, Role, Transport
from ...safety import contained, report
from ..adapter import Adapter
from ..outbound import current_request
from ..streams import Link, broken
from . import seam
from .seam import LINE, Line, line_of
from .server import open_server, server_behind

_REQUEST: Final = "JSONRPCRequest"
_NOTIFICATION: Final = "JSONRPCNotification"


def _patch(adapter: Adapter, module: ModuleType) -> None:
    dispatcher = module.JSONRPCDispatcher
    adapter.patches.replace(dispatcher, "run", lambda original: _run(adapter, original))
    adapter.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(adapter, original))
    adapter.patches.replace(dispatcher, "notify", lambda original: _notify(adapter, original))
    adapter.patches.replace(dispatcher, "_dispatch", lambda original: _dispatch(adapter, original))
    adapter.patches.replace(dispatcher, "_write", lambda original: _write(adapter, original))
    adapter.patches.replace(dispatcher, "_spawn", lambda original: _spawn(adapter, original))


def _run(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def run(self: Any, on_request: Any, on_notify: Any, on_notify_intercept: Any = None, **kwargs: Any) -> None:
        opened = _open(adapter, self, on_request) if adapter.recorder is not None else None
        if opened is None:
            await original(self, on_request, on_notify, on_notify_intercept, **kwargs)
            return
        line, owned = opened
        await seam.drive(
            adapter, line, owned, partial(original, self, **kwargs), on_request, on_notify, on_notify_intercept
        )

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
    setattr(dispatcher, LINE, line)
    seam.establish_adopted(line, session)
    return line, owned


# What follows runs for every message. Wrappers that need not see how the original ends are plain functions that return
# its coroutine, and hooks contain themselves: a decorator costs more than what many of them do.


def _send_raw_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def send_raw_request(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> Any:
        send = partial(original, self, method, params, opts, **kwargs)
        return seam.call(line_of(adapter, self), method, params, send)

    return send_raw_request


def _dispatch(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def _dispatch(self: Any, item: Any, *args: Any, **kwargs: Any) -> Any:
        line = line_of(adapter, self)
        if line is not None:
            _arrived(adapter, line, item)
        return original(self, item, *args, **kwargs)

    return _dispatch


def _arrived(adapter: Adapter, line: Line, item: Any) -> None:
    """A message came off the read stream, or what the transport has to say instead of one."""
    try:
        if isinstance(item, Exception):
            broken(adapter, line.role, line.link, item)
            return
        message = item.message
        kind = type(message).__name__
        if kind == _NOTIFICATION:
            return
        size = adapter.sizes.take(message, item.metadata) if line.link.has_bytes else None
        if kind == _REQUEST:
            if size is not None:
                line.arrived[message.id] = size
        else:
            _replied(line, message.id, size)
    except Exception as error:
        report("dispatcher.arrived", error)


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


def _write(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def _write(self: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        line = line_of(adapter, self)
        if line is not None:
            _writing(adapter, line, message)
        try:
            await original(self, message, *args, **kwargs)
        except Exception:
            if line is not None:
                _unwritten(line)
            raise

    return _write


def _writing(adapter: Adapter, line: Line, message: Any) -> None:
    """A message goes to the write stream."""
    try:
        link = line.link
        if link.posts is not None:
            link.posts.append(message)
        kind = type(message).__name__
        if kind == _NOTIFICATION:
            return
        if kind == _REQUEST:
            request = current_request()
            if request is None:
                return
            request.id = message.id
            line.outbound[message.id] = request
            request.sent()
        else:
            request = line.inbound.pop(message.id, None)
            if request is None:
                return
        if link.has_bytes:
            adapter.sizes.expect(message, request, response=kind != _REQUEST)
    except Exception as error:
        report("dispatcher.writing", error)


@contained
def _unwritten(line: Line) -> None:
    if not line.closed() and line.link.end is None:
        line.connection.dead(Death.WRITE_FAILED)


def _spawn(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def _spawn(self: Any, *args: Any, **kwargs: Any) -> Any:
        line = line_of(adapter, self)
        if line is not None and adapter.recorder is not None:
            adapter.recorder.task_spawned(line.role)
        return original(self, *args, **kwargs)

    return _spawn


def _notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def notify(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> Any:
        return seam.notify(line_of(adapter, self), method, partial(original, self, method, params, opts, **kwargs))

    return notify


PATCHES: Final = (("mcp.shared.jsonrpc_dispatcher", _patch),)
