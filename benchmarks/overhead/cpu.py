"""The CPU time of another process, and which CPU it runs on."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
import time
from contextlib import suppress

import psutil


def cpu_seconds(pid: int) -> float:
    """The CPU time a process has used so far, in user and kernel mode, all its threads together, ended ones too.

    On Linux it is the scheduler's own account in nanoseconds, by the clock POSIX gives every process
    (``clock_getcpuclockid``). It sums what ``/proc/PID/task/*/schedstat`` lists, adds the threads that have ended, and
    is up to date while a thread runs. Elsewhere it is what the system reports as process times.
    """
    if _clock_of is None:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    clock = ctypes.c_int()
    if error := _clock_of(pid, ctypes.byref(clock)):
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime_ns(clock.value) / 1e9


def cpus() -> tuple[int, int] | None:
    """The CPU for what is measured and the one for everything else; None where processes cannot be pinned to two."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    # The first one often serves the interrupts too.
    return (allowed[-1], allowed[0]) if len(allowed) > 1 else None


def pin(pid: int, cpu: int | None) -> None:
    """Keep a process, and the threads and processes it is yet to start, on one CPU."""
    if cpu is not None:
        with suppress(OSError):
            os.sched_setaffinity(pid, {cpu})


_clock_of = None
if sys.platform == "linux":
    _clock_of = ctypes.CDLL(ctypes.util.find_library("c")).clock_getcpuclockid
