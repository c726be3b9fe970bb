"""HTTP for scrapers: two pages, a bounded number of threads, and no patience with clients that do not get on.

The server of the standard library would do, but for three things: it starts a thread for every connection, waits for a
slow client as long as that likes, and looks its own host name up when it starts. Each connection here is one request.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from ..safety import report_failure

_logger = logging.getLogger(__name__)

METRICS_PATH: Final = "/metrics"

MOST_CONNECTIONS: Final = 32
"""Connections answered at a time, a thread each; the next ones wait in the system's queue."""

REQUEST_SECONDS: Final = 3.0
"""How long a client may take for its request, from the first byte to the last header."""

SEND_SECONDS: Final = 10.0
"""How long a client may take to receive the answer; Prometheus gives up after ten seconds, too."""

_LONGEST_HEAD: Final = 65_536
_LINGER_SECONDS: Final = 0.5

_ROOT_PAGE: Final = (
    b"<!DOCTYPE html><html lang=en><title>Metrics</title><p>For Prometheus: <a href=/metrics>/metrics</a></html>\n"
)


@dataclass(frozen=True)
class Request:
    """What a scraper asks for.

    Attributes:
        accept: Its ``Accept`` header.
        encoding: Its ``Accept-Encoding`` header.
        names: The metrics it wants (``?name[]=``); empty for all.
    """

    accept: str = ""
    encoding: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The answer.

    Attributes:
        content_type: Its media type.
        body: Its bytes, compressed or not.
        headers: Further headers.
    """

    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=())


class Listener(socketserver.TCPServer):
    """Listens from its creation on, answers from :meth:`start` on.

    Args:
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        address: What to bind, as that family has it.
        respond: Makes the page; may raise, which is the scraper's 500 and a line in the log.

    Raises:
        OSError: From binding.
    """

    allow_reuse_address = True
    # So many scrapers can arrive at once without one of them being sent away.
    request_queue_size = 128

    def __init__(self, family: socket.AddressFamily, address: Any, respond: Callable[[Request], Page]) -> None:
        self.address_family = family
        self.respond = respond
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._closing = False
        self._thread: threading.Thread | None = None
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        """The port listened on, by TCP."""
        return self.socket.getsockname()[1]

    def start(self) -> None:
        """Answer, in a thread of its own."""
        self._thread = threading.Thread(target=self.serve_forever, name="otel-mcp-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Answers under way are finished, or end with the process."""
        self._closing = True
        if self._thread is not None:
            # Wakes the serving thread on Linux; elsewhere it sees the request to stop within half a second.
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.shutdown()
        self.server_close()

    def abandon(self) -> None:
        """Close this process' copies of the sockets, in a forked child; the listener is its parent's."""
        self.server_close()
        for connection in tuple(self._open):
            connection.close()

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            connection, address = super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # The connection stays in the queue, and the loop would be back at once.
                time.sleep(0.05)
            raise
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return request.family in (socket.AF_INET, socket.AF_INET6) or is_of_this_user(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._places.acquire(timeout=0.5):
            if self._closing:
                self.shutdown_request(request)
                return
        self._open.add(request)
        try:
            threading.Thread(target=self._answer, args=(request, client_address), daemon=True).start()
        except BaseException:
            self._leave(request)
            raise

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self._open.discard(request)
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away, or never got on. The standard library would print a traceback.
        _logger.debug("a connection to the metrics page failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request and its answer."""

    server: Listener  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        head = _head(self.connection)
        self.connection.settimeout(SEND_SECONDS)
        self.rfile = BytesIO(head)

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST_HEAD)
        # False: it was malformed, and has been answered.
        if not self.raw_requestline or not self.parse_request():
            return
        try:
            target = urlsplit(self.path)
            names = tuple(parse_qs(target.query).get("name[]", ()))
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if target.path not in ("/", METRICS_PATH):
            self._reply(HTTPStatus.NOT_FOUND, _text(f"The metrics are at {METRICS_PATH}"))
        elif self.command not in ("GET", "HEAD"):
            self._reply(HTTPStatus.METHOD_NOT_ALLOWED, _text("GET or HEAD", ("Allow", "GET, HEAD")))
        elif target.path == "/":
            self._reply(HTTPStatus.OK, Page("text/html; charset=utf-8", _ROOT_PAGE))
        else:
            headers = self.headers
            self._scrape(Request(headers.get("Accept", ""), headers.get("Accept-Encoding", ""), names))

    def _scrape(self, request: Request) -> None:
        try:
            page = self.server.respond(request)
        except TimeoutError as error:
            self._reply(HTTPStatus.SERVICE_UNAVAILABLE, _text(str(error)))
        except Exception as error:
            report_failure("a scrape failed", error)
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, _text(f"{type(error).__name__}: {error}"))
        else:
            self._reply(HTTPStatus.OK, page)

    def _reply(self, status: HTTPStatus, page: Page) -> None:
        self.send_response(status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        for name, value in page.headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
            _linger(self.connection)

    def version_string(self) -> str:
        return "opentelemetry-distro-mcp"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the standard library would write to stderr for every request."""


def _text(text: str, *headers: tuple[str, str]) -> Page:
    return Page("text/plain; charset=utf-8", f"{text}\n".encode(), headers)


def _head(connection: socket.socket) -> bytes:
    """The request up to the empty line; what there is of it when the client stops, or its time is up."""
    deadline = time.monotonic() + REQUEST_SECONDS
    head = b""
    while len(head) < _LONGEST_HEAD and b"\r\n\r\n" not in head and b"\n\n" not in head:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        chunk = connection.recv(4096)
        if not chunk:
            break
        head += chunk
    return head


def _linger(connection: socket.socket) -> None:
    """Let the client read the answer before it learns that the rest of its request was of no interest.

    Closing with unread input resets the connection, and the answer may be lost with it.
    """
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(_LINGER_SECONDS)
    deadline = time.monotonic() + _LINGER_SECONDS
    while time.monotonic() < deadline and connection.recv(_LONGEST_HEAD):
        pass


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs as this user, where the system can tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return uid == os.geteuid()
