"""Applications in processes of their own, started and stopped by a test."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_SECONDS = 30.0


@dataclass
class Child:
    """A running application; its output goes to files, so it never waits for a reader."""

    process: subprocess.Popen[bytes]
    stdout_file: Path
    stderr_file: Path

    def scrape(self, url: str, shows: str = "child_beats_total") -> str:
        """The answer of ``url``, as soon as it shows a metric."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        answer = "nothing"
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.stderr
            try:
                answer = read(url)
            except (urllib.error.URLError, ConnectionError) as error:
                answer = str(error)
            if shows in answer:
                return answer
            time.sleep(0.05)
        pytest.fail(f"no {shows} at {url}, but {answer}; stderr: {self.stderr}")

    def announced_url(self) -> str:
        """The URL at the end of the line on stderr, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if "\n" in self.stderr:
                return self.stderr.splitlines()[0].split()[-1]
            time.sleep(0.05)
        pytest.fail("nothing on stderr")

    def finish(self) -> int:
        """Tell the application that there is no more input, and return its exit status."""
        self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode

    @property
    def stdout(self) -> bytes:
        return self.stdout_file.read_bytes()

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text()


Launch = Callable[..., Child]
"""``launch(*arguments, flags=(), launcher=True, interpreter=None, **variables)``."""

Start = Callable[..., Child]
"""``start(code, *flags, launcher=True, interpreter=None, **variables)``."""


@contextmanager
def running(command: list[str], environment: dict[str, str], directory: Path) -> Generator[Child]:
    number = len(list(directory.iterdir()))
    stdout_file, stderr_file = directory / f"{number}.stdout", directory / f"{number}.stderr"
    with stdout_file.open("wb") as stdout, stderr_file.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    with process:
        try:
            yield Child(process, stdout_file, stderr_file)
        finally:
            # Not yet waited for, so the number is still this process'. Its own children are in the group too.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read().decode()
