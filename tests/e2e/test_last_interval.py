"""What was measured since the last export is exported when a process ends, and the process ends as it would have.

The interval is a minute, so whatever arrives was sent at the end. Every ending happens to a twin without
instrumentation as well: its exit status is the one to be had.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..points import Points
from ..sdk import setups
from ..sdk.generation import streamable_http_client
from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Child, Start
from .receiver import Receiver
from .test_scrape import HTTP_SERVER, wait_for_http

ROOT = Path(__file__).parents[2]
STDIO_SERVER = "from tests.sdk import example; example.build().run('stdio')"
PARAMETERS = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
MESSAGES: list[dict[str, Any]] = [
    {"id": 1, "method": "initialize", "params": PARAMETERS},
    {"method": "notifications/initialized"},
    *({"id": number, "method": "tools/call", "params": {"name": "ok", "arguments": {}}} for number in (2, 3, 4)),
]
BEATS = "from opentelemetry import metrics; metrics.get_meter('child').create_counter('child.beats').add(3)\n"
READY = "import sys; print('ready', flush=True)\n"


def wait_for_line(child: Child, count: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while child.stdout.count(b"\n") < count:
        assert time.monotonic() < deadline, child.stderr
        assert child.process.poll() is None, child.stderr
        time.sleep(0.02)


def end(child: Child, how: str) -> int:
    """End a process by a signal or by the end of its input, and return its exit status."""
    if how != "EOF":
        child.process.send_signal(getattr(signal, how))
    if how == "SIGTERM":
        return child.process.wait(PATIENCE_SECONDS)
    # The SDK's stdio server notices an interrupt when the read that is under way returns: its client leaves.
    return child.finish()


def use_stdio(child: Child) -> None:
    assert child.process.stdin is not None
    for message in MESSAGES:
        child.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    child.process.stdin.flush()
    wait_for_line(child, 4)


@pytest.mark.parametrize("how", ["EOF", "SIGINT", "SIGTERM"])
def test_of_a_stdio_server(start: Start, otlp: dict[str, Any], receiver: Receiver, how: str) -> None:
    child = start(STDIO_SERVER, **otlp)
    twin = start(STDIO_SERVER, launcher=False, **otlp)
    for each in (child, twin):
        use_stdio(each)

    assert end(child, how) == end(twin, how)
    points = receiver.points()
    assert points.sum("mcp.requests.total", {"gen_ai.tool.name": "ok", "status": "ok"}) == 3
    assert points.sum("mcp.requests.total") == 4
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_of_uvicorn(start: Start, otlp: dict[str, Any], receiver: Receiver, free_ports: list[int], how: str) -> None:
    async def call(url: str) -> None:
        async with setups.client_over(streamable_http_client(url)) as session:
            for _ in range(3):
                await session.call_tool("ok", {})

    ports = {True: free_ports[0], False: free_ports[1]}
    child, twin = (
        start(HTTP_SERVER.replace("sys.argv[1]", str(port)), launcher=launcher, **otlp)
        for launcher, port in ports.items()
    )
    for port in ports.values():
        wait_for_http(port)
        anyio.run(call, f"http://127.0.0.1:{port}/mcp")

    assert end(child, how) == end(twin, how)
    assert receiver.points().sum("mcp.requests.total", {"gen_ai.tool.name": "ok", "status": "ok"}) == 3


def exported_beats(points: Points) -> float:
    return points.sum("child.beats")


# What an application does with SIGTERM, before or after this package had its turn; the status it ends with.
HANDLERS = {
    "its own, set later": (
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n{ready}sys.stdin.read()",
        5,
    ),
    "its own, calling the one before it": (
        "import signal\n"
        "before = signal.getsignal(signal.SIGTERM)\n"
        "def handle(*args):\n"
        "    if callable(before): before(*args)\n"
        "    sys.exit(6)\n"
        "signal.signal(signal.SIGTERM, handle)\n{ready}sys.stdin.read()",
        6,
    ),
    "ignored": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{ready}sys.stdin.read(); sys.exit(7)",
        7,
    ),
    "set and put back": (
        "import signal\n"
        "before = signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "signal.signal(signal.SIGTERM, before)\n{ready}sys.stdin.read()",
        -signal.SIGTERM,
    ),
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_applications_own_handler_keeps_working(
    start: Start, otlp: dict[str, Any], receiver: Receiver, handler: str
) -> None:
    code, status = HANDLERS[handler]
    child = start("import sys\n" + BEATS + code.replace("{ready}", READY), **otlp)
    wait_for_line(child)

    child.process.send_signal(signal.SIGTERM)
    if handler == "ignored":
        child.finish()

    assert child.process.wait(PATIENCE_SECONDS) == status, child.stderr
    assert exported_beats(receiver.points()) == 3


def test_a_handler_that_was_there_before_is_left_alone(start: Start, otlp: dict[str, Any], receiver: Receiver) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, handler := lambda *_: sys.exit(8))\n"
        "from opentelemetry.instrumentation.auto_instrumentation import initialize; initialize()\n"
        "assert signal.getsignal(signal.SIGTERM) is handler\n"
    )
    child = start(code + BEATS + READY + "sys.stdin.read()", launcher=False, **otlp)
    wait_for_line(child)

    child.process.send_signal(signal.SIGTERM)

    assert child.process.wait(PATIENCE_SECONDS) == 8
    assert exported_beats(receiver.points()) == 3


@pytest.mark.parametrize("exporter", ["prometheus", "none"])
def test_there_is_no_handler_without_an_exporter_that_pushes(start: Start, free_port: int, exporter: str) -> None:
    child = start(
        "import signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)",
        OTEL_METRICS_EXPORTER=exporter,
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
    )

    assert child.finish() == 0
    assert child.stdout == b"True\n"


def test_instrumenting_in_code_sets_no_handler(start: Start, otlp: dict[str, Any]) -> None:
    code = (
        "import signal, mcp\n"
        "from opentelemetry_instrumentation_mcp import MCPInstrumentor; MCPInstrumentor().instrument()\n"
        "print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    )
    child = start(code, launcher=False, **otlp)

    assert child.finish() == 0
    assert child.stdout == b"True\n"


@pytest.mark.parametrize("how", ["EOF", "SIGTERM"])
def test_an_application_that_has_shut_the_sdk_down_hears_no_complaint(
    start: Start, otlp: dict[str, Any], receiver: Receiver, how: str
) -> None:
    shut_down = "metrics.get_meter_provider().shutdown()\n"
    child = start(BEATS + shut_down + READY + "sys.stdin.read()", **otlp)
    wait_for_line(child)

    assert end(child, how) == (0 if how == "EOF" else -signal.SIGTERM)
    assert child.stderr == ""
    assert exported_beats(receiver.points()) == 3
    assert len(receiver.requests) == 1


def test_a_forked_child_ends_by_the_signal_and_flushes_nothing_of_its_parents(
    start: Start, otlp: dict[str, Any], receiver: Receiver
) -> None:
    code = (
        "import os, signal, sys, time\n"
        "child = os.fork()\n"
        "if child == 0: print('ready', flush=True); time.sleep(60); os._exit(0)\n"
        "sys.stdin.readline()\n"
        "os.kill(child, signal.SIGTERM)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n"
        "sys.stdin.read()"
    )
    child = start(BEATS + code, **otlp)
    wait_for_line(child)
    assert child.process.stdin is not None
    child.process.stdin.write(b"\n")
    child.process.stdin.flush()
    wait_for_line(child, 2)

    assert child.stdout == b"ready\n-15\n"
    assert receiver.requests == []
    assert child.finish() == 0
    assert exported_beats(receiver.points()) == 3


def test_a_collector_that_does_not_answer_holds_up_a_signal_for_a_bounded_time(
    start: Start, python: NewPython, silent: str
) -> None:
    child = start(
        BEATS + READY + "sys.stdin.read()",
        interpreter=python(without=[name for name in environments.OPTIONAL if name not in environments.GRPC]),
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_METRIC_EXPORT_INTERVAL="60000",
        OTEL_EXPORTER_OTLP_ENDPOINT=silent,
    )
    wait_for_line(child)
    began = time.monotonic()

    # An orderly exit is in test_dead_collector.py.
    assert end(child, "SIGTERM") == -signal.SIGTERM
    # The machine may be busy; what must not pass are the 10 seconds of the exporter and the 30 of the SDK.
    assert 1.5 * 0.9 < time.monotonic() - began < 1.5 + 3


def test_a_signal_that_meets_a_locked_sdk_still_ends_the_process(
    start: Start, otlp: dict[str, Any], receiver: Receiver
) -> None:
    # The worst moment: the main thread holds the lock without which nothing can be collected.
    code = (
        "provider = metrics.get_meter_provider()\n"
        "with provider._measurement_consumer._lock:\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()"
    )
    child = start("import sys\n" + BEATS + code, **otlp)
    wait_for_line(child)
    began = time.monotonic()

    assert end(child, "SIGTERM") == -signal.SIGTERM
    assert time.monotonic() - began < 1.5 + 3
    assert receiver.requests == []
