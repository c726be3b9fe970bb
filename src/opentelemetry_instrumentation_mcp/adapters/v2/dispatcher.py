"""``JSONRPCDispatcher``: every stream pair of 2.x, of both roles and both eras.

The life of a client's connection, and of a server's over HTTP, is that of ``run``: it returns at the end of the stream
and is cancelled at a local exit. A server behind ``Server.run`` has a dispatcher only from its first request on; its
connection is opened there (:mod:`.server`) and found here.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

from ...metrics.recorder import Role, Transport
from ...safety import contained
from .. import ending
from ..adapter import Adapter
from ..streams import Link
from . import seam
from .seam import CLIENT, LINE, Line
from .server import open_server, server_behind


def _patch(adapter: Adapter, module: ModuleType) -> None:
    dispatcher = module.JSONRPCDispatcher
    adapter.patches.replace(dispatcher, "run", lambda original: _run(adapter, original))
    adapter.patches.replace(dispatcher, "send_raw_request", lambda original: _send_raw_request(adapter, original))
    adapter.patches.replace(dispatcher, "notify", lambda original: _notify(adapter, original))


def _run(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def run(self: Any, on_request: Any, on_notify: Any, on_notify_intercept: Any = None, **kwargs: Any) -> None:
        opened = _open(adapter, self, on_request) if adapter.recorder is not None else None
        if opened is None:
            await original(self, on_request, on_notify, on_notify_intercept, **kwargs)
            return
        line, owned = opened
        on_request = seam.handle_requests(adapter, line, on_request)
        on_notify = seam.handle_notifications(adapter, line, on_notify)
        on_notify_intercept = seam.intercept_notifications(adapter, line, on_notify_intercept)
        try:
            await original(self, on_request, on_notify, on_notify_intercept, **kwargs)
        except BaseException as error:
            if owned:
                ending.close(line.connection, line.link, line.role, error)
            raise
        if owned:
            ending.close(line.connection, line.link, line.role, None)

    return run


@contained
def _open(adapter: Adapter, dispatcher: Any, on_request: Any) -> tuple[Line, bool] | None:
    """The line of a dispatcher that starts to run, and whether the connection's life is that of the run."""
    recorder = adapter.recorder
    if recorder is None:
        return None
    link = adapter.streams.find(dispatcher._write_stream, dispatcher._read_stream) or Link(Transport.OTHER)
    session = _client_session(dispatcher)
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
    line = Line(connection, link, role, lambda: dispatcher._closed)
    setattr(dispatcher, LINE, line)
    if session is not None and getattr(session, "protocol_version", None) is not None:
        # Adopted before it was entered: there was no connection to establish it on.
        connection.establish(getattr(session.server_info, "name", None), session.protocol_version)
    return line, owned


def _client_session(dispatcher: Any) -> Any:
    reference = getattr(dispatcher, CLIENT, None)
    return None if reference is None else reference()


def _send_raw_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def send_raw_request(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> Any:
        line: Line | None = getattr(self, LINE, None)
        return await seam.call(adapter, line, method, params, lambda: original(self, method, params, opts, **kwargs))

    return send_raw_request


def _notify(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def notify(self: Any, method: str, params: Any, opts: Any = None, **kwargs: Any) -> None:
        line: Line | None = getattr(self, LINE, None)
        await seam.notify(adapter, line, method, lambda: original(self, method, params, opts, **kwargs))

    return notify


PATCHES: Final = (("mcp.shared.jsonrpc_dispatcher", _patch),)
