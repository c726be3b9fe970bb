"""A file for Prometheus' ``file_sd_configs`` that says where the metrics of one server are.

The owner keeps its file locked as long as it lives, so that others can tell the files of the dead, of other containers
too, and remove them.
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
        unfinished = f"{self.path}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(unfinished, flags, 0o644)
        _mine.update((name, f"{name}.tmp"))
        try:
            _lock(self._descriptor)
            content = json.dumps([{"targets": [target], "labels": labels}], indent=2)
            os.write(self._descriptor, f"{content}\n".encode())
            os.replace(unfinished, self.path)
        except OSError:
            self._forget(unfinished)
            raise
        _in_place.add(self)

    def remove(self) -> None:
        """Remove it. Whoever did that already did no harm."""
        _in_place.discard(self)
        self._forget(self.path)

    def abandon(self) -> None:
        """Close what a forked child has inherited; the file is its parent's."""
        _in_place.discard(self)
        os.close(self._descriptor)

    def _forget(self, path: str) -> None:
        with suppress(OSError):
            os.unlink(path)
        with suppress(OSError):
            os.close(self._descriptor)


_in_place: set[TargetFile] = set()


def remove_all() -> None:
    """Remove this process' files: it is about to end."""
    for file in tuple(_in_place):
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
