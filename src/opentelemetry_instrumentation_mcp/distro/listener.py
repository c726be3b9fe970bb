"""HTTP for scrapers: two pages, a bounded number of connections and threads, and a deadline for each client.

One thread watches all connections and never waits for one of them. It reads requests, sends answers, and has a
deadline for each. Only a request that has arrived gets a thread, while its page is being made. So a client that is slow
or silent holds nothing that others need. Each connection is one request.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from ..core.fail_open import guard, report_failure
from .hosts import Hosts, is_loopback

_logger = logging.getLogger(__name__)

METRICS_PATH: Final = "/metrics"

MOST_CONNECTIONS: Final = 32
"""Answers at a time that are being made or sent; each is a thread at first, and then the bytes of a page."""

MOST_OPEN: Final = 128
"""Connections at a time, and so file descriptors; the next ones wait in the system's queue."""

REQUEST_SECONDS: Final = 3.0
"""How long a client may take for its request, from the first byte to the last header."""

SEND_SECONDS: Final = 10.0
"""How long a client may take to receive the whole answer; Prometheus gives up after ten seconds, too."""

CROWDED_SECONDS: Final = 0.5
"""How long each of the two may take at the least, when others wait for a place: the slowest client is dropped then."""

MOST_NAMES: Final = 1000
"""The metrics that one request may name."""

LAST_SECONDS: Final = 5.0
"""The most that closing waits for what the serving thread has left to do."""

_LONGEST_HEAD: Final = 65_536
_LONGEST_NAMES: Final = _LONGEST_HEAD * 3 // 4
_LINGER_SECONDS: Final = 0.5

# So many scrapers can arrive at once without one of them being sent away.
_QUEUE: Final = 128

# How exactly deadlines are kept.
_TICK_SECONDS: Final = 0.1

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
    names: frozenset[str] = frozenset()


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


class _Stage(Enum):
    """What a connection waits for."""

    READING = "the client's request"
    READY = "a thread"
    MAKING = "its page"
    SENDING = "the client, to receive the answer"
    LINGERING = "the client, to close the connection"


_EVENTS: Final = {
    _Stage.READING: selectors.EVENT_READ,
    _Stage.SENDING: selectors.EVENT_WRITE,
    _Stage.LINGERING: selectors.EVENT_READ,
}
"""The stages in which it is the client's turn, and how it is seen."""


