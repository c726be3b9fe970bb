"""Servers with several workers: what the configured port shows is the whole server's, whoever dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..sdk.generation import V2
from .processes import PATIENCE_SECONDS, Child, Launch, Start, read
from .receiver import Receiver

ROOT = Path(__file__).parents[2]

STARTS_SECONDS = 3 * PATIENCE_SECONDS
"""How long workers that start one after the other may take, each of which imports everything."""
PING_SECONDS = 20
"""How long uvicorn waits for the answer of a worker, also of one that was killed after it was asked."""
REPLACED_SECONDS = PING_SECONDS + STARTS_SECONDS / 2

# Each exchange stands alone, so that any worker can answer any call.
APPLICATION = """
import os
from tests.sdk import example
from tests.sdk.generation import V2

async def pid() -> str:
    return f"pid={os.getpid()}."

settings = {"stateless_http": True, "json_response": True}
server = example.build(**({} if V2 else settings))
server.add_tool(pid)
app = server.streamable_http_app(**settings) if V2 else server.streamable_http_app()
"""
# A supervisor that starts two workers, which count something; they end with it.
SUPERVISOR = """
import multiprocessing, sys, time
from opentelemetry import metrics
def count(number, seconds=600):
    metrics.get_meter("m").create_counter("mcp.requests").add(number, {"gen_ai.tool.name": "pid"})
    time.sleep(seconds)
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    for number in (1000, 2000):
        context.Process(target=count, args=(number,), daemon=True).start()
    sys.stdin.read()
"""
# Its workers count more when it gets a line, and leave. Then it shows something itself.
LEAVING = """
import multiprocessing, sys, time
from opentelemetry import metrics
fork = multiprocessing.get_context("fork")
go_on, counted = fork.Event(), fork.Semaphore(0)
def count(number):
    metrics.get_meter("m").create_counter("mcp.requests").add(number)
def work(number):
    count(number)
    go_on.wait()
    count(number)
    counted.release()
    END
children = [fork.Process(target=work, args=(number,)) for number in (1000, 2000)]
for child in children:
    child.start()
sys.stdin.readline()
go_on.set()
for child in children:
    counted.acquire()
for child in children:
    child.terminate() if "END" != "pass" else None
    child.join()
    assert child.exitcode == (0 if "END" == "pass" else -15)
count(1)
sys.stdin.read()
"""
# A parent that has used MCP itself and forks with a session open, values not yet collected and threads at work.
PRELOADED = """
import multiprocessing, sys, threading, time
import anyio
from opentelemetry import metrics
from tests.sdk import setups
memory = setups.SETUPS[0]
async def use(times, between=lambda: None):
    async with setups.connect(memory) as link:
        for _ in range(times):
            await link.session.call_tool("ok", {})
        between()
def child():
    # Where sniffio is installed, as trio does, this thread counts as one that runs a loop: it did when it was forked.
    running = threading.Thread(target=anyio.run, args=(use, 5))
    running.start()
    running.join()
    time.sleep(600)
fork = multiprocessing.get_context("fork")
children = [fork.Process(target=child, daemon=True) for _ in range(2)]
anyio.run(use, 7, lambda: [child.start() for child in children])
sys.stdin.read()
"""
# A web application whose threads use MCP, as a client and as a server.
THREADED = """
import os, anyio
from tests.sdk import setups
async def use():
    async with setups.connect(setups.SETUPS[0]) as link:
        await link.session.call_tool("ok", {})
def app(environ, start_response):
    anyio.run(use)
    start_response("200 OK", [("content-type", "text/plain")])
    return [f"pid={os.getpid()}.".encode()]
