"""Asking the other workers of a server for their pages: HTTP over the Unix sockets of :mod:`.workers`."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from ..safety import report
from .listener import METRICS_PATH, Request, is_of_this_user
from .workers import Membership

ANSWER_SECONDS: Final = 2.0
"""How long all of them together may take. A worker that hangs is left out of the page, and said to be."""


class Family:
    """The other workers, as this one can reach them.

    Args:
        membership: This worker's.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def ask(self, request: Request) -> Callable[[], list[bytes]]:
        """Ask them all for their pages, uncompressed; the function returned waits for the answers."""
        deadline = time.monotonic() + ANSWER_SECONDS
        asked: list[tuple[str, http.client.HTTPConnection]] = []
        for name, path in self._membership.siblings().items():
            connection = _Connection(path)
            try:
                connection.request("GET", _target(request), headers={"Accept": request.accept})
                asked.append((name, connection))
            except (ConnectionRefusedError, FileNotFoundError):
                # It is dead, and nobody has taken its place yet.
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                _left_out(name, error)
        return lambda: [body for name, connection in asked if (body := _answer(name, connection, deadline)) is not None]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        if not is_of_this_user(self.sock):
            raise PermissionError("another user's process answers there")


def _target(request: Request) -> str:
    query = urlencode([("name[]", name) for name in request.names])
    return f"{METRICS_PATH}?{query}" if query else METRICS_PATH


def _answer(name: str, connection: http.client.HTTPConnection, deadline: float) -> bytes | None:
    try:
        # At least something, so that one who has answered is heard even after another one has used the time up.
        connection.sock.settimeout(max(deadline - time.monotonic(), 0.05))
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"status {response.status}")
        return body
    except (OSError, http.client.HTTPException) as error:
        _left_out(name, error)
        return None
    finally:
        connection.close()


def _left_out(name: str, error: Exception) -> None:
    report(f"a scrape, which is without worker {name}", error)
