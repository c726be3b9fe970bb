"""The words in which adapters tell what happened. Values are those of the attributes they end up in.

They are strings too, for their hash: that of a plain enumeration is computed by a Python function, and they are keys on
the way of every request.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from .labels import OTHER


class Role(str, Enum):
    """What this process is in a connection."""

    SERVER = "server"
    CLIENT = "client"


class Heartbeat(str, Enum):
    """How life is checked."""

    PING = "ping"
    SSE_KEEPALIVE = "sse_keepalive"


class Death(str, Enum):
    """How a peer was found dead."""

    PING_FAILED = "ping_failed"
    PEER_CLOSED = "peer_closed"
    SESSION_NOT_FOUND = "session_not_found"
    WRITE_FAILED = "write_failed"


class Action(str, Enum):
    """What an interceptor did with a message."""

    CONTINUE = "continue"
    MODIFY = "modify"
    SHORT_CIRCUIT = "short_circuit"
    REJECT = "reject"
    ERROR = "error"


class Phase(str, Enum):
    """Before what an interceptor wraps, or after it."""

    REQUEST = "request"
    RESPONSE = "response"


class Direction(str, Enum):
    """Which way a message goes, seen from this process."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Transport(str, Enum):
    """How the peer is reached; ``OTHER`` is a stream pair of the application's own."""

    STDIO = "stdio"
    SSE = "sse"
    STREAMABLE_HTTP = "streamable_http"
    WEBSOCKET = "websocket"
    IN_MEMORY = "in_memory"
    OTHER = OTHER


NETWORK: Final[dict[Transport, tuple[str | None, str | None]]] = {
    Transport.STDIO: ("pipe", None),
    Transport.SSE: ("tcp", "http"),
    Transport.STREAMABLE_HTTP: ("tcp", "http"),
    Transport.WEBSOCKET: ("tcp", "websocket"),
    Transport.IN_MEMORY: (None, None),
    Transport.OTHER: (None, None),
}
"""``network.transport`` and ``network.protocol.name`` of the conventions."""


class Mode(str, Enum):
    """``STATELESS`` are server-side HTTP exchanges; every stream pair and every client is ``STATEFUL``."""

    STATEFUL = "stateful"
    STATELESS = "stateless"


@dataclass(frozen=True)
class Address:
    """Where a client's peer is: ``server.address`` and ``server.port``."""

    host: str
    port: int | None