"""
once = pytest.mark.skipif(not V2, reason="how a worker ends has nothing to do with the generation of the SDK")

THREADS = "gunicorn -k gthread --threads 2"
KINDS = ["gunicorn", "gunicorn --preload", THREADS, "uvicorn", "hypercorn", "granian"]
IN_CODE = """
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
"""


class Server:
    """A server with workers and its metrics page."""

    def __init__(self, child: Child, port: int, metrics_url: str) -> None:
        self.child = child
        self.supervisor = psutil.Process(child.process.pid)
        self._port = port
        self.metrics_url = metrics_url
        self.page = ""
        self.answered: Counter[int] = Counter()
        """Who has answered how many calls."""
        self._last: dict[tuple[tuple[str, str], ...], float] = {}

    def call(self, times: int) -> Counter[int]:
        """Calls a tool; returns who answered how often."""
        answered: Counter[int] = Counter()
        body: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pid"}}
        headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/mcp", json.dumps(body).encode(), headers)
        for _ in range(times):
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                answered[int(response.read().decode().split("pid=")[1].split(".")[0])] += 1
        self.answered += answered
        return answered

    def scrape(self, tool: str = "pid") -> float:
        """The sum of all requests; none of the series may ever fall or go away."""
        self.page = read(self.metrics_url)
        series = {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.page)
            for sample in family.samples
            if sample.name == "mcp_requests_total" and sample.labels["gen_ai_tool_name"] == tool
        }
        for labels, value in self._last.items():
            assert series[labels] >= value, labels
        self._last = series
        return sum(series.values())

    def scrape_until(self, value: float) -> float:
        """The sum of all requests when it has come to this value, or what it is after a while."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        shown = -1.0
        while time.monotonic() < deadline and shown != value:
            try:
                shown = self.scrape()
            except (OSError, KeyError):
                time.sleep(0.1)
        return shown

    def shown(self, page: str | None = None) -> set[str]:
        """The workers that answer: those that have gauges on the page, which is read anew without one."""
        families = text_string_to_metric_families(read(self.metrics_url) if page is None else page)
        return {
            sample.labels["worker"]
            for family in families
            for sample in family.samples
            if sample.name == "mcp_memory_usage_bytes"
        }

    def workers(self) -> set[int]:
        """The processes the supervisor has started, without the helper of ``multiprocessing``."""
        children = self.supervisor.children()
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return {child.pid for child in alive if "resource_tracker" not in " ".join(child.cmdline())}

    def listener(self) -> int:
        """The process that listens at the metrics port."""
        port = int(self.metrics_url.split(":")[2].split("/")[0])
        processes = [self.supervisor, *self.supervisor.children(recursive=True)]
        [pid] = [
            process.pid
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1] == port
        ]
        return pid

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
        """Waits for a condition; what cannot answer now may be on the way."""
        self.until_equal(condition, True, patience)

    def until_equal(self, look: Callable[[], object], expected: object, patience: float = PATIENCE_SECONDS) -> None:
        """Waits until what is seen is what is expected."""
        deadline = time.monotonic() + patience
        reason = ""
        while time.monotonic() < deadline:
            assert self.child.process.poll() is None, self.child.stderr
            try:
                if (seen := look()) == expected:
                    return
                reason = f"{seen} is not {expected}"
            except (urllib.error.URLError, ConnectionError, ValueError, psutil.Error) as error:
                reason = repr(error)
            time.sleep(0.05)
        pytest.fail(f"{reason}; stderr: {self.child.stderr}")


