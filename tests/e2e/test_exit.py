"""A process ends as it would without its page: with that exit status, those bytes on stdout, and waiting for nobody.

What opens the page runs in a thread, and the end may come at any moment of that. Here another process of this user
seems to join a server for as long as a test likes, so that the end comes in the middle.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Child, Start, read
from .test_last_interval import BEATS, MESSAGES, READY, STDIO_SERVER, wait_for_line

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("EXIT_RUNS", "5"))
RUN_SECONDS = 100.0
"""Far more than a run takes, on a machine that has much else to do; one that hangs takes more."""

INITIALIZE = json.dumps({"jsonrpc": "2.0", **MESSAGES[0]}).encode() + b"\n"
NO_BOUNDS = "from opentelemetry_instrumentation_mcp.distro import workers; workers._JOIN_SECONDS = 600\n"
"""Whoever waits in vain does so until the test gives up."""

ENDINGS = {
    "EOF": "sys.stdin.read()",
    "SystemExit": "sys.stdin.read(); sys.exit(3)",
    "exception": "sys.stdin.read(); raise KeyError('mine')",
    "SIGINT": "sys.stdin.read()",
    "os._exit": "sys.stdin.read(); import os; os._exit(4)",
    "thread": "import threading, time\n"
    "def rest():\n"
    "    while threading.main_thread().is_alive(): time.sleep(0.01)\n"
    "threading.Thread(target=rest).start(); sys.stdin.read()",
}


@contextmanager
def somebody_joining(runtime: Path) -> Generator[None]:
    """Holds what each process of this user holds for a moment when it joins its server."""
    directory = runtime / "opentelemetry-distro-mcp"
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


def until(child: Child, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, child.stderr
        assert child.process.poll() is None, child.stderr
        time.sleep(0.02)


def is_opening(child: Child, runtime: Path) -> bool:
    """Whether the process has come to where it waits for the others that join."""
    lock = str(runtime / "opentelemetry-distro-mcp" / "lock")
    return lock in {file.path for file in psutil.Process(child.process.pid).open_files()}


def wait_while_opening(child: Child, runtime: Path) -> None:
    until(child, lambda: is_opening(child, runtime))


def run_once(command: list[str], environment: dict[str, str], directory: Path) -> tuple[int | str, bytes]:
    """The exit status and the output of one server that answers one request."""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(INITIALIZE, timeout=RUN_SECONDS)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return "still there", b""
        finally:
            # Not yet waited for, if it hangs.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(RUN_SECONDS + 20 * RUNS)
def test_servers_that_answer_one_request_end_like_their_twin(python: NewPython, tmp_path: Path) -> None:
    """EXIT_RUNS says how many; two at a time, so that the end comes at another moment of opening now and then."""
    interpreter = python()
    targets = tmp_path / "targets"
    bare = [str(interpreter), "-c", STDIO_SERVER]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(tmp_path), "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    with_file = {"OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR": str(targets)}

    def run(number: int) -> tuple[int | str, bytes]:
        command = [str(interpreter.with_name("opentelemetry-instrument")), *bare]
        return run_once(command, environment | (with_file if number % 2 else {}), tmp_path)

    expected = run_once(bare, environment, tmp_path)
    assert expected[0] == 0
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, range(RUNS)))

    assert [each for each in found if each != expected] == []
    assert not targets.exists() or not list(targets.iterdir())


@pytest.mark.parametrize("how", ["EOF", "SIGINT"])
def test_a_server_whose_client_leaves_while_the_page_is_being_opened(start: Start, tmp_path: Path, how: str) -> None:
    def serve(**options: Any) -> Child:
        child = start(NO_BOUNDS + STDIO_SERVER, PYTHONPATH=str(ROOT), **options)
        assert child.process.stdin is not None
        child.process.stdin.write(INITIALIZE)
        child.process.stdin.flush()
        wait_for_line(child)
        return child

    with somebody_joining(tmp_path):
        child, twin = serve(OTEL_EXPORTER_PROMETHEUS_PORT="0"), serve(launcher=False)
        wait_while_opening(child, tmp_path)
        end_alike(child, twin, how)

    # A traceback of the application's leads through our code as well.
    assert without_traceback(child.stderr) == without_traceback(twin.stderr)


def end_alike(child: Child, twin: Child, how: str) -> None:
    """End two processes, and assert that their exit statuses and outputs are equal."""
    for each in (child, twin) if how == "SIGINT" else ():
        each.process.send_signal(signal.SIGINT)
    assert child.finish() == twin.finish()
    assert child.stdout == twin.stdout


def without_traceback(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith(" ")]


@pytest.mark.parametrize(
    ("setting", "how"),
    [
        *(("alone", how) for how in ENDINGS),
        *((setting, "EOF") for setting in ("with OTLP", "with a target file", "with a taken port")),
        ("with a target file", "thread"),
    ],
)
def test_a_process_that_ends_while_the_page_is_being_opened(
    start: Start, python: NewPython, tmp_path: Path, taken_port: int, how: str, setting: str
) -> None:
    code = NO_BOUNDS + BEATS + READY + ENDINGS[how]
    targets = tmp_path / "targets"
    targets.mkdir()
    settings: dict[str, dict[str, Any]] = {
        "alone": {},
        "with OTLP": {
            "interpreter": python(without=[each for each in environments.OPTIONAL if each not in environments.HTTP]),
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            # Nobody listens there, and the exporter gives up at once.
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        },
        "with a target file": {"OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR": str(targets)},
        "with a taken port": {"OTEL_EXPORTER_PROMETHEUS_PORT": str(taken_port)},
    }
    options = {"OTEL_EXPORTER_PROMETHEUS_PORT": "0", **settings[setting]}
    twin = start(code, launcher=False)

    with somebody_joining(tmp_path):
        child = start(code, **options)
        wait_for_line(child)
        wait_for_line(twin)
        wait_while_opening(child, tmp_path)
        end_alike(child, twin, how)

    assert list(targets.iterdir()) == []
    if setting != "with OTLP":
        assert without_traceback(child.stderr) == without_traceback(twin.stderr)


def test_the_end_does_not_wait_for_others_that_join(start: Start, tmp_path: Path, free_port: int) -> None:
    child = start(NO_BOUNDS + BEATS + READY + ENDINGS["EOF"], OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    child.scrape(f"http://localhost:{free_port}/metrics")
    with somebody_joining(tmp_path):
        assert child.finish() == 0

    assert child.stderr == ""


LATE = {
    "in an exit function": "import atexit; atexit.register(counter.add, 1)",
    # Beside it, the interpreter has begun to end: from 3.12 on, no thread can be started any more.
    "in a thread": "import threading, time\n"
    "def rest():\n"
    "    while threading.main_thread().is_alive(): time.sleep(0.01)\n"
    "    counter.add(1); time.sleep(0.5)\n"
    "threading.Thread(target=rest).start()",
}


@pytest.mark.parametrize("where", LATE)
def test_a_first_measurement_at_the_end_opens_no_page_that_stays(start: Start, tmp_path: Path, where: str) -> None:
    code = "from opentelemetry import metrics; counter = metrics.get_meter('child').create_counter('child.beats')\n"
    sd_dir = {"OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR": str(tmp_path / "targets")}
    child = start(code + LATE[where], OTEL_EXPORTER_PROMETHEUS_PORT="0", **sd_dir)

    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"", "")
    assert not list(tmp_path.glob("targets/*"))
    assert not list(tmp_path.glob("opentelemetry-distro-mcp/*/*"))


# As on Python 3.14, which calls the exit functions that there were in the beginning, whatever is taken out meanwhile.
ALL_OF_THEM = """
import atexit
import opentelemetry.sdk.metrics._internal as sdk
from opentelemetry import metrics
def begin(): atexit.unregister = sdk.unregister = lambda function: None
atexit.register(begin)
metrics.get_meter("child").create_counter("child.beats").add(1)
"""


def test_metrics_are_shut_down_once_where_exit_functions_stay(start: Start, tmp_path: Path) -> None:
    targets = str(tmp_path / "targets")
    child = start(ALL_OF_THEM, OTEL_EXPORTER_PROMETHEUS_PORT="0", OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR=targets)

    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"", "")


# The first scrape hangs in the application's gauge; so would the one that the worker makes at its end.
HANGING_WORKER = """
import multiprocessing, signal, sys, time
from opentelemetry import metrics
from opentelemetry.metrics import Observation
calls = []
def observe(_):
    calls.append(1)
    if len(calls) > 1:
        time.sleep(600)
    return [Observation(1)]
