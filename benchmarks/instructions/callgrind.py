"""Counting instructions from inside a process that valgrind runs.

``valgrind --tool=callgrind --instr-atstart=no`` runs a program at about a tenth of its speed and counts nothing until
the program asks for it, by a "client request": a sequence of instructions that does nothing on a processor and that
valgrind recognises (valgrind.h, ``VALGRIND_DO_CLIENT_REQUEST``). Python cannot inline them, so they are a function in
executable memory of our own. Only x86-64 has been written down here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

_OUT_FILE: Final = "BENCHMARK_CALLGRIND_OUT"

_X86_64: Final = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the request and its arguments
    "31d2"  # xor edx, edx: the answer when no valgrind listens
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi, 3 + 13 + 61 + 51: twice around, nothing has changed
    "4887db"  # xchg rbx, rbx
    "4889d0"  # mov rax, rdx
    "c3"  # ret
)

# callgrind.h numbers its requests from here.
_DUMP: Final = (ord("C") << 24) | (ord("T") << 16)
_ZERO: Final = _DUMP + 1
_START: Final = _DUMP + 4
_STOP: Final = _DUMP + 5


class Counter:
    """Counts the instructions between :meth:`start` and :meth:`stop`, of all threads of this process.

    Raises:
        RuntimeError: From the constructor, when this process was not started by :func:`command`.
    """

    def __init__(self) -> None:
        out = os.environ.get(_OUT_FILE)
        if not out:
            raise RuntimeError("not started under callgrind")
        self._out = out
        self._dumps = 0
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_X86_64)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._call = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(address)
        self._arguments = (ctypes.c_ulong * 6)()

    def _request(self, request: int) -> None:
        self._arguments[0] = request
        self._call(ctypes.addressof(self._arguments))

    def start(self) -> None:
        """Begin to count from zero."""
        self._request(_ZERO)
        self._request(_START)

    def stop(self) -> int:
        """Count no more; the instructions since :meth:`start`."""
        self._request(_STOP)
        self._request(_DUMP)
        self._dumps += 1
        # Every dump is a file of its own, numbered from 1. `totals:` is the sum of what it lists; `summary:` reads 0
        # after a program has switched counting off.
        dump = Path(f"{self._out}.{os.getpid()}.{self._dumps}")
        match = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
        dump.unlink()
        if match is None:
            raise RuntimeError("callgrind wrote no sum")
        return int(match[1])


def missing() -> str | None:
    """Why instructions cannot be counted here; None when they can."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"counting instructions is not written for {platform.machine()}"
    if shutil.which("valgrind") is None:
        return "no valgrind here"
    return None


def run(python: list[str], directory: Path, environment: dict[str, str], patience: float = 600) -> str:
    """Run a Python program under callgrind; what it wrote to stdout.

    Args:
        python: The interpreter and its arguments.
        directory: Where callgrind may leave files; the program runs there.
        environment: All variables of the program.
        patience: Seconds after which it is given up.

    Raises:
        RuntimeError: The program failed; the message has the end of its stderr.
        subprocess.TimeoutExpired: It took too long.
    """
    out = directory / "callgrind.out"
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}.%p", "--quiet"]
    done = subprocess.run(
        [*valgrind, *python],
        cwd=directory,
        # Hashes of strings decide how dictionaries and sets are laid out.
        env={**environment, "PYTHONHASHSEED": "0", _OUT_FILE: str(out)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    if done.returncode:
        raise RuntimeError(f"status {done.returncode} of {' '.join(python)}: {done.stderr[-2000:]}")
    return done.stdout