@pytest.fixture
def serve(launch: Launch, tmp_path: Path, free_ports: list[int]) -> Callable[..., Server]:
    """Starts a server and waits for all its workers."""
    port, metrics_port, _ = free_ports

    def serve_one(
        kind: str,
        workers: int = 3,
        application: str = APPLICATION,
        launcher: bool = True,
        is_up: Callable[[Server], bool] | None = None,
        **variables: Any,
    ) -> Server:
        program, *options = kind.split()
        if find_spec(program) is None:
            reason = f"{program} is not installed"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
        (tmp_path / "app.py").write_text(application)
        command = {
            # On a busy machine a worker is not ready within its default of five seconds, and not renewed then.
            "uvicorn": ["--port", str(port), "--log-level", "error", "--timeout-worker-healthcheck", str(PING_SECONDS)],
            "gunicorn": ["--bind", f"127.0.0.1:{port}"],
            "hypercorn": ["--bind", f"127.0.0.1:{port}", "--log-level", "error"],
            "granian": ["--host", "127.0.0.1", "--port", str(port), "--interface", "asgi", "--log-level", "error"],
        }[program]
        if program == "gunicorn" and "-k" not in options:
            command += ["-k", "uvicorn_worker.UvicornWorker"]
        starter = ["-m", program]
        if program == "gunicorn":
            # As installed: it starts itself again as it was started.
            script = tmp_path / "start.py"
            script.write_text("from gunicorn.app.wsgiapp import run\nrun()\n")
            starter = [str(script)]
        child = launch(
            *starter,
            *command,
            *options,
            "--workers",
            str(workers),
            "app:app",
            launcher=launcher,
            **{
                "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics_port),
                **variables,
            },
        )
        server = Server(child, port, f"http://localhost:{metrics_port}/metrics")
        if is_up is None:
            server.until(lambda: server.shown() == {str(number) for number in range(workers)}, STARTS_SECONDS)
        else:
            server.until(lambda: is_up(server), STARTS_SECONDS)
        return server

    return serve_one


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn", "gunicorn --preload"])
def test_the_port_shows_the_whole_server_while_workers_die_and_are_replaced(
    serve: Callable[..., Server], kind: str
) -> None:
    server = serve(kind)
    answered = server.call(30)
    assert server.scrape() == 30
    assert server.listener() in server.workers(), "a worker listens, never the supervisor"

    # The one that listens, and then one that does not: what a scrape has seen of them is not lost.
    for is_listener in (True, False):
        listener = server.listener()
        victim = listener if is_listener else next(pid for pid in server.workers() if pid != listener)
        os.kill(victim, signal.SIGKILL)
        server.call(30)
        server.until(lambda gone=victim: gone not in server.workers() and len(server.shown()) == 3, REPLACED_SECONDS)
        assert server.shown() == {"0", "1", "2"}
        assert server.scrape() == (60 if is_listener else 90)

    # What a worker has counted since the last scrape dies with it, and nothing else.
    answered = server.call(30)
    victim = server.listener()
    os.kill(victim, signal.SIGKILL)
    server.until(lambda: victim not in server.workers() and len(server.shown()) == 3, REPLACED_SECONDS)
    assert server.scrape() == 120 - answered[victim]
    assert server.child.stdout == b""


def test_workers_that_are_set_up_in_code_find_each_other(serve: Callable[..., Server]) -> None:
    server = serve("gunicorn", workers=2, application=IN_CODE + APPLICATION, launcher=False)
    server.call(10)
    assert server.scrape() == 10
    assert server.shown() == {"0", "1"}


def test_a_worker_that_hangs_is_there_with_what_it_has_counted(serve: Callable[..., Server]) -> None:
    server = serve("gunicorn", workers=2)
    server.call(10)
    assert server.scrape() == 10
    [other] = server.workers() - {server.listener()}
    os.kill(other, signal.SIGSTOP)
    try:
        assert server.scrape() == 10
        assert len(server.shown(server.page)) == 1
    finally:
        os.kill(other, signal.SIGCONT)
    assert "did not answer a scrape" in server.child.stderr
    assert server.scrape() == 10
    assert len(server.shown(server.page)) == 2


def test_a_second_server_with_the_same_settings_is_not_merged_with_the_first(
    serve: Callable[..., Server], start: Start, free_ports: list[int]
) -> None:
    server = serve("gunicorn --preload", workers=2)
    server.call(10)
    other = start(SUPERVISOR, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_ports[1]))
    url = other.announced_url()

    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and Server(other, 0, url).scrape() != 3000:
        time.sleep(0.05)
    assert Server(other, 0, url).scrape() == 3000
    assert server.scrape() == 10
    [line] = other.stderr.splitlines()
    assert "the metrics of this server are at" in line


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_the_children_of_a_process_are_its_workers_however_they_are_started(
    launch: Launch, tmp_path: Path, free_port: int, method: str
) -> None:
    script = tmp_path / "supervisor.py"
    counts_too = "    count(500, 0)\n    sys.stdin.read()"
    script.write_text(SUPERVISOR.replace('"fork"', repr(method)).replace("    sys.stdin.read()", counts_too))
    child = launch(str(script), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    shown: dict[str | None, float] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and len(shown) < 3:
        for family in text_string_to_metric_families(
            child.scrape(f"http://localhost:{free_port}/metrics", "mcp_requests_total")
        ):
            shown |= {s.labels.get("worker"): s.value for s in family.samples if s.name == "mcp_requests_total"}

    assert shown.keys() == {None, "0", "1"}
    assert shown[None] == 500
    assert sum(shown.values()) == 3500
    assert child.stderr == ""


def test_a_forked_child_does_not_repeat_what_its_parent_has_counted(start: Start, free_port: int) -> None:
    child = start(PRELOADED, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), PYTHONPATH=str(ROOT))
    url = f"http://localhost:{free_port}/metrics"
    calls: dict[str | None, float] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and sorted(calls.values()) != [5, 5, 7]:
        page = child.scrape(url, "mcp_requests_total")
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                worker = sample.labels.get("worker")
                labels = (sample.name, sample.labels.get("gen_ai_tool_name"), sample.labels.get("status"))
                if labels == ("mcp_requests_total", "ok", "ok") and sample.labels["mcp_role"] == "server":
                    calls[worker] = sample.value

    assert calls == {None: 7, "0": 5, "1": 5}
    assert "a metric was lost" not in child.stderr
    assert "a forked process" not in child.stderr


