"""Where the metrics of a process can be had: at the configured port, or from the worker of its server that has that.

A taken port or a wrong address costs a warning line with the place of the metrics, never the set-up of OpenTelemetry.
A process that finds its port taken tries it again until it is free, and then listens at both. Nothing is written to
stdout, and nothing at all when everything is as configured.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_PROMETHEUS_HOST,
    OTEL_EXPORTER_PROMETHEUS_PORT,
    OTEL_SERVICE_NAME,
)

from ..core.environment_variables import OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR
from ..core.fail_open import guard, is_refused_at_the_end, report_failure
from .encodable import encodable
from .file_sd import TargetFile
from .listener import METRICS_PATH, Listener, Page, Request
from .origin import Origin, origin
from .pages import Pages
from .siblings import Family
from .workers import Membership, join

_logger = logging.getLogger(__name__)

DEFAULT_HOST: Final = "localhost"
DEFAULT_PORT: Final = 9464
"""Both from the OpenTelemetry specification, "Environment Variable Specification", Prometheus exporter."""

_PORT_ERRORS: Final = (errno.EADDRINUSE, errno.EACCES)
"""Errors that another port may cure. Everything else is blamed on the host."""

_SUCCESSION_SECONDS: Final = 2.0
"""How long a worker waits for the port: of one that dies, the locks may be free before the sockets are."""

_DRAINING_SECONDS: Final = 1.0
"""How long any other process waits for the port: the server before it may be about to end."""

_FIRST_RETRY_SECONDS: Final = 1.0
_LATEST_RETRY_SECONDS: Final = 10.0
"""How long a process that has moved to another port waits before it tries the configured one again: at first, and at
most. Its time doubles, and is a little different for each, for there may be dozens of them."""


CLOSE_SECONDS: Final = 2.0
"""The most that closing waits for a step of opening."""


class _Closed(Exception):
    """The endpoint was closed before it was open."""


class Endpoint:
    """The place of this process' metrics; nowhere until :meth:`open`.

    Attributes:
        host: The host listened on, as configured or replaced.
        port: The port listened on; 0 when this process does not listen, or not itself.
        url: Where to scrape; empty when there is no such port.
    """

    def __init__(self) -> None:
        self.host = DEFAULT_HOST
        self.port = 0
        self.url = ""
        self._lock = threading.Lock()
        self._opened = False
        self._closed = False
        self._is_left_to_opening = False
        self._gone = threading.Event()
        self._listener: Listener | None = None
        self._substitute: Listener | None = None
        self._answering: Listener | None = None
        self._taken: tuple[str, socket.AddressFamily, Any] | None = None
        self._membership: Membership | None = None
        self._target: TargetFile | None = None
        self._origin: Origin | None = None
        self._pages = Pages()

    def open(self) -> None:
        """Listen, or stand by for the worker that does. Only the first call does anything; none raises.

        A :meth:`close` in another thread ends it: nothing new is made then, and what has been made is closed.
        """
        try:
            with self._step():
                if self._opened:
                    return
                self._opened = True
            self._open()
        except _Closed:
            return
        except Exception as error:
            # The application does not depend on its metrics, whatever the reason is.
            self._fail("cannot serve the metrics of this process", error)

    def close(self) -> None:
        """Stop serving, in bounded time. A second call, and one before :meth:`open`, does no harm."""
        self._closed = True
        self._gone.set()
        if not self._lock.acquire(timeout=CLOSE_SECONDS):
            # Something holds a step of opening up, a file system that does not answer for instance.
            self._is_left_to_opening = True
            if not self._lock.acquire(blocking=False):
                return
        try:
            if self._target is not None:
                self._target.remove()
            if (listener := self._listener or self._answering) is not None:
                # In its thread: a callback of the application's that hangs is not to hold up the end of the process.
                listener.close(last=self.keep)
            self._release()
        finally:
            self._lock.release()

    @guard("the counters of this worker were not kept for its successor")
    def keep(self) -> None:
        """Write down what this worker has counted; for other processes there is nothing to do. Never raises."""
        self._pages.keep()

    def abandon(self) -> None:
        """Close the copies that a forked child has of its parent's files and sockets."""
        self._closed = True
        for inherited in (self._listener, self._substitute, self._answering, self._membership, self._target):
            if inherited is not None:
                with suppress(OSError):
                    inherited.abandon()

    @contextmanager
    def _step(self) -> Generator[None]:
        """A part of opening that makes what :meth:`close` has to undo, or that writes to the log.

        Whatever may take its time is between two steps, so that closing does not wait for it.

        Raises:
            _Closed: Instead of the step, if this has been closed.
        """
        with self._lock:
            if self._closed:
                raise _Closed
            try:
                yield
            finally:
                if self._is_left_to_opening:
                    self._release()

    def _release(self) -> None:
        """Close what there is, and leave the other workers; the caller holds the lock."""
        self._stop()
        if self._membership is not None:
            self._membership.leave()
            self._membership = None
            # Another process may have the place from here on, with what is kept there.
            self._pages = Pages()

    def _stop(self) -> None:
        if self._target is not None:
            self._target.remove()
        for listener in (self._listener, self._substitute, self._answering):
            if listener is not None:
                listener.close()
        self._listener = self._substitute = self._answering = self._target = None
        self.port, self.url = 0, ""

    def _fail(self, what: str, error: Exception) -> None:
        """Log a failure, and close the listeners. A worker stays a worker: its counters are kept at the end."""
        with suppress(_Closed), self._step():
            self._stop()
            # The process has no need of a page any more.
            level = logging.DEBUG if is_refused_at_the_end(error) else logging.WARNING
            _logger.log(level, "%s (%s)", what, error)

    def _open(self) -> None:
        remarks: list[str] = []
        host = os.environ.get(OTEL_EXPORTER_PROMETHEUS_HOST, "").strip() or DEFAULT_HOST
        port = _configured_port(remarks)
        self._origin = origin()
        membership = self._join(self._origin, f"{host}:{port}")
        if membership is None or membership.listens():
            self._serve(host, port, remarks)
        else:
            self._stand_by(membership, host, port, remarks)

    def _join(self, server: Origin, address: str) -> Membership | None:
        try:
            membership = join(server, address, is_over=lambda: self._closed)
        except OSError as error:
            with self._step():
                # A process without siblings loses nothing.
                level = logging.WARNING if server.is_worker else logging.DEBUG
                _logger.log(level, "the workers of this server cannot find each other (%s): each serves its own", error)
            return None
        try:
            pages = Pages(membership)
            with self._step():
                self._membership, self._pages = membership, pages
        except _Closed:
            membership.leave()
            raise
        return membership

    def _stand_by(self, membership: Membership, host: str, port: int, remarks: list[str]) -> None:
        """Answer the worker that listens, and succeed it when it dies."""
        with self._step():
            membership.clear_socket()
            self._answering = Listener(socket.AF_UNIX, membership.socket, self._pages.own)
            self._answering.start()
            arguments = (membership, host, port, remarks)
            threading.Thread(target=self._succeed, args=arguments, name="otel-mcp-successor", daemon=True).start()

    def _succeed(self, membership: Membership, host: str, port: int, remarks: list[str]) -> None:
        while not membership.listens(wait=True):
            if self._closed:
                return
            time.sleep(1)
        try:
            self._serve(host, port, remarks)
            with self._step():
                if self._answering is not None:
                    self._answering.close()
                    self._answering = None
                membership.clear_socket()
        except _Closed:
            return
        except Exception as error:
            self._fail("cannot serve the metrics of this server", error)

    def _serve(self, host: str, port: int, remarks: list[str]) -> None:
        """Listen, and log in one line what is not as configured."""
        is_worker = self._membership is not None and self._membership.label is not None
        whose = "server" if is_worker else "process"
        deadline = time.monotonic() + (_SUCCESSION_SECONDS if is_worker else _DRAINING_SECONDS)
        try:
            listener = self._bind(host, port, remarks, deadline)
        except (OSError, ValueError) as error:
            with self._step():
                remarks.append(f"cannot listen ({error})")
                _logger.warning("%s; the metrics of this %s are not served", "; ".join(remarks), whose)
            return
        try:
            with self._step():
                self._listener = listener
                self._announce(listener, port, remarks, whose)
        except _Closed:
            listener.close()
            raise

    def _announce(self, listener: Listener, port: int, remarks: list[str], whose: str) -> None:
        listener.start()
        self._be_at(self.host, listener.port)
        is_published = self._publish(remarks)
        if port == 0 and not is_published:
            remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}=0 leaves the port to the system")
        if remarks:
            _logger.warning("%s; the metrics of this %s are at %s", "; ".join(remarks), whose, self.url)
        else:
            _logger.debug("the metrics of this %s are at %s", whose, self.url)
        if self._taken is not None:
            threading.Thread(target=self._return, args=(whose,), name="otel-mcp-return", daemon=True).start()

    def _be_at(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.url = f"http://{_reachable_name(host)}:{port}{METRICS_PATH}"

    def _return(self, whose: str) -> None:
        """Listen at the configured port as soon as the other process has given it up.

        The substitute goes on answering: a target file and a line in the log have its address.
        """
        wait = _FIRST_RETRY_SECONDS
        while not self._gone.wait(wait * random.uniform(0.75, 1.25)):
            wait = min(2 * wait, _LATEST_RETRY_SECONDS)
            try:
                with self._step():
                    if self._taken is None:
                        return
                    host, family, address = self._taken
                    listener = Listener(family, address, self._respond())
                    listener.start()
                    self._substitute, self._listener = self._listener, listener
                    self._be_at(host, listener.port)
                    what = "the configured port is free; the metrics of this %s are at %s, too"
                    _logger.warning(what, whose, self.url)
                    return
            except _Closed:
                return
            except OSError:
                continue
            except Exception as error:
                report_failure("the metrics page has not returned to the configured port", error)
                return

    def _respond(self) -> Callable[[Request], Page]:
        return self._pages.with_siblings(Family(self._membership)) if self._membership else self._pages.own

    def _bind(self, host: str, port: int, remarks: list[str], deadline: float) -> Listener:
        """A listener; what is not as configured is put into ``remarks``. Raises when no choice is left."""
        self._taken = None
        respond = self._respond()
        found: tuple[socket.AddressFamily, Any] | None = None
        while True:
            try:
                family, _, _, _, address = socket.getaddrinfo(
                    _address(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )[0]
                found = family, address
                listener = Listener(family, address, respond)
            # A ValueError is a name that cannot even be looked up: `a..b`, or one of more than 63 letters.
            except (OSError, ValueError) as error:
                code = error.errno if isinstance(error, OSError) else None
                if code == errno.EADDRINUSE and time.monotonic() < deadline:
                    if self._gone.wait(0.02):
                        raise
                    continue
                reason = getattr(error, "strerror", None) or str(error)
                if port and code in _PORT_ERRORS:
                    if code == errno.EADDRINUSE and found is not None:
                        self._taken = (host, *found)
                    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}: cannot listen on {host}:{port} ({reason})")
                    port = 0
                elif host != DEFAULT_HOST:
                    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_HOST}: cannot listen on {host!r} ({reason})")
                    host = DEFAULT_HOST
                else:
                    raise
            else:
                self.host = host
                return listener

    def _publish(self, remarks: list[str]) -> bool:
        """Write the file for service discovery, if there is to be one."""
        directory = os.environ.get(OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR, "").strip()
        if not directory or self._origin is None:
            return False
        target = f"{_target_host(self.host)}:{self.port}"
        # The number of the supervisor, not of the worker that happens to listen: that one's successor is no new server.
        labels = {"service": encodable(_service_name()), "pid": str(self._origin.pid)}
        try:
            self._target = TargetFile(os.path.expanduser(directory), target, labels)
        except OSError as error:
            reason = error.strerror or str(error)
            remarks.append(f"{OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR}: cannot write to {directory!r} ({reason})")
            return False
        return True


