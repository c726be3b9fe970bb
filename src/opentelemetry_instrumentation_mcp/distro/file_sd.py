"""A file for Prometheus' ``file_sd_configs`` with the address of one server's metrics.

The owner keeps its file locked as long as it lives. So other processes find the files of processes that have ended, in
other containers too, and remove them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from contextlib import suppress
from typing import Final

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept.
    fcntl = None

_PREFIX: Final = "opentelemetry-mcp-"

_UNFINISHED_SECONDS: Final = 60.0
"""The age at which a file that is not yet in place never will be."""

_mine: set[str] = set()
"""The names of this process' files: the system lets a process take its own locks once more."""


class TargetFile:
    """One server's file, from its creation to :meth:`remove`.

    Args:
        directory: Where; made if it does not exist.
        target: The ``host:port`` to scrape.
        labels: What Prometheus puts on every series of the target.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, directory: str, target: str, labels: dict[str, str]) -> None:
        os.makedirs(directory, exist_ok=True)
        _sweep(directory)
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(labels.values()))[:100]
        # Processes of several containers may share a directory, and each have the number 1.
        name = f"{_PREFIX}{readable}-{secrets.token_hex(4)}.json"
        self.path = os.path.join(directory, name)
        self._unfinished = f"{self.path}.tmp"
        self._descriptor = -1
        _mine.update((name, f"{name}.tmp"))
        _there.add(self)
        try:
            self._descriptor = self._written(json.dumps([{"targets": [target], "labels": labels}], indent=2))
        except BaseException:
            self.remove()
            raise

    def _written(self, content: str) -> int:
        """Write the file, lock it, put it in place, and return its descriptor."""
        descriptor = os.open(self._unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if _is_over:
                raise OSError("the process is about to end")
            _lock(descriptor)
            os.write(descriptor, f"{content}\n".encode())
            os.replace(self._unfinished, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def remove(self) -> None:
        """Remove the file, which may be gone already, or which another thread may still be writing."""
        _there.discard(self)
        # In this order: one that is not in place yet can be put there no more.
        for path in (self._unfinished, self.path):
            with suppress(OSError):
                os.unlink(path)
        self._close()

    def abandon(self) -> None:
        """Close what a forked child has inherited; the file is its parent's."""
        _there.discard(self)
        self._close()

    def _close(self) -> None:
        # Once: the next file to be opened, the application's perhaps, gets the same number.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)


_there: set[TargetFile] = set()
_is_over = False


def remove_all() -> None:
    """Remove this process' files, and let no more be written: it is about to end."""
    global _is_over
    _is_over = True
    for file in tuple(_there):
        file.remove()


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_finished(name: str, status: os.stat_result) -> bool:
    """Whether the file's owner has got as far as to lock it, unless it died before."""
    is_old = time.time() - status.st_mtime > _UNFINISHED_SECONDS
    return stat.S_ISREG(status.st_mode) and (is_old or name.endswith(".json"))


def _sweep(directory: str) -> None:
    """Remove the files whose owners are dead, as far as this user may."""
    for name in os.listdir(directory):
        if fcntl is None or name in _mine or not name.startswith(_PREFIX):
            continue
        path = os.path.join(directory, name)
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if _is_finished(name, os.fstat(descriptor)):
                    _lock(descriptor)
                    os.unlink(path)
            finally:
                os.close(descriptor)
