"""stdio servers: what is on their stdout, and a dozen of them with one configuration."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Child, Start, read
from .test_last_interval import STDIO_SERVER, use_stdio

ROOT = Path(__file__).parents[2]
SIGNALS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
CONSOLE = {
    "PYTHONPATH": str(ROOT),
    "OTEL_METRIC_EXPORT_INTERVAL": "100",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
    **dict.fromkeys(SIGNALS, "console"),
}


def is_message(line: str) -> bool:
    try:
        return json.loads(line)["jsonrpc"] == "2.0"
    except (ValueError, KeyError, TypeError):
        return False


def served(child: Child) -> bytes:
    """Everything that was on the stdout of a server that was used until its client left."""
    use_stdio(child)
    assert child.finish() == 0
    return child.stdout


def test_console_exporters_leave_every_byte_of_stdout_to_the_protocol(start: Start) -> None:
    server = start(STDIO_SERVER, **CONSOLE)
    twin = start(STDIO_SERVER, launcher=False, **CONSOLE)

    assert served(server) == served(twin)
    assert '"name": "mcp.requests.total"' in server.stderr
    # Of 2.x' spans and of the SDK's logs alike.
    assert "trace_id" in server.stderr


def test_a_foreign_configurator_with_a_console_exporter_gets_one_warning(start: Start, python: NewPython) -> None:
    stock = [name for name in environments.OPTIONAL if name != environments.STOCK]
    chosen = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}
    server = start(STDIO_SERVER, interpreter=python(without=stock), **CONSOLE, **chosen)
    use_stdio(server)
    assert server.finish() == 0

    [line] = [line for line in server.stderr.splitlines() if "this stdio server's channel" in line]
    assert line.startswith(f"{', '.join(SIGNALS)}: console writes to stdout, ")
    # What it warns of has happened; were it not so, the test of ours would prove nothing.
    assert not all(is_message(line) for line in server.stdout.decode().splitlines())


def announced(servers: list[Child]) -> list[str]:
    """Where the metrics are of those servers that say that they are not at the configured port."""
    lines = [line for server in servers for line in server.stderr.splitlines()]
    return [line.split()[-1] for line in lines if "the metrics of this process are at" in line]


def test_ten_servers_with_one_port_all_serve_their_metrics(start: Start, free_port: int) -> None:
    settings: dict[str, Any] = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port), "PYTHONPATH": str(ROOT)}
    servers = [start(STDIO_SERVER, **settings) for _ in range(10)]

    for server in servers:
        use_stdio(server)
    # A thread opens the port, so the line can come after the answers.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(announced(servers)) < 9 and time.monotonic() < deadline:
        time.sleep(0.05)
    urls = [f"http://localhost:{free_port}/metrics", *announced(servers)]
    assert len(set(urls)) == 10
    for url in urls:
        counted = [line for line in read(url).splitlines() if line.startswith("mcp_requests_total{")]
        assert len([line for line in counted if 'gen_ai_tool_name="ok"' in line and line.endswith(" 3.0")]) == 1