class _Connection:
    """One request and its answer. A thread that makes the page sets ``answer``; the rest is the serving thread's."""

    __slots__ = ("answer", "head", "since", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.head = bytearray()
        self.answer: list[memoryview] = []
        self.since = 0.0


class Listener:
    """Listens from its creation on, answers from :meth:`start` on.

    Where it is bound to a loopback address, it answers only requests with a name of this machine (:mod:`.hosts`).

    Args:
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        address: What to bind, in that family's form.
        respond: Makes the page; may raise, which is the scraper's 500 and a line in the log.

    Raises:
        OSError: From binding.
    """

    def __init__(self, family: socket.AddressFamily, address: Any, respond: Callable[[Request], Page]) -> None:
        self._respond = respond
        self._closing = False
        self._last: Callable[[], None] | None = None
        self._has_done_the_last = threading.Event()
        self._has_started = False
        self._accepts = False
        # In the order in which they came to their stages.
        self._connections: dict[_Connection, _Stage] = {}
        self._made: deque[_Connection] = deque()
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(_QUEUE)
            self._socket.setblocking(False)
            self._woken, self._waker = socket.socketpair()
        except BaseException:
            self._socket.close()
            raise
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._is_of_the_network = family in (socket.AF_INET, socket.AF_INET6)
        is_private = self._is_of_the_network and is_loopback(self._socket.getsockname()[0])
        self._hosts = Hosts() if is_private else None

    @property
    def port(self) -> int:
        """The port listened on, by TCP."""
        return self._socket.getsockname()[1]

    def start(self) -> None:
        """Answer, in a thread of its own.

        Raises:
            RuntimeError: If there is no thread to be had; the listener is closed then.
        """
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._has_started = True
        try:
            threading.Thread(target=self._serve, name="otel-mcp-metrics", daemon=True).start()
        except BaseException:
            self._has_started = False
            self.close()
            raise

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Stop listening, in bounded time. Answers under way are finished, or end with the process.

        Args:
            last: What the serving thread does before it ends. The caller waits for that alone, but not for ever; and
                from Python 3.12 on an ending interpreter would refuse a new thread for it. Must not raise.
        """
        self._last = last
        self._closing = True
        with suppress(OSError):
            # A connection that is still in the queue is not answered any more.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if not self._has_started:
            self._release()
            return
        self._wake()
        if last is not None:
            self._has_done_the_last.wait(LAST_SECONDS)

    def abandon(self) -> None:
        """Close this process' copies of the sockets, in a forked child; the listener is its parent's."""
        self._socket.close()
        self._release()
        for connection in tuple(self._connections):
            connection.socket.close()

    # From here on the serving thread alone calls each method, unless its docstring allows other threads.

    def _serve(self) -> None:
        while self._connections or not self._closing:
            try:
                self._turn()
            except Exception as error:
                report_failure("the metrics page was not served for a second", error)
                time.sleep(1)
            if self._closing:
                self._do_the_last()
        self._do_the_last()
        self._release()

    def _do_the_last(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last()
            self._has_done_the_last.set()

    def _turn(self) -> None:
        """Let everything go on that can, once."""
        self._keep_accepting()
        for key, _ in self._selector.select(_TICK_SECONDS if self._connections else None):
            if key.fileobj is self._socket:
                self._accept()
            elif key.fileobj is self._woken:
                with suppress(BlockingIOError):
                    self._woken.recv(4096)
            elif key.data in self._connections:
                self._go_on(key.data)
        while self._made:
            connection = self._made.popleft()
            if connection.answer:
                self._enter(connection, _Stage.SENDING)
                self._go_on(connection)
            else:
                self._drop(connection)
        self._drop_the_late()
        self._start_making()

    def _keep_accepting(self) -> None:
        """Accept connections as long as there is room; where there is none, make some."""
        if len(self._connections) >= MOST_OPEN:
            self._drop_the_slowest(_EVENTS)
        accepts = not self._closing and len(self._connections) < MOST_OPEN
        if accepts and not self._accepts:
            self._selector.register(self._socket, selectors.EVENT_READ)
        elif self._accepts and not accepts:
            self._selector.unregister(self._socket)
        self._accepts = accepts

    def _accept(self) -> None:
        while len(self._connections) < MOST_OPEN:
            try:
                accepted, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and not self._drop_the_slowest(_EVENTS, at_least=0):
                    # The connection stays in the queue, and the loop would be back at once.
                    time.sleep(0.05)
                return
            connection = _Connection(accepted)
            try:
                accepted.setblocking(False)
                is_welcome = self._is_of_the_network or is_of_this_user(accepted)
            except OSError:
                is_welcome = False
            if not is_welcome:
                accepted.close()
                continue
            self._enter(connection, _Stage.READING)
            # Most clients have sent their request by now.
            self._go_on(connection)

    def _go_on(self, connection: _Connection) -> None:
        stage = self._connections[connection]
        try:
            if stage is _Stage.READING:
                self._read(connection)
            elif stage is _Stage.SENDING:
                self._send(connection)
            elif not connection.socket.recv(_LONGEST_HEAD):
                self._drop(connection)
        except BlockingIOError:
            return
        except OSError:
            # A client that went away.
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        chunk = connection.socket.recv(_LONGEST_HEAD)
        head = connection.head
        # The end may have come in two pieces.
        start = max(len(head) - 3, 0)
        head += chunk
        is_whole = head.find(b"\r\n\r\n", start) >= 0 or head.find(b"\n\n", start) >= 0 or len(head) >= _LONGEST_HEAD
        if is_whole or (head and not chunk):
            self._enter(connection, _Stage.READY)
        elif not chunk:
            self._drop(connection)

    def _send(self, connection: _Connection) -> None:
        part = connection.answer[0]
        sent = connection.socket.send(part)
        if sent < len(part):
            connection.answer[0] = part[sent:]
            return
        del connection.answer[0]
        if not connection.answer:
            # Closing with unread input resets the connection, and the answer may be lost with it. So the client gets
            # time to read it before it learns that the rest of its request was of no interest.
            connection.socket.shutdown(socket.SHUT_WR)
            self._enter(connection, _Stage.LINGERING)

    def _start_making(self) -> None:
        """Give threads to requests that have arrived, in their order, as long as there are places."""
        for connection in [each for each, stage in self._connections.items() if stage is _Stage.READY]:
            busy = [stage for stage in self._connections.values() if stage in (_Stage.MAKING, _Stage.SENDING)]
            if len(busy) >= MOST_CONNECTIONS and not self._drop_the_slowest((_Stage.SENDING,)):
                return
            self._enter(connection, _Stage.MAKING)
            try:
                threading.Thread(target=self._make, args=(connection,), name="otel-mcp-scrape", daemon=True).start()
            except Exception as error:
                self._drop(connection)
                report_failure("a scrape was not answered, there is no thread for it", error)

    def _make(self, connection: _Connection) -> None:
        """Make the answer, in a thread for this alone."""
        try:
            with guard("a scrape was not answered"):
                exchange = _Exchange(bytes(connection.head[:_LONGEST_HEAD]), self._respond, self._hosts)
                exchange.handle()
                connection.answer = [memoryview(part) for part in exchange.answer() if part]
        finally:
            self._made.append(connection)
            self._wake()

    def _enter(self, connection: _Connection, stage: _Stage) -> None:
        before = _EVENTS.get(self._connections.pop(connection, _Stage.MAKING))
        self._connections[connection] = stage
        connection.since = time.monotonic()
        after = _EVENTS.get(stage)
        if before is None and after is not None:
            self._selector.register(connection.socket, after, connection)
        elif before is not None and after is None:
            self._selector.unregister(connection.socket)
        elif before != after and after is not None:
            self._selector.modify(connection.socket, after, connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection, None) in _EVENTS:
            with suppress(KeyError, ValueError):
                self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_the_late(self) -> None:
        now = time.monotonic()
        patience = {
            _Stage.READING: 0.0 if self._closing else REQUEST_SECONDS,
            _Stage.READY: SEND_SECONDS,
            _Stage.SENDING: SEND_SECONDS,
            _Stage.LINGERING: _LINGER_SECONDS,
        }
        for connection, stage in tuple(self._connections.items()):
            if stage in patience and now - connection.since >= patience[stage]:
                self._drop(connection)

    def _drop_the_slowest(self, stages: Iterable[_Stage], at_least: float = CROWDED_SECONDS) -> bool:
        """Drop the client that has taken the longest, unless that is not long; whether one was dropped."""
        wanted = frozenset(stages)
        slowest = next((each for each, stage in self._connections.items() if stage in wanted), None)
        if slowest is None or time.monotonic() - slowest.since < at_least:
            return False
        self._drop(slowest)
        return True

    def _wake(self) -> None:
        """Let the serving thread look what there is to do; from any thread."""
        # It is full: the thread will look anyway. It is closed: there is no thread any more.
        with suppress(OSError):
            self._waker.send(b"\0")

    def _release(self) -> None:
        """Close what only this process needs; from any thread."""
        self._waker.close()
        self._woken.close()
        # Its descriptor alone: taking sockets out of it, a forked child would take them out of its parent's.
        self._selector.close()


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer, without a socket."""

    protocol_version = "HTTP/1.1"

    def __init__(self, head: bytes, respond: Callable[[Request], Page], hosts: Hosts | None) -> None:
        # Not that of the base class, which handles a socket.
        self.rfile = BytesIO(head)
        self.wfile = self._written = BytesIO()
        self.requestline = ""
        self._respond = respond
        self._hosts = hosts
        self._body = b""

    def answer(self) -> tuple[bytes, bytes]:
        """The head of the answer and its body, which is as large as a page."""
        head = self._written.getvalue()
        return (head + self._body, b"") if len(self._body) < _LONGEST_HEAD else (head, self._body)

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST_HEAD)
        # False: it was malformed, and has been answered.
        if not self.raw_requestline or not self.parse_request():
            return
        try:
            target = urlsplit(self.path)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        hosts: list[str] = self.headers.get_all("Host", [])
        if len(hosts) > 1:
            self._reply(HTTPStatus.BAD_REQUEST, _text("There may be one Host"))
        elif self._hosts is not None and not all(map(self._hosts.allow, (target.netloc, *hosts))):
            self._reply(HTTPStatus.FORBIDDEN, _text(self._hosts.refusal()))
        elif target.path not in ("/", METRICS_PATH):
            self._reply(HTTPStatus.NOT_FOUND, _text(f"The metrics are at {METRICS_PATH}"))
        elif self.command not in ("GET", "HEAD"):
            self._reply(HTTPStatus.METHOD_NOT_ALLOWED, _text("GET or HEAD", ("Allow", "GET, HEAD")))
        elif target.path == "/":
            self._reply(HTTPStatus.OK, Page("text/html; charset=utf-8", _ROOT_PAGE))
        elif (names := _names(target.query)) is None:
            self._reply(HTTPStatus.BAD_REQUEST, _text(f"At most {MOST_NAMES} names, of {_LONGEST_NAMES} bytes in all"))
        else:
            headers = self.headers
            self._scrape(Request(headers.get("Accept", ""), headers.get("Accept-Encoding", ""), names))

    def _scrape(self, request: Request) -> None:
        try:
            page = self._respond(request)
        except TimeoutError:
            _logger.debug("a scrape came to nothing in time", exc_info=True)
            self._reply(HTTPStatus.SERVICE_UNAVAILABLE, _text("An earlier scrape is still being collected"))
        except BaseException as error:
            # An application's collector may raise whatever it likes, and this thread is not the application's.
            report_failure("a scrape failed", error)
            self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, _text("The page cannot be made; the log says more"))
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
            self._body = page.body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is malformed. The base class answers in HTML, without a status line to what has no version."""
        self.request_version = self.protocol_version
        status = HTTPStatus(code)
        self._reply(status, _text(status.phrase))

    def version_string(self) -> str:
        return "opentelemetry-distro-mcp"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the standard library would write to stderr for every request."""


def _names(query: str) -> frozenset[str] | None:
    """The metrics that a query names; None if it is too long, or longer than what a worker may ask its siblings."""
    try:
        names = frozenset(parse_qs(query, max_num_fields=MOST_NAMES).get("name[]", ()))
    except ValueError:
        return None
    # A byte becomes three at most, so that only a long one has to be written down to know.
    return names if 3 * len(query) <= _LONGEST_NAMES or len(names_query(names)) <= _LONGEST_NAMES else None


def names_query(names: frozenset[str]) -> str:
    """A query for these metrics."""
    return urlencode([("name[]", name) for name in sorted(names)])


def _text(text: str, *headers: tuple[str, str]) -> Page:
    return Page("text/plain; charset=utf-8", f"{text}\n".encode(), headers)


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket runs as this user, where the system can tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return uid == os.geteuid()
