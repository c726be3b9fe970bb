"""Which server a process belongs to.

It is the server of the process that this one was forked from, or that ``multiprocessing`` started it from: gunicorn
forks its workers, ``uvicorn --workers`` has them started. Everything else is a server of its own, however alike the
commands and settings are.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

# By the command line, since it is known before multiprocessing itself has set anything up in the process.
_STARTED_BY_MULTIPROCESSING: Final = {"--multiprocessing-fork"}
_HELPER: Final = re.compile(
    # From 3.14 on, and from 3.13.18 on, the fork server imports sys before that.
    r"(?:import \w+; ?)*from multiprocessing\.(?:resource_tracker|forkserver) import main; ?main\("
)

_FORKED_WITHOUT_EXEC: Final = 0x40
"""PF_FORKNOEXEC of Linux' task flags."""


@dataclass(frozen=True)
class Origin:
    """Where a process comes from.

    Attributes:
        server: Stands for the server on this machine.
        pid: The process the server's processes come from: a supervisor, or the only one.
        is_worker: Whether it is another process than this one.
    """

    server: str
    pid: int
    is_worker: bool


_known: tuple[int, Origin] | None = None
"""The origin of a process, with that process' number: in a forked child it is still the parent's."""


def origin() -> Origin:
    """The origin of this process. What it is for a child is settled by the first call before the fork."""
    global _known
    pid = os.getpid()
    if _known is None or _known[0] != pid:
        _known = (pid, _find_origin() if _known is None else Origin(_known[1].server, _known[1].pid, True))
    return _known[1]


def _find_origin() -> Origin:
    if _STARTED_BY_MULTIPROCESSING & set(sys.orig_argv) or is_helper() or _is_fork():
        return Origin(_identity(os.getppid()), os.getppid(), True)
    return Origin(_identity(os.getpid()), os.getpid(), False)


def is_helper() -> bool:
    """Whether this is a process that ``multiprocessing`` keeps for itself."""
    return any(_HELPER.match(argument) for argument in sys.orig_argv)


def is_alive(server: str, pid: int) -> bool:
    """Whether the process that a server stands for is still there, as far as this one can see."""
    import psutil  # noqa: PLC0415

    return _identity(pid) == server and psutil.pid_exists(pid)


def _identity(pid: int) -> str:
    """A name for a process that no later process of this number has, and no process of another container."""
    with suppress(OSError, IndexError):
        return f"{os.readlink('/proc/self/ns/pid')}:{pid}:{_status(pid)[19]}"
    return str(pid)


def _is_fork() -> bool:
    """Whether this process is a fork of a parent that is still there: of the one that would be its supervisor."""
    with suppress(OSError, IndexError, ValueError):
        forked = int(_status(os.getpid())[6]) & _FORKED_WITHOUT_EXEC
        return bool(forked) and os.readlink(f"/proc/{os.getppid()}/exe") == os.readlink("/proc/self/exe")
    return False


def _status(pid: int) -> list[str]:
    """The fields of Linux' ``stat`` from the third on; the second one, the name, may have spaces in it."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()
