"""An endpoint that is closed in the middle of opening: nobody waits, and nothing stays behind."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from opentelemetry_instrumentation_mcp.distro import endpoint as module
from opentelemetry_instrumentation_mcp.distro import file_sd
from opentelemetry_instrumentation_mcp.distro.endpoint import Endpoint
from opentelemetry_instrumentation_mcp.distro.file_sd import TargetFile
from opentelemetry_instrumentation_mcp.distro.prometheus import PrometheusReader

SECONDS = 30.0


class Obstacle:
    """Stops whoever comes, until the test is over."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.removed = threading.Event()

    def before(self, function: Callable[..., object]) -> Callable[..., object]:
        def stopped(*args: object, **kwargs: object) -> object:
            self.reached.set()
            assert self.removed.wait(4 * SECONDS)
            return function(*args, **kwargs)

        return stopped


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", str(free_port))
    monkeypatch.setenv("OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR", str(tmp_path / "targets"))
    (tmp_path / "targets").mkdir()
    return tmp_path / "targets"


@pytest.fixture
def obstacle() -> Iterator[Obstacle]:
    obstacle = Obstacle()
    yield obstacle
    obstacle.removed.set()


PLACES: dict[str, tuple[object, str]] = {
    "joining": (module, "join"),
    "looking a host up": (socket, "getaddrinfo"),
    "starting to answer": (module.Listener, "start"),
    "writing the target file": (module, "TargetFile"),
}
THREAD = {"starting a thread": (threading.Thread, "start")}


@pytest.mark.parametrize("place", PLACES)
def test_closing_does_not_wait_for_what_holds_opening_up(
    monkeypatch: pytest.MonkeyPatch, targets: Path, free_port: int, obstacle: Obstacle, place: str
) -> None:
    owner, name = PLACES[place]
    monkeypatch.setattr(owner, name, obstacle.before(getattr(owner, name)))
    endpoint = Endpoint()
    opening = threading.Thread(target=endpoint.open, daemon=True)
    opening.start()
    assert obstacle.reached.wait(SECONDS)

    end = threading.Thread(target=endpoint.close, daemon=True)
    end.start()
    end.join(SECONDS)
    assert not end.is_alive()

    # And what holds it up may come to its end after all, in a process that goes on.
    obstacle.removed.set()
    opening.join(SECONDS)
    assert not opening.is_alive()
    assert (endpoint.port, endpoint.url) == (0, "")
    assert list(targets.iterdir()) == []
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", free_port))
    assert not list(targets.parent.glob("opentelemetry-distro-mcp/*/*"))


def test_a_reader_is_shut_down_although_its_page_is_being_opened(
    monkeypatch: pytest.MonkeyPatch, targets: Path, obstacle: Obstacle
) -> None:
    monkeypatch.setattr(Endpoint, "open", obstacle.before(Endpoint.open))
    reader = PrometheusReader()
    opening = threading.Thread(target=reader.start, daemon=True)
    opening.start()
    assert obstacle.reached.wait(SECONDS)

    end = threading.Thread(target=reader.shutdown, daemon=True)
    end.start()
    end.join(SECONDS)
    assert not end.is_alive()
    obstacle.removed.set()
    opening.join(SECONDS)
    assert reader.port == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["looking a host up", "starting a thread", "writing the target file"])
def test_an_endpoint_whose_opening_was_interrupted_can_be_closed(
    monkeypatch: pytest.MonkeyPatch, targets: Path, place: str, error: type[BaseException]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    endpoint = Endpoint()
    with monkeypatch.context() as patch:
        patch.setattr(*(PLACES | THREAD)[place], interrupted)
        with suppress(error):
            endpoint.open()

    end = threading.Thread(target=endpoint.close, daemon=True)
    end.start()
    end.join(SECONDS)
    assert not end.is_alive()
    assert list(targets.iterdir()) == []


def test_without_a_thread_nothing_looks_as_if_there_were_a_page(
    monkeypatch: pytest.MonkeyPatch, targets: Path, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    endpoint = Endpoint()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        endpoint.open()

    assert endpoint.url == ""
    assert list(targets.iterdir()) == []
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", free_port))
    # Of a process that ends there is nothing to be said.
    assert caplog.records == []
    endpoint.close()


def test_a_target_file_that_is_removed_twice_closes_nobody_elses_file(tmp_path: Path) -> None:
    file = TargetFile(str(tmp_path), "127.0.0.1:1", {"service": "a"})
    file.remove()
    with (tmp_path / "the application's").open("w") as other:
        file.remove()
        assert os.fstat(other.fileno())
        other.write("still open")


def test_no_target_file_comes_after_all_were_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file_sd, "_is_over", False)
    replace = os.replace

    def after_the_end(*arguments: str) -> None:
        file_sd.remove_all()
        replace(*arguments)

    monkeypatch.setattr(os, "replace", after_the_end)
    for _ in range(2):
        with suppress(OSError):
            TargetFile(str(tmp_path), "127.0.0.1:1", {"service": "a"})

    assert list(tmp_path.iterdir()) == []
