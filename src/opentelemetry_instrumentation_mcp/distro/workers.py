"""How the processes of one server find each other: a directory that only this user can enter.

One lock there decides who listens at the configured port, and others which number a worker has; the system gives them
back when a process dies, however it dies. Numbers are reused, so there are never more than there were workers at a
time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final

from .origin import Origin, is_alive

try:
    import fcntl
except ImportError:  # Windows, where every process stays on its own.
    fcntl = None

MOST_WORKERS: Final = 128
"""Workers of one server that get a number; the ones after them are not shown."""

_NAME: Final = "opentelemetry-distro-mcp"
_SERVER_FILE: Final = "server.json"
_JOIN_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 0.5
"""How long a process that ends waits for others that join."""

# Places in the lock file: who listens, the process the others come from, and the workers.
_LISTENER: Final = 0
_ROOT: Final = 1
_FIRST_WORKER: Final = 2


class Membership:
    """This process among those of its server, until it ends or :meth:`leave`.

    Args:
        directory: The descriptor of the server's directory.
        lock: The descriptor of its lock file.
        place: This process' place in it.
        path: Where the directory is.
    """

    def __init__(self, directory: int, lock: int, place: int, path: str) -> None:
        self._directory = directory
        self._lock = lock
        self._place = place
        self._path = path
        self._left = False
        self.label = str(place - _FIRST_WORKER) if place >= _FIRST_WORKER else None
        """This worker's number, as a label; None for the process the others come from."""

    def listens(self, *, wait: bool = False) -> bool:
        """Whether this process is the one to listen at the port; with ``wait`` it returns when it is."""
        try:
            _take(self._lock, _LISTENER, wait=wait)
        except OSError:
            return False
        if self._left:
            _give_back(self._lock, _LISTENER)
        return not self._left

    @property
    def socket(self) -> str:
        """Where this process answers its siblings."""
        return self._address(self._socket_name)

    def siblings(self) -> dict[str, str]:
        """Where the others answer, by their names. Some of them may be dead."""
        names = [name for name in os.listdir(self._directory) if name.endswith(".sock") and name != self._socket_name]
        return {name.removesuffix(".sock"): self._address(name) for name in sorted(names)}

    def keep(self, page: bytes) -> None:
        """Write this process' page down, for its siblings and for its successor.

        Raises:
            OSError: If that cannot be done, or the place is another process' by now.
        """
        if self._left:
            raise OSError("this process has left its server")
        name, unfinished = f"{self.name}.page", f"{self.name}.unfinished"
        with os.fdopen(_open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self._directory), "wb") as file:
            file.write(page)
        os.rename(unfinished, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def keepers(self) -> set[str]:
        """The names of workers that have kept a page, dead or alive, this one's predecessor included."""
        return {name.removesuffix(".page") for name in os.listdir(self._directory) if name.endswith(".page")}

    def kept(self, name: str) -> bytes:
        """The page that a sibling, or a predecessor, has kept.

        Raises:
            OSError: If there is none.
        """
        with os.fdopen(_open(f"{name}.page", os.O_RDONLY, self._directory), "rb") as file:
            return file.read()

    def clear_socket(self) -> None:
        """Remove what this process, or a dead one that had its place, answered at."""
        with suppress(OSError):
            os.unlink(self._socket_name, dir_fd=self._directory)

    def leave(self) -> None:
        """Give the place to others. The descriptors stay: a thread may be waiting for the lock."""
        self._left = True
        self.clear_socket()
        _give_back(self._lock, self._place)
        _give_back(self._lock, _LISTENER)
        if self.label is None:
            # It is the server's end, unless it has workers.
            with suppress(OSError):
                self._clear_directory()

    def _clear_directory(self) -> None:
        path, name = os.path.split(self._path)
        base = _private(path)
        try:
            # Otherwise the next process that joins removes it.
            with _alone(base, _LEAVE_SECONDS):
                _remove(base, name, self._directory)
        finally:
            os.close(base)

    def abandon(self) -> None:
        """Close what a forked child has inherited; the locks are its parent's, and stay so."""
        os.close(self._directory)
        os.close(self._lock)

    @property
    def name(self) -> str:
        """What its siblings call this process."""
        return self.label or "root"

    @property
    def _socket_name(self) -> str:
        return f"{self.name}.sock"

    def _address(self, name: str) -> str:
        """The path of a socket. By the descriptor it fits into the 107 bytes there are, and cannot be redirected."""
        by_descriptor = f"/proc/self/fd/{self._directory}"
        return os.path.join(by_descriptor if os.path.isdir(by_descriptor) else self._path, name)


def join(server: Origin, address: str, is_over: Callable[[], bool] = lambda: False) -> Membership:
    """Join the other processes of a server.

    Args:
        server: Where this process comes from.
        address: The configured host and port; equal for processes that share them.
        is_over: Whether to wait no longer for others of this user that join.

    Raises:
        OSError: If there is no directory that can be trusted, all places are taken, or it is over.
    """
    if fcntl is None:
        raise OSError("this system has no such locks")
    path, base = _base()
    # A configured host may be any bytes. It is checked elsewhere.
    name = hashlib.sha256(f"{server.server}\n{address}".encode(errors="surrogatepass")).hexdigest()[:16]
    try:
        with _alone(base, _JOIN_SECONDS, is_over):
            _sweep(base, name)
            return _enter(base, name, os.path.join(path, name), server)
    finally:
        os.close(base)


def _enter(base: int, name: str, path: str, server: Origin) -> Membership:
    directory = _private(name, base)
    try:
        lock = _open("lock", os.O_RDWR | os.O_CREAT, directory)
        with os.fdopen(_open(_SERVER_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, directory), "w") as file:
            json.dump([server.server, server.pid], file)
    except OSError:
        os.close(directory)
        raise
    for place in range(_FIRST_WORKER, _FIRST_WORKER + MOST_WORKERS) if server.is_worker else (_ROOT,):
        with suppress(OSError):
            _take(lock, place)
            return Membership(directory, lock, place, path)
    os.close(directory)
    os.close(lock)
    raise OSError(f"{MOST_WORKERS} workers have all the places there are")


def _base() -> tuple[str, int]:
    """The directory of this user for all servers."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        with suppress(OSError):
            path = os.path.join(runtime, _NAME)
            return path, _private(path)
    path = os.path.join(tempfile.gettempdir(), f"{_NAME}-{os.geteuid()}")
    return path, _private(path)


def _private(path: str, parent: int | None = None) -> int:
    """A descriptor of a directory that only this user can enter, made if need be.

    Raises:
        OSError: If it is another user's, open to others, or a link.
    """
    with suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=parent)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(directory)
        raise PermissionError(f"{path} is not private to this user")
    return directory


def _open(name: str, flags: int, directory: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)


def _take(lock: int, place: int, *, length: int = 1, wait: bool = False) -> None:
    """Lock a place for this process. A fork does not inherit the lock, and it ends with the process.

    Raises:
        OSError: If it is taken.
    """
    assert fcntl is not None
    fcntl.lockf(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), length, place)


def _give_back(lock: int, place: int) -> None:
    assert fcntl is not None
    with suppress(OSError):
        fcntl.lockf(lock, fcntl.LOCK_UN, 1, place)


@contextmanager
def _alone(base: int, seconds: float, is_over: Callable[[], bool] = lambda: False) -> Generator[None]:
    """Keep other processes of this user from joining and sweeping meanwhile.

    Raises:
        OSError: If another one does so all the time, or it is over.
    """
    lock = _open("lock", os.O_RDWR | os.O_CREAT, base)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                _take(lock, 0)
                break
            except OSError:
                if time.monotonic() > deadline or is_over():
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _sweep(base: int, own: str) -> None:
    """Remove the directories of servers of which no process is left.

    A supervisor without workers may be about to start some, and they go on from what is kept there.
    """
    for name in os.listdir(base):
        if name in (own, "lock"):
            continue
        with suppress(OSError):
            directory = _private(name, base)
            try:
                if not _has_supervisor(directory):
                    _remove(base, name, directory)
            finally:
                os.close(directory)


def _has_supervisor(directory: int) -> bool:
    with suppress(OSError, ValueError, TypeError), os.fdopen(_open(_SERVER_FILE, os.O_RDONLY, directory)) as file:
        server, pid = json.load(file)
        return is_alive(server, pid)
    return False


def _remove(base: int, name: str, directory: int) -> None:
    lock = _open("lock", os.O_RDWR | os.O_CREAT, directory)
    try:
        _take(lock, 0, length=0)  # to the end of the file, which is all places
        for file in os.listdir(directory):
            os.unlink(file, dir_fd=directory)
        os.rmdir(name, dir_fd=base)
    finally:
        os.close(lock)
