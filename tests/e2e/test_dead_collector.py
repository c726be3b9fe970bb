"""How long a process takes to end when its collector is not there, for all signals together."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from opentelemetry_instrumentation_mcp.distro.flush import EXIT_SECONDS

from ..sdk.generation import V2
from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Child, Start
from .test_last_interval import READY, end, wait_for_line

pytestmark = pytest.mark.skipif(not V2, reason="the set-up has nothing to do with the generation of the SDK")

ONE_OF_EACH = (
    "import sys\n"
    "from opentelemetry import metrics, trace\n"
    "from opentelemetry._logs import LogRecord, get_logger\n"
    "metrics.get_meter('child').create_counter('child.thing').add(3)\n"
    "trace.get_tracer('child').start_span('child.thing').end()\n"
    "get_logger('child').emit(LogRecord(body='child.thing'))\n"
)
UNTIL_THE_END = ONE_OF_EACH + READY + "sys.stdin.read()\n"
SIGNALS = {f"OTEL_{signal}_EXPORTER": "otlp" for signal in ("TRACES", "METRICS", "LOGS")}
AT_THE_END_ONLY = {
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BLRP_SCHEDULE_DELAY": "60000",
}
SEVERAL = ("otlp_proto_grpc", "otlp_proto_http")
SLOW_SECONDS = 2.0
SLACK_SECONDS = 8.0
"""What a busy machine adds. One signal after the other would take two or three times the bound."""


@pytest.fixture
def refusing() -> Generator[str]:
    """An endpoint that refuses connections, and whose port nobody else gets meanwhile."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def everything(python: NewPython) -> Path:
    """An interpreter with both exporters and the package that reads configuration files."""
    installed = (*environments.OTLP, environments.CONFIGURATION)
    return python(without=[name for name in environments.OPTIONAL if name not in installed])


def a_file(directory: Path, endpoint: str) -> str:
    exporter = {"otlp_http": {"endpoint": f"{endpoint}/v1"}}
    batch = {"processors": [{"batch": {"exporter": exporter}}]}
    configuration = {
        "file_format": "1.0",
        "meter_provider": {"readers": [{"periodic": {"interval": 60000, "exporter": exporter}}]},
        "tracer_provider": batch,
        "logger_provider": batch,
    }
    path = directory / "otel.yaml"
    path.write_text(json.dumps(configuration))
    return str(path)


def test_all_signals_share_one_bound_whatever_the_collector_does(
    start: Start, everything: Path, tmp_path: Path, refusing: str, silent: str
) -> None:
    ways: list[tuple[str, str, dict[str, str]]] = [
        ("EOF", "", SIGNALS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": refusing}),
        (
            "EOF",
            "",
            SIGNALS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": refusing},
        ),
        (
            "EOF",
            "sys.exit(3)",
            SIGNALS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": silent},
        ),
        (
            "SIGINT",
            "",
            SIGNALS | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": silent},
        ),
        ("EOF", "", {"OTEL_CONFIG_FILE": a_file(tmp_path, silent)}),
        # Two exporters of every signal: one after the other they would double what a provider takes.
        ("EOF", "", {name: ",".join(SEVERAL) for name in SIGNALS} | {"OTEL_EXPORTER_OTLP_ENDPOINT": silent}),
    ]
    children: list[tuple[Child, str, str]] = []
    for how, last, variables in ways:
        child = start(UNTIL_THE_END + last, interpreter=everything, **AT_THE_END_ONLY, **variables)
        children.append((child, how, last))
    for child, _, _ in children:
        wait_for_line(child)

    began = time.monotonic()
    for child, how, _ in children:
        if how == "SIGINT":
            child.process.send_signal(signal.SIGINT)
        else:
            assert child.process.stdin is not None
            child.process.stdin.close()
    statuses = [child.process.wait(PATIENCE_SECONDS) for child, _, _ in children]

    assert time.monotonic() - began < EXIT_SECONDS + SLACK_SECONDS
    expected = [3 if last else -signal.SIGINT if how == "SIGINT" else 0 for _, how, last in children]
    assert statuses == expected, [child.stderr for child, _, _ in children]


def test_a_second_interrupt_ends_the_wait(start: Start, everything: Path, silent: str) -> None:
    # So long a bound that no busy machine takes the end of the wait for its bound.
    patient = "from opentelemetry_instrumentation_mcp.distro import flush; flush.EXIT_SECONDS = 300\n"
    # Exit functions run last in, first out: this one says that the distro's is next.
    say = "import atexit; atexit.register(lambda: print('waiting', flush=True))\n"
    child = start(
        patient + say + UNTIL_THE_END,
        interpreter=everything,
        OTEL_EXPORTER_OTLP_ENDPOINT=silent,
        OTEL_EXPORTER_OTLP_TIMEOUT="300",
        **AT_THE_END_ONLY,
        **SIGNALS,
    )
    wait_for_line(child)
    child.process.send_signal(signal.SIGINT)
    wait_for_line(child, 2)
    time.sleep(1)

    child.process.send_signal(signal.SIGINT)

    assert child.process.wait(PATIENCE_SECONDS) == -signal.SIGINT
    # That of the first one, which the application did not catch.
    assert child.stderr.count("Traceback") == 1
    assert "atexit" not in child.stderr


class _Slow(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(SLOW_SECONDS)
        cast(Any, self.server).answered.append(self.path)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def slow() -> Generator[tuple[str, list[str]]]:
    """A collector that takes its time; and the paths of what it answered."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    answered: list[str] = []
    server.answered = answered
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        yield f"http://127.0.0.1:{server.server_port}", answered


@pytest.mark.parametrize("how", ["EOF", "SIGTERM"])
def test_a_slow_collector_gets_every_signal_once(
    start: Start, everything: Path, slow: tuple[str, list[str]], how: str
) -> None:
    endpoint, answered = slow
    # A bound with room for one answer, and not for three of them one after the other; more than 1.5 seconds, since the
    # machine may be busy.
    patient = "from opentelemetry_instrumentation_mcp.distro import leaving; leaving.SECONDS = 5\n"
    child = start(
        patient + UNTIL_THE_END,
        interpreter=everything,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        **AT_THE_END_ONLY,
        **SIGNALS,
    )
    wait_for_line(child)

    assert end(child, how) == (0 if how == "EOF" else -signal.SIGTERM)
    assert Counter(answered) == {"/v1/traces": 1, "/v1/metrics": 1, "/v1/logs": 1}
    assert child.stderr == ""
