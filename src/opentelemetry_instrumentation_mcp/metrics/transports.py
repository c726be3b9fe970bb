"""The transports of MCP, one row each: everything that depends on the transport and is not how it works inside.

No other module branches on a transport: it reads a column here. ``tests/unit/test_transports.py`` holds that. How a
transport is watched is in a module of ``sdk/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .vocabulary import Transport

_HTTP_PORTS: Final = {"http": 80, "https": 443}
_WEBSOCKET_PORTS: Final = {"ws": 80, "wss": 443}


@dataclass(frozen=True)
class TransportProperties:
    """One row.

    Attributes:
        network_transport: ``network.transport`` of the conventions.
        network_protocol: ``network.protocol.name`` of the conventions.
        default_ports: By the scheme of an endpoint's URL.
        has_bytes: Whether messages become bytes, by the SDK's hand.
        is_http: Whether a server answers what it cannot read with an HTTP status, and keeps open streams alive with
            SSE comments.
        has_session_ids: Whether a server gives sessions an id: it evicts those that are idle, and refuses an id that it
            does not know.
        may_be_exchanges: Whether a 2026-07-28 request may be an HTTP exchange of its own, which a client cancels by
            closing it; else everything is part of a session.
        is_on_stdout: Whether a server's messages go to its standard output.
    """

    network_transport: str | None = None
    network_protocol: str | None = None
    default_ports: Mapping[str, int] = field(default_factory=dict[str, int])
    has_bytes: bool = False
    is_http: bool = False
    has_session_ids: bool = False
    may_be_exchanges: bool = False
    is_on_stdout: bool = False


TRANSPORTS: Final[Mapping[Transport, TransportProperties]] = {
    Transport.STDIO: TransportProperties("pipe", has_bytes=True, is_on_stdout=True),
    Transport.SSE: TransportProperties("tcp", "http", _HTTP_PORTS, has_bytes=True, is_http=True),
    Transport.STREAMABLE_HTTP: TransportProperties(
        "tcp", "http", _HTTP_PORTS, has_bytes=True, is_http=True, has_session_ids=True, may_be_exchanges=True
    ),
    Transport.WEBSOCKET: TransportProperties("tcp", "websocket", _WEBSOCKET_PORTS, has_bytes=True),
    Transport.IN_MEMORY: TransportProperties(),
    # It may be anything, an HTTP transport of the application's own for instance.
    Transport.OTHER: TransportProperties(may_be_exchanges=True),
}
"""Every transport there is."""

DEFAULT_PORTS: Final[Mapping[str, int]] = {
    scheme: port for each in TRANSPORTS.values() for scheme, port in each.default_ports.items()
}
"""The port that a URL means which names none, by its scheme."""
