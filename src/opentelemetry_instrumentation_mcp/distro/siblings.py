"""Reads the pages of the other workers of a server: HTTP over the Unix sockets of :mod:`.workers`.

A worker that hangs, or is dead and has no successor yet, does not answer. The counters that it has kept are shown in
place of its page. They are those of the last scrape it answered.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from typing import Final

from prometheus_client.metrics_core import Metric

from ..core.fail_open import guard, report_failure
from . import history
from .listener import METRICS_PATH, Request, is_of_this_user, names_query
from .pages import labelled, rendered
from .workers import Membership

ANSWER_SECONDS: Final = 2.0
"""How long all of them together may take."""


class Family:
    """The other workers, as this one can reach them.

    Args:
        membership: This worker's.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._kept: dict[str, tuple[bytes, list[Metric]]] = {}

    def ask(self, request: Request) -> Callable[[], list[bytes]]:
        """Request all their pages, uncompressed; the function returned waits for the answers."""
        deadline = time.monotonic() + ANSWER_SECONDS
        asked: list[tuple[str, http.client.HTTPConnection]] = []
        for name, path in self._membership.siblings().items():
            connection = _Connection(path)
            try:
                connection.request("GET", _target(request), headers={"Accept": request.accept})
                asked.append((name, connection))
            except (ConnectionRefusedError, FileNotFoundError):
                # It is dead and has no successor yet.
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                report_failure(_unanswered(name), error)
        return lambda: self._answers(request, asked, deadline)

    def _answers(
        self, request: Request, asked: list[tuple[str, http.client.HTTPConnection]], deadline: float
    ) -> list[bytes]:
        bodies = {name: _answer(name, connection, deadline) for name, connection in asked}
        answers = {name: body for name, body in bodies.items() if body is not None}
        for name in self._membership.keepers() - answers.keys() - {self._membership.name}:
            if counters := self._counters(name):
                answers[name] = labelled(rendered(counters, request), name)
        return [answers[name] for name in sorted(answers)]

    def _counters(self, name: str) -> list[Metric]:
        """What a sibling that does not answer has kept; parsed again only if it has changed."""
        # The parsers may raise anything for what is written there.
        with guard(_unanswered(name)):
            page = self._membership.kept(name)
            known = self._kept.get(name)
            if known is None or known[0] != page:
                known = self._kept[name] = page, history.counters(page)
            return known[1]
        return []


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
    return f"{METRICS_PATH}?{names_query(request.names)}" if request.names else METRICS_PATH


def _answer(name: str, connection: http.client.HTTPConnection, deadline: float) -> bytes | None:
    try:
        # Not zero: an answer that has arrived is read although another worker has used the time up.
        connection.sock.settimeout(max(deadline - time.monotonic(), 0.05))
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise http.client.HTTPException(f"status {response.status}")
        return body
    except (OSError, http.client.HTTPException) as error:
        report_failure(_unanswered(name), error)
        return None
    finally:
        connection.close()


def _unanswered(name: str) -> str:
    return f"worker {name} did not answer a scrape"
