"""Fixtures of the end-to-end tests: processes under the launcher, ports, and a real Prometheus."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from .. import ports
from . import environments
from .processes import Child, Launch, Start, running
from .receiver import Receiver, receiving

ROOT = Path(__file__).parents[2]

NewPython = Callable[..., Path]
"""``python(without=..., after=..., source=...)``: an environment's interpreter, see :func:`environments.create`."""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> NewPython:
    """Makes environments; one that has been made already is used again."""
    made: dict[tuple[tuple[str, ...], tuple[Path, ...], Path], Path] = {}

    def make(
        without: Iterable[str] = environments.OPTIONAL,
        after: Iterable[Path] = (),
        source: Path = environments.SITE_PACKAGES,
    ) -> Path:
        key = (tuple(without), tuple(after), source)
        if key not in made:
            made[key] = environments.create(tmp_path_factory.mktemp("python") / "env", *key)
        return made[key]

    return make


@pytest.fixture
def launch(tmp_path: Path, python: NewPython) -> Generator[Launch]:
    """Starts Python with arguments; the processes end with the test, whatever becomes of it.

    Without an interpreter of their own they run where nothing optional is installed.
    """
    with ExitStack() as children:

        def launch_one(
            *arguments: str,
            flags: Sequence[str] = (),
            launcher: bool = True,
            interpreter: Path | None = None,
            **variables: str,
        ) -> Child:
            interpreter = interpreter or python()
            command = [str(interpreter), *arguments]
            if launcher:
                command = [str(interpreter.with_name("opentelemetry-instrument")), *flags, *command]
            # What the caller's shell says about OpenTelemetry is not what is tested. Workers meet in the runtime
            # directory, where those of other tests have no business.
            inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_") and k != "PYTHONPATH"}
            environment = inherited | {"XDG_RUNTIME_DIR": str(tmp_path)} | variables
            return children.enter_context(running(command, environment, tmp_path))

        yield launch_one


@pytest.fixture
def start(launch: Launch) -> Start:
    """Starts applications."""

    def start_one(code: str, *flags: str, **options: Any) -> Child:
        return launch("-c", code, flags=flags, **options)

    return start_one


@pytest.fixture
def taken_port() -> Generator[int]:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def silent() -> Generator[str]:
    """An endpoint that takes connections and never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def free_ports() -> list[int]:
    """Three ports nobody listens on."""
    return [ports.free_port() for _ in range(3)]


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def otlp(python: NewPython, receiver: Receiver) -> dict[str, Any]:
    """OTLP once a minute, where nothing but its HTTP exporter is installed."""
    hidden = [name for name in environments.OPTIONAL if name not in environments.HTTP]
    return {
        "interpreter": python(without=hidden),
        "PYTHONPATH": str(ROOT),
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "60000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http,
    }