def work():
    metrics.get_meter("child").create_observable_gauge("child.beats.total", [observe])
    while True:
        time.sleep(0.1)
        if sys.stdin.read(1) == "":
            # As a worker that ends in good order does.
            metrics.get_meter_provider().shutdown()
            return
if __name__ == "__main__":
    import os
    pid = os.fork()
    if pid == 0:
        work()
    else:
        os.waitpid(pid, 0)
"""


def test_a_worker_whose_collection_hangs_ends(start: Start, free_port: int) -> None:
    child = start(HANGING_WORKER, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    assert "child_beats_total" in child.scrape(f"http://localhost:{free_port}/metrics")
    assert child.finish() == 0


def test_a_target_file_that_is_late_is_not_left_behind(start: Start, tmp_path: Path) -> None:
    """SIGTERM comes while the file is being written, and the process is killed before the file is in place."""
    targets = tmp_path / "targets"
    code = (
        "import os, time\n"
        "replace = os.replace\n"
        "def late(*arguments): time.sleep(1); replace(*arguments)\n"
        "os.replace = late\n" + BEATS + READY + "time.sleep(600)"
    )
    sd_dir = {"OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR": str(targets)}
    child = start(code, OTEL_EXPORTER_PROMETHEUS_PORT="0", **sd_dir)
    until(child, lambda: list(targets.glob("*.tmp")))
    child.process.send_signal(signal.SIGTERM)

    assert child.process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    assert list(targets.iterdir()) == []


def test_an_ended_server_leaves_no_thread_that_answers(start: Start, free_port: int) -> None:
    """The provider is shut down long before the process ends: the port is free at once."""
    code = (
        BEATS + READY + "sys.stdin.readline(); metrics.get_meter_provider().shutdown()\n"
        "print('closed', flush=True); sys.stdin.read()"
    )
    child = start(code, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    child.scrape(f"http://localhost:{free_port}/metrics")
    assert child.process.stdin is not None
    child.process.stdin.write(b"\n")
    child.process.stdin.flush()
    wait_for_line(child, 2)

    with pytest.raises(OSError, match="refused"):
        read(f"http://localhost:{free_port}/metrics")
    assert child.finish() == 0
