"""Runs the example servers and clients under opentelemetry-instrument, then shows what their metrics pages say.

`make demo` prepares an environment and runs this in it. With KEEP=1 everything goes on running until Ctrl-C, and where
Prometheus is installed it looks on.
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from monitoring import Monitoring
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).resolve().parent
LOOPBACK = "127.0.0.1"
TRAFFIC_SECONDS = 15
START_SECONDS = 60  # a first start on a slow machine has a lot of Python to compile

# The pages are on this machine: a proxy that the shell has set up must not be asked for them.
fetch = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class DemoError(Exception):
    """Something to tell the user, without a traceback."""


class Stopped(Exception):
    """A signal asked the demo to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


# --- Metrics pages ----------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class Page:
    """The metrics page of one process."""

    def __init__(self, title: str, port: int) -> None:
        self.title = title
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}/metrics"
        self.text = ""
        self.samples: list[Sample] = []

    def answers(self) -> bool:
        try:
            with fetch(self.url, timeout=5) as response:
                self.text = response.read().decode()
        except OSError:
            return False
        return True

    def scrape(self) -> None:
        if not self.answers():
            raise DemoError(f"the {self.title} shows no metrics page at {self.url}")
        self.samples = [
            Sample(sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name.startswith("mcp_")
        ]
        if not self.samples:
            raise DemoError(f"the page of the {self.title}, {self.url}, has no mcp_ metrics")

    def select(self, name: str, **labels: str) -> Iterator[Sample]:
        return (s for s in self.samples if s.name == name and labels.items() <= s.labels.items())

    def total(self, name: str, **labels: str) -> int:
        return int(sum(sample.value for sample in self.select(name, **labels)))

    def quantile(self, q: float, name: str, **labels: str) -> float:
        """What Prometheus' histogram_quantile() says: linear within the bucket that holds the quantile."""
        buckets: defaultdict[float, float] = defaultdict(float)
        for sample in self.select(f"{name}_bucket", **labels):
            buckets[float(sample.labels["le"])] += sample.value
        rank = q * buckets[math.inf]
        lower, below = 0.0, 0.0
        for upper, count in sorted(buckets.items()):
            if count >= rank > 0:
                # Nobody knows how far beyond the last bound the values lie.
                return lower if upper == math.inf else lower + (upper - lower) * (rank - below) / (count - below)
            lower, below = upper, count
        return math.nan


# --- Processes --------------------------------------------------------------------------------------------------------


class Processes:
    """Starts processes, each in a group of its own, and ends all of them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop_signal = 0
        # Signals only leave a note, so that none can strike between a start and its entry in the table above. Handling
        # SIGINT also matters where the shell has it ignored (`make demo &`): the children would ignore it as well.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._note_signal)

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._stop_signal = signum

    def start(self, title: str, *command: str, **environment: str) -> None:
        # OTEL_* of the shell would change what the demo shows, and proxies are for elsewhere.
        env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
        env |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', os.defpath)}",
            "NO_PROXY": LOOPBACK,
            **environment,
        }
        with self._log(title).open("wb") as log:
            self._running[title] = subprocess.Popen(
                command,
                env=env,
                cwd=HERE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_measured(self, page: Page, *command: str, **environment: str) -> None:
        self.start(
            page.title,
            "opentelemetry-instrument",
            "python",
            *command,
            OTEL_SERVICE_NAME="demo-" + page.title.lower().replace(" ", "-"),
            OTEL_EXPORTER_PROMETHEUS_HOST=LOOPBACK,
            OTEL_EXPORTER_PROMETHEUS_PORT=str(page.port),
            **environment,
        )

    def _log(self, title: str) -> Path:
        return self._logs / f"{title}.log"

    def has_written(self, page: Page, line: str) -> bool:
        return line in self._log(page.title).read_text(errors="replace").splitlines()

    def last_words(self) -> str:
        words = ""
        for title in self._running:
            lines = self._log(title).read_text(errors="replace").splitlines()[-12:]
            words += f"\n--- the last lines of the {title}\n" + "".join(f"{line}\n" for line in lines)
        return words

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the condition holds; False if it never did. Notices signals and processes that have ended."""
        deadline = time.monotonic() + seconds
        while not until():
            if self._stop_signal:
                raise Stopped(self._stop_signal)
            for title, process in self._running.items():
                if process.poll() is not None:
                    raise DemoError(f"the {title} ended by itself, with status {process.returncode}")
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def end_all(self) -> None:
        # The clients, started last, go first: on SIGINT they close their sessions, and a stdio server ends with its
        # client. What is left of a group after that is killed.
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_ports(count: int) -> list[int]:
    # All at once, so that they differ.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def is_listening(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


# --- What is shown ----------------------------------------------------------------------------------------------------

Row = tuple[str | int | float, ...]  # counts are whole numbers, times are not


def print_table(heads: list[str], rows: list[Row]) -> None:
    """Words to the left, numbers to the right."""
    is_word = [isinstance(cell, str) for cell in rows[0]]
    cells = [heads, *([f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, is_word, strict=True)
        )
        print("  " + "   ".join(aligned).rstrip())
    print()


def tool_rows(page: Page, direction: str) -> Iterator[Row]:
    calls = {"mcp_direction": direction, "mcp_method_name": "tools/call"}
    for tool in sorted({s.labels.get("gen_ai_tool_name", "") for s in page.select("mcp_requests_total", **calls)}):
        these = {**calls, "gen_ai_tool_name": tool}
        total = page.total("mcp_requests_total", **these)
        good, cancelled, late = (
            page.total("mcp_requests_total", **these, status=status) for status in ("ok", "cancelled", "timeout")
        )
        p50, p95 = (1000 * page.quantile(q, "mcp_request_duration_seconds", **these) for q in (0.5, 0.95))
        yield page.title, tool, total, total - good - cancelled - late, cancelled, late, p50, p95


def session_row(page: Page) -> Row:
    names = ("mcp_sessions_created_total", "mcp_sessions_active", "mcp_connections_total", "mcp_connections_active")
    return (page.title, *(page.total(name) for name in names))


def show(servers: list[Page], clients: list[Page]) -> None:
    print("\nTool calls as each process saw them, p50 and p95 in ms (interpolated from the histograms)\n")
    calls = [row for page in servers for row in tool_rows(page, "inbound")]
    calls += [row for page in clients for row in tool_rows(page, "outbound")]
    if not calls:
        raise DemoError("the pages have mcp_ metrics, but no tool calls")
    print_table(["process", "tool", "calls", "errors", "cancelled", "timed out", "p50", "p95"], calls)
    print("  A 2.x client that gives up on a call tells the server, which counts it as cancelled, whatever the reason.")
    print("  A 1.x client does not, and the server finishes the call.\n")
    print_table(
        ["process", "sessions created", "active", "connections", "active"],
        [session_row(page) for page in (*servers, *clients)],
    )
    for page in (*servers, *clients):
        print(f"--- {page.title}, {page.url}\n")
        print("\n".join(line for line in page.text.splitlines() if line.startswith("mcp_")) + "\n")


def show_progress(processes: Processes) -> None:
    """A bar on a terminal, elsewhere a line now and then."""
    terminal = sys.stdout.isatty()
    for second in range(1, TRAFFIC_SECONDS + 1):
        processes.wait(1)
        if terminal:
            bar = "#" * second + "." * (TRAFFIC_SECONDS - second)
            print(f"\rmaking calls  {bar}  {second} s", end="\n" if second == TRAFFIC_SECONDS else "", flush=True)
        elif second % 5 == 0:
            print(f"making calls: {second} of {TRAFFIC_SECONDS} s", flush=True)


# --- The demo ---------------------------------------------------------------------------------------------------------


def run(processes: Processes, keep: bool, directory: Path) -> None:
    mcp_port, prometheus_port, *ports = free_ports(6)
    titles = ("HTTP server", "stdio server", "HTTP client", "stdio client")
    http_server, stdio_server, http_client, stdio_client = pages = [*map(Page, titles, ports)]

    print(f"mcp {version('mcp')}: a server and a client over HTTP, and a client with its server over stdio", flush=True)
    monitoring = Monitoring(directory / "monitoring", prometheus_port) if keep and Monitoring.is_possible() else None
    told: dict[str, str] = {}
    if monitoring:
        processes.start("Prometheus", *monitoring.prepare())
        told["OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR"] = str(monitoring.targets)
    processes.start_measured(http_server, "http_server.py", str(mcp_port), **told)
    if not processes.wait(START_SECONDS, lambda: is_listening(mcp_port)):
        raise DemoError("the HTTP server did not start")

    # With KEEP the calls go on, so that there is something to look at.
    traffic = ("--stay", "--seconds", "inf" if keep else str(TRAFFIC_SECONDS))
    processes.start_measured(http_client, "client.py", f"http://{LOOPBACK}:{mcp_port}/mcp", *traffic, **told)
    told["SERVER_METRICS_PORT"] = str(stdio_server.port)
    processes.start_measured(stdio_client, "client.py", "stdio_server.py", *traffic, **told)
    for page in pages:
        if not processes.wait(START_SECONDS, page.answers):
            raise DemoError(f"the {page.title} shows no metrics page at {page.url}")

    show_progress(processes)
    if not keep:
        # The last calls may still be under way. After them both sides have counted the same.
        for client in (http_client, stdio_client):
            if not processes.wait(30, lambda client=client: processes.has_written(client, "done")):
                raise DemoError(f"the {client.title} did not finish its calls")

    for page in pages:
        page.scrape()
    show([http_server, stdio_server], [http_client, stdio_client])

    if not keep:
        print("That is all; the tables are above the raw lines. KEEP=1 make demo leaves everything running.")
    else:
        print("Still running, and still making calls. Look at")
        for page in pages:
            print(f"  {page.url}  {page.title}")
        if monitoring:
            for what, place in monitoring.places().items():
                print(f"  {place}  {what}")
        else:
            print("With Prometheus installed (Debian: apt-get install prometheus) there would be graphs and alerts.")
        print("Ctrl-C ends everything.", flush=True)
        processes.wait(math.inf)


def main() -> int:
    keep = os.environ.get("KEEP", "") not in ("", "0")
    with tempfile.TemporaryDirectory(prefix="mcp-demo-") as logs:
        processes = Processes(Path(logs))
        try:
            run(processes, keep, Path(logs))
        except DemoError as error:
            print(processes.last_words(), f"\nmake demo: {error}.", sep="", file=sys.stderr)
            return 1
        except Stopped as stopped:
            print("\nending the servers and clients", flush=True)
            # With KEEP, Ctrl-C is the way to end it.
            return 0 if keep and stopped.signum == signal.SIGINT else 128 + stopped.signum
        except BrokenPipeError:  # make demo | head
            # Python writes out what it still holds when it ends, and would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        finally:
            processes.end_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
