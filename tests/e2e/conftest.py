"""Fixtures of the end-to-end tests: processes under the launcher, and ports."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from .processes import Child, Start, running


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """Starts applications that end with the test, whatever becomes of it."""
    with ExitStack() as children:

        def start_one(code: str, *flags: str, launcher: bool = True, **variables: str) -> Child:
            command = [sys.executable, "-c", code]
            if launcher:
                command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), *flags, *command]
            # What the caller's shell says about OpenTelemetry is not what is tested.
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_") and k != "PYTHONPATH"}
            return children.enter_context(running(command, inherited | variables, tmp_path))

        yield start_one


@pytest.fixture
def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def taken_port() -> Generator[int]:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def free_ports() -> list[int]:
    """Three ports nobody listens on; held together while they are picked, so that they differ."""
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
