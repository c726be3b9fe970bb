"""``everything.py`` as a process."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..ports import free_port
from .environments import CONSOLE, variables

PROGRAM: Final = Path(__file__).with_name("everything.py")
_SECONDS: Final = 90


@contextmanager
def serving(binaries: Path, log: Path, *arguments: str, instrumented: bool = False) -> Generator[str]:
    """Serve over HTTP until the block ends.

    Args:
        binaries: Of the environment.
        log: Where its stderr goes.
        arguments: More for the program, after the port.
        instrumented: Whether by ``opentelemetry-instrument``.

    Yields:
        The URL.
    """
    port = free_port()
    command = [str(binaries / "python"), str(PROGRAM), str(port), *arguments]
    if instrumented:
        command.insert(0, str(binaries / "opentelemetry-instrument"))
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdout=output, stderr=output, env=variables(**(CONSOLE if instrumented else {}))
        )
        try:
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline and started.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()
