"""How a request or a connection ended: causes in, the catalogue's ``status`` and ``error.type`` out.

A cause is what really happened (a result, an error reply, a timer, a cancellation, a lost peer). The functions here
class it; nothing else in the package decides a status. Reply codes are those of JSON-RPC 2.0, of the MCP revisions up
to 2026-07-28, and the two the 1.x SDK mints itself (0 for an exception in a handler, +32600 for a terminated session).
"""

from __future__ import annotations

from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import Final

from .labels import OTHER

CALLER_FAULTS: Final = frozenset({-32700, -32600, -32601, -32602, -32002})
"""Codes that blame the caller; the conventions do not count them as errors of the server."""

_CLIENT_ERRORS: Final = CALLER_FAULTS | {-32020, -32021, -32022, -32042}
_SERVER_ERRORS: Final = frozenset({0, -1, 408, -32000, -32001, -32003, -32603})
_CANCELLED_CODES: Final = frozenset({-32800})
_STATUSES: Final = frozenset(int(each) for each in HTTPStatus if each >= 300) | {
    # What proxies answer in a server's place (nginx, Cloudflare).
    *(499, 520, 521, 522, 523, 524, 525, 526, 530),
}
_TERMINATED_1X: Final = 32600
"""mcp 1.x answers HTTP 404 with this code, the minus sign lost (``client/streamable_http.py``)."""


class End(str, Enum):
    """The ``status`` of a connection and of its session."""

    CLOSED = "closed"
    TERMINATED = "terminated"
    EVICTED = "evicted"
    SHUTDOWN = "shutdown"
    PEER_LOST = "peer_lost"
    ERROR = "error"


class Outcome:
    """The end of one request. Outcomes are interned (compare with ``is``), so that they are cheap as keys.

    Attributes:
        status: The catalogue's ``status`` of a request.
        error_type: What ``error.type`` says where an attribute set carries it, else None.
        code: The JSON-RPC error code of the response as a string, else None.
        caller_fault: Whether the code blames the caller (see :data:`CALLER_FAULTS`).
    """

    __slots__ = ("caller_fault", "code", "error_type", "status")

    def __init__(
        self, status: str, error_type: str | None = None, code: str | None = None, caller_fault: bool = False
    ) -> None:
        self.status = status
        self.error_type = error_type
        self.code = code
        self.caller_fault = caller_fault

    def __repr__(self) -> str:
        return f"Outcome({self.status}, error_type={self.error_type}, code={self.code})"


OK: Final = Outcome("ok")
TOOL_ERROR: Final = Outcome("tool_error", "tool_error")
# The three ends without a reply are named after the exception that tells them in Python, whatever each SDK raises.
CANCELLED: Final = Outcome("cancelled", "CancelledError")
TIMEOUT: Final = Outcome("timeout", "TimeoutError")
CONNECTION_LOST: Final = Outcome("connection_lost", "ConnectionError")
_CANCELLED_REPLY: Final = Outcome("cancelled", "0", "0")


def number_name(number: int) -> str:
    """A code or status as text: the number, also of a member of an ``IntEnum``, which Python 3.10 shows by its name."""
    return str(int(number))


@cache
def _known_code(code: int) -> Outcome:
    name = number_name(code)
    if code in _CANCELLED_CODES:
        return Outcome("cancelled", name, name)
    status = "client_error" if code in _CLIENT_ERRORS else "server_error"
    return Outcome(status, name, name, code in CALLER_FAULTS)


_UNKNOWN_CODE: Final = Outcome("server_error", OTHER, OTHER)


def error_reply(code: object, message: object = None) -> Outcome:
    """Class an error response by its code.

    Args:
        code: ``error.code`` of the response; anything but a known integer counts as ``_OTHER``.
        message: ``error.message``; only looked at for code 0, which 1.x also uses for a cancelled request.
    """
    if not isinstance(code, int) or isinstance(code, bool):
        return _UNKNOWN_CODE
    if code == 0 and message == "Request cancelled":
        return _CANCELLED_REPLY
    if code == _TERMINATED_1X:
        code = -_TERMINATED_1X
    if code in _CLIENT_ERRORS or code in _SERVER_ERRORS or code in _CANCELLED_CODES:
        return _known_code(code)
    return _UNKNOWN_CODE


def http_error(status: int) -> Outcome:
    """Class an HTTP error that came without a JSON-RPC body: 4xx is the client's, everything else the server's."""
    return _http_error("client_error" if 400 <= status < 500 else "server_error", status_name(status))


@cache
def _http_error(status: str, name: str) -> Outcome:
    return Outcome(status, name)


def status_name(status: int) -> str:
    """The ``error.type`` of an HTTP status: a peer can make up hundreds, and those nobody ever defined are one."""
    return number_name(status) if status in _STATUSES else OTHER
