"""A configured port that another process has: waited for a moment, left to it, and taken as soon as it is free."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import closing, suppress

import pytest
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_PROMETHEUS_PORT

from opentelemetry_instrumentation_mcp.distro import endpoint as module
from opentelemetry_instrumentation_mcp.distro.prometheus import PrometheusReader

PATIENCE_SECONDS = 30.0


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Generator[socket.socket]:
    """What has the configured port."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv(OTEL_EXPORTER_PROMETHEUS_PORT, str(listener.getsockname()[1]))
        yield listener


@pytest.fixture
def reader() -> Generator[PrometheusReader]:
    reader = PrometheusReader()
    yield reader
    reader.shutdown()


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
        return b"python_info" in response.read()
    return False


def test_the_configured_port_is_taken_when_it_is_free_and_the_substitute_stays(
    other: socket.socket, reader: PrometheusReader, caplog: pytest.LogCaptureFixture
) -> None:
    port = other.getsockname()[1]
    reader.start()
    substitute = reader.url
    assert reader.port != port
    assert len(caplog.messages) == 1

    other.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while reader.port != port and time.monotonic() < deadline:
        time.sleep(0.05)

    assert reader.url == f"http://localhost:{port}/metrics"
    assert answers(reader.url)
    assert answers(substitute)
    _, back = (record.getMessage() for record in caplog.records if record.name == module.__name__)
    assert back == f"the configured port is free; the metrics of this process are at {reader.url}, too"

    urls = reader.url, substitute
    reader.shutdown()
    assert not any(answers(url) for url in urls)


def test_a_port_that_is_given_up_in_a_moment_is_waited_for(
    other: socket.socket,
    reader: PrometheusReader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_DRAINING_SECONDS", PATIENCE_SECONDS)
    port = other.getsockname()[1]
    threading.Timer(0.3, other.close).start()

    reader.start()

    assert reader.port == port
    assert caplog.messages == []


def test_nobody_waits_for_a_port_any_more_who_is_about_to_end(
    other: socket.socket,
    reader: PrometheusReader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_DRAINING_SECONDS", 10 * PATIENCE_SECONDS)
    starting = threading.Thread(target=reader.start, daemon=True)
    starting.start()
    began = time.monotonic()
    time.sleep(0.3)

    reader.shutdown()

    starting.join(PATIENCE_SECONDS)
    assert not starting.is_alive()
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert caplog.messages == []


def test_the_next_try_is_later_and_its_time_is_ones_own(
    other: socket.socket, reader: PrometheusReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    enough = threading.Event()

    class Gone(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is not None and threading.current_thread().name == "otel-mcp-return":
                waits.append(timeout)
                if len(waits) == 8:
                    enough.set()
                return len(waits) == 8
            return super().wait(timeout)

    monkeypatch.setattr("threading.Event", Gone)
    reader.start()

    assert enough.wait(PATIENCE_SECONDS)
    expected = [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    assert all(0.75 * each <= wait <= 1.25 * each for wait, each in zip(waits, expected, strict=True)), waits
    assert waits[4:] != [waits[4]] * 4
