"""Many stdio servers on one machine with one configuration, and one Prometheus that finds them all."""

from __future__ import annotations

import json
import os
import signal
import time
from importlib import import_module
from pathlib import Path

import anyio
import pytest

from ..sdk import setups
from ..sdk.generation import StdioServerParameters, stdio_client
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Start, read
from .prometheus import prometheus, query
from .test_scrape import wait_for_http

ROOT = Path(__file__).parents[2]
SD_DIR = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR"
SERVERS = 10
COUNT = "from opentelemetry import metrics; metrics.get_meter('child').create_counter('child.beats').add(3)\n"
UNTIL_STDIN_CLOSES = "import sys; sys.stdin.read()\n"


def test_one_prometheus_finds_ten_servers_and_counts_all_their_calls(
    tmp_path: Path, python: NewPython, free_ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = python()
    metrics_port, prometheus_port, _ = free_ports
    targets = tmp_path / "targets"
    targets.mkdir()
    # The client kills a server that takes longer to end than this; ten at once on a busy machine do.
    monkeypatch.setattr(import_module("mcp.client.stdio"), "PROCESS_TERMINATION_TIMEOUT", PATIENCE_SECONDS)
    parameters = StdioServerParameters(
        command=str(interpreter.with_name("opentelemetry-instrument")),
        args=[str(interpreter), "-c", "from tests.sdk import example; example.build().run('stdio')"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(tmp_path),
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics_port),
            SD_DIR: str(targets),
        },
    )
    calls = "sum(mcp_requests_total{mcp_method_name='tools/call'})"
    expected = float(sum(range(1, SERVERS + 1)))
    answers: dict[str, float | None] = {}

    async def use(number: int, seen: anyio.Event) -> None:
        async with setups.client_over(stdio_client(parameters)) as session:
            for _ in range(number):
                await session.call_tool("ok", {})
            await seen.wait()

    async def scenario(base: str) -> None:
        seen = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for number in range(1, SERVERS + 1):
                tasks.start_soon(use, number, seen)
            with anyio.move_on_after(2 * PATIENCE_SECONDS):
                while answers.get("calls") != expected:
                    await anyio.sleep(0.25)
                    answers["calls"] = await anyio.to_thread.run_sync(query, base, calls)
            answers["servers"] = query(base, f"count(count by (pid) ({calls[4:-1]}))")
            answers["up"] = query(base, "sum(up{service='python'})")
            seen.set()

    discovery = [{"files": [str(targets / "*.json")], "refresh_interval": "1s"}]
    with prometheus(tmp_path, prometheus_port, file_sd_configs=discovery) as base:
        anyio.run(scenario, base)

    assert answers == {"calls": expected, "servers": SERVERS, "up": SERVERS}
    assert list(targets.iterdir()) == []


def until_there_is_one(directory: Path) -> Path:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        files = [path for path in directory.glob("*") if path.suffix == ".json"]
        if files:
            return files[0]
        time.sleep(0.02)
    pytest.fail("no target file")


def test_the_file_says_where_a_server_is_and_what_it_is_called(start: Start, tmp_path: Path, taken_port: int) -> None:
    directory = tmp_path / "not yet" / "there"
    variables = {SD_DIR: str(directory), "OTEL_SERVICE_NAME": "weather / north"}
    child = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port), **variables)

    url = child.announced_url()
    file = until_there_is_one(directory)
    [group] = json.loads(file.read_text())
    assert group["labels"] == {"service": "weather / north", "pid": str(child.process.pid)}
    [target] = group["targets"]
    assert target.startswith("127.0.0.1:")
    assert url == f"http://localhost:{target.split(':')[1]}/metrics"
    assert "child_beats_total" in read(f"http://{target}/metrics")
    # Prometheus may be another user.
    assert file.stat().st_mode & 0o777 == 0o644 & ~umask()
    assert child.finish() == 0
    assert not list(directory.iterdir())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


UVICORN = """
import uvicorn
from tests.sdk import example, setups
uvicorn.run(setups.http_app(example.build(), setups.HANDSHAKE[3]), port=PORT, log_level="critical")
"""


@pytest.mark.parametrize("server", ["script", "uvicorn"])
def test_the_file_is_removed_on_sigterm_and_the_exit_status_is_the_signals(
    start: Start, tmp_path: Path, free_ports: list[int], server: str
) -> None:
    directory = tmp_path / "targets"
    code = COUNT + UNTIL_STDIN_CLOSES if server == "script" else UVICORN.replace("PORT", str(free_ports[0]))
    variables = {SD_DIR: str(directory), "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    child = start(code, **variables)

    until_there_is_one(directory)
    if server == "uvicorn":
        wait_for_http(free_ports[0])
    child.process.terminate()
    assert child.finish() == -signal.SIGTERM
    assert not list(directory.iterdir())


def test_a_port_of_the_systems_choice_needs_no_words_where_a_file_tells_it(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "targets"
    child = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_EXPORTER_PROMETHEUS_PORT="0", **{SD_DIR: str(directory)})

    until_there_is_one(directory)
    assert child.finish() == 0
    assert child.stderr == ""


def test_the_files_of_the_dead_are_swept_and_nothing_else_is(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "targets"
    variables = {SD_DIR: str(directory), "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    dead = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_SERVICE_NAME="dead", **variables)
    stale = until_there_is_one(directory)
    living = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_SERVICE_NAME="living", **variables)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(list(directory.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    (directory / "hand-written.json").write_text("[]")
    # Another one that is just being written, and one whose writer died over it.
    (directory / "opentelemetry-mcp-new.json.tmp").touch()
    (directory / "opentelemetry-mcp-old.json.tmp").touch()
    os.utime(directory / "opentelemetry-mcp-old.json.tmp", (0, 0))
    assert stale.exists(), "its process lives"
    dead.process.kill()
    dead.process.wait()
    assert stale.exists()

    another = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_SERVICE_NAME="another", **variables)
    names: set[str] = set()
    while time.monotonic() < deadline and "another" not in names:
        names = {path.name.removeprefix("opentelemetry-mcp-").split("-")[0] for path in directory.glob("*.json")}
        time.sleep(0.02)
    assert names == {"living", "another", "hand"}
    assert (living.finish(), another.finish()) == (0, 0)
    left = {path.name for path in directory.iterdir()}
    assert left == {"hand-written.json", "opentelemetry-mcp-new.json.tmp"}


def test_a_directory_that_cannot_be_written_to_costs_one_line(start: Start, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "file").touch()
    variables = {SD_DIR: str(tmp_path / "file" / "targets")}
    child = start(COUNT + UNTIL_STDIN_CLOSES, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), **variables)

    assert child.announced_url() == f"http://localhost:{free_port}/metrics"
    assert child.finish() == 0
    [line] = child.stderr.splitlines()
    assert line.startswith(f"{SD_DIR}: cannot write to '{tmp_path}/file/targets' (")