def test_a_process_that_only_prepares_a_server_does_not_listen(start: Start, free_port: int) -> None:
    code = (
        "import sys, threading, time\n"
        "from tests.sdk import example, setups\n"
        "setups.http_app(example.build(), setups.HANDSHAKE[3]); setups.http_app(example.build(), setups.HANDSHAKE[2])\n"
        "time.sleep(1); print([thread.name for thread in threading.enumerate()])\n"
    )
    child = start(code, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), PYTHONPATH=str(ROOT))

    assert child.finish() == 0
    assert child.stdout == b"['MainThread']\n"


def test_workers_that_cannot_meet_say_so_and_serve_their_own_metrics(
    start: Start, tmp_path: Path, free_port: int
) -> None:
    # Neither place can be trusted: somebody has put links there.
    for name in ("opentelemetry-distro-mcp", f"opentelemetry-distro-mcp-{os.geteuid()}"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    other = start(SUPERVISOR, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), TMPDIR=str(tmp_path))

    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and len(other.stderr.splitlines()) < 3:
        time.sleep(0.05)
    lines = other.stderr.splitlines()
    assert len([line for line in lines if "the workers of this server cannot find each other (" in line]) == 2
    [url] = [line.split()[-1] for line in lines if "the metrics of this process are at" in line]
    assert Server(other, 0, url).scrape() + Server(other, 0, f"http://localhost:{free_port}/metrics").scrape() == 3000


def started(serve: Callable[..., Server], kind: str, **options: Any) -> Server:
    """Two workers, each of which has answered a call."""
    if kind == THREADS:
        options["application"] = THREADED

    def both(server: Server) -> bool:
        server.call(1)
        return len(server.answered) == 2

    return serve(kind, workers=2, is_up=both, **options)


def requests(server: Server, kind: str) -> int:
    """How many there were; of a client and of a server in one process they are two for each call."""
    return server.answered.total() * (2 if kind == THREADS else 1)


def tool(kind: str) -> str:
    return "ok" if kind == THREADS else "pid"