def _configured_port(remarks: list[str]) -> int:
    text = os.environ.get(OTEL_EXPORTER_PROMETHEUS_PORT, "").strip()
    if not text:
        return DEFAULT_PORT
    with suppress(ValueError):
        if 0 <= (port := int(text)) <= 65535:
            return port
    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}={text!r} is not a port")
    return DEFAULT_PORT


def _address(host: str) -> str:
    """What to bind for ``host``.

    For ``localhost`` it is the IPv4 loopback address. Bound by name it may become ``::1``, which a scraper that asks
    for 127.0.0.1 does not reach. A scraper that resolves ``localhost`` to both addresses tries both.
    """
    return "127.0.0.1" if host == DEFAULT_HOST else host


def _reachable_name(host: str) -> str:
    """What to write into a URL for ``host``: the wildcard addresses are for listening only."""
    if host in ("0.0.0.0", "::"):
        return DEFAULT_HOST
    return f"[{host}]" if ":" in host else host


def _target_host(host: str) -> str:
    """What to write into a target file for ``host``: an address, so that Prometheus need not resolve a name."""
    return "[::1]" if host == "::" else "127.0.0.1" if host == "0.0.0.0" else _reachable_name(_address(host))


def _service_name() -> str:
    """The name of the service: as configured, or that of the script."""
    name = os.environ.get(OTEL_SERVICE_NAME, "").strip()
    if name:
        return name
    script = Path(sys.argv[0] if sys.argv else "")
    # A package that was started by `python -m` shows its `__main__.py`.
    name = script.parent.name if script.stem == "__main__" else script.stem
    return name if name and name != "-c" else "python"