def assert_shows_all(server: Server, kind: str) -> None:
    """The page shows all requests, as soon as everybody who counted some is on it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    shown = 0.0
    while time.monotonic() < deadline and shown < requests(server, kind):
        try:
            shown = server.scrape(tool(kind))
        except OSError:
            time.sleep(0.1)
    assert shown == requests(server, kind), (server.page, server.child.stderr)


def gone(pids: set[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


@once
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_renews_its_workers_shows_every_call(serve: Callable[..., Server], kind: str) -> None:
    server = started(serve, kind)
    server.call(40)
    assert_shows_all(server, kind)

    # Nobody scrapes from here on until there are others.
    before = server.workers()
    server.call(40)
    server.supervisor.send_signal(signal.SIGHUP)
    server.until(lambda: gone(before) and len(server.workers()) == 2, STARTS_SECONDS)
    server.call(20)
    assert_shows_all(server, kind)


@once
@pytest.mark.parametrize(
    ("kind", "how"), [("gunicorn", "SIGINT"), ("gunicorn", "SIGTERM"), (THREADS, "SIGQUIT"), ("uvicorn", "SIGTERM")]
)
def test_a_worker_that_is_told_to_leave_takes_nothing_with_it(
    serve: Callable[..., Server], kind: str, how: str
) -> None:
    server = started(serve, kind)
    server.call(20)
    # Nobody has scraped yet.
    before = server.workers()
    for pid in before:
        os.kill(pid, getattr(signal, how))
    server.until(lambda: gone(before) and len(server.workers()) == 2, STARTS_SECONDS)
    server.call(10)
    assert_shows_all(server, kind)


@once
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_stopped_exports_every_call_and_leaves_no_target_file(
    serve: Callable[..., Server], receiver: Receiver, otlp: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    del otlp["PYTHONPATH"]
    otlp["OTEL_METRICS_EXPORTER"] = "otlp,prometheus"
    # Everything adds up then, whoever sends it and however often.
    otlp["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"] = "delta"
    targets = tmp_path / "targets"
    server = started(serve, kind, OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR=str(targets), **otlp)
    server.call(20)
    server.until(lambda: len(list(targets.iterdir())) == 1)
    server.child.process.terminate()
    server.child.process.wait(PATIENCE_SECONDS)

    exported = receiver.points().sum("mcp.requests.total", {"gen_ai.tool.name": tool(kind)})
    assert exported == requests(server, kind), server.child.stderr
    assert list(targets.iterdir()) == []


# Whether they come to their end by themselves or are ended. Python runs no handler for a signal that comes in the
# instant before a long sleep until that is over.
@pytest.mark.parametrize("ending", ["pass", "for _ in range(6000): time.sleep(0.1)"], ids=["alone", "SIGTERM"])
def test_children_of_multiprocessing_keep_what_they_have_counted(start: Start, free_port: int, ending: str) -> None:
    child = start(LEAVING.replace("END", ending), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    assert child.process.stdin is not None

    def counted() -> list[float]:
        families = text_string_to_metric_families(read(f"http://localhost:{free_port}/metrics"))
        return sorted(each.value for family in families for each in family.samples if each.name == "mcp_requests_total")

    server = Server(child, 0, "")
    server.until_equal(counted, [1000, 2000])
    child.process.stdin.write(b"\n")
    child.process.stdin.flush()
    server.until_equal(counted, [1, 2000, 4000])


def test_a_new_master_has_the_configured_port_when_the_old_one_is_gone(serve: Callable[..., Server]) -> None:
    server = serve("gunicorn", workers=1)

    def masters() -> list[int]:
        return [int(pid) for pid in re.findall(r"\[(\d+)\] \[INFO\] Starting gunicorn", server.child.stderr)]

    [old] = masters()
    os.kill(old, signal.SIGUSR2)
    try:
        server.until(lambda: "the metrics of this server are at" in server.child.stderr, STARTS_SECONDS)
        [moved] = [line for line in server.child.stderr.splitlines() if "the metrics of this server are at" in line]
        assert "cannot listen on" in moved
        # Both in the end: the configured port, and the one of the time between.
        pages = [Server(server.child, 0, url) for url in (server.metrics_url, moved.split()[-1])]

        os.kill(old, signal.SIGTERM)
        server.child.process.wait(PATIENCE_SECONDS)
        server.answered.clear()
        server.call(10)
        assert [page.scrape_until(10) for page in pages] == [10, 10]
        [back] = [line for line in server.child.stderr.splitlines() if "the configured port is free" in line]
        assert server.metrics_url in back
    finally:
        # It has no parent any more that would end it.
        for new in set(masters()) - {old}:
            os.kill(new, signal.SIGTERM)


def test_a_leader_that_hangs_has_the_page_until_it_goes_on_or_dies(serve: Callable[..., Server]) -> None:
    server = serve("gunicorn", workers=2)
    server.call(10)
    assert server.scrape() == 10
    listener = server.listener()
    os.kill(listener, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            server.scrape()
    finally:
        os.kill(listener, signal.SIGCONT)
    server.until(lambda: server.scrape() == 10)

    os.kill(listener, signal.SIGSTOP)
    # As gunicorn does after its timeout.
    os.kill(listener, signal.SIGKILL)
    server.until(lambda: server.listener() != listener)
    server.until(lambda: server.scrape() == 10)
