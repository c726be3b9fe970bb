"""The processes that are compared: how each is started, reached and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import psutil

from opentelemetry_instrumentation_mcp.core.environment_variables import OTEL_INSTRUMENTATION_MCP_MAX_NAMES
from opentelemetry_instrumentation_mcp.metrics.limits import Limits

from .cpu import cpu_seconds, pin
from .lines import LINE_LIMIT, Line, Orders, Pipes, Posts, Traffic

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE: Final = 30.0
"""Seconds a process may take to start, and to answer."""

fetch = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Launch:
    """One way to run a program.

    Attributes:
        name: The column it stands in.
        command: What runs a Python module: the interpreter, with a launcher in front or not.
        variables: What its environment has in addition.
        has_page: Whether it shows a metrics page, at the port it is told.
    """

    name: str
    command: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict[str, str])
    has_page: bool = False


def instrumented_by(python: Path) -> tuple[str, ...]:
    """The command that runs Python under the launcher of the same environment."""
    return str(python.with_name("opentelemetry-instrument")), str(python)


_PYTHON: Final = Path(sys.executable)
BARE: Final = Launch("bare", (sys.executable,))
CONTROL: Final = Launch("bare again", (sys.executable,))
INSTRUMENTED: Final = Launch("instrumented", instrumented_by(_PYTHON), has_page=True)
DISABLED: Final = Launch(
    "disabled",
    instrumented_by(_PYTHON),
    {"OTEL_SDK_DISABLED": "true", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "mcp_sdk"},
)

SDK_SPANS: Final = Launch("with the SDK's spans", INSTRUMENTED.command, {"BENCHMARK_SDK_SPANS": "1"}, has_page=True)
"""Instrumented, but mcp 2.x does for tracing what it does bare: what the metrics cost without what is saved on that."""


@dataclass(frozen=True)
class Scenario:
    """What is driven, and how.

    Attributes:
        name: The row it stands in.
        program: The arguments of :mod:`.programs`.
        posts: Whether it is a server that is reached over HTTP.
        modern: Whether 2026-07-28 is spoken.
        companion: Whether it is a client of an HTTP server.
        traffic: What is called, if it is a server.
    """

    name: str
    program: tuple[str, ...]
    posts: bool = False
    modern: bool = False
    companion: bool = False
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def is_server(self) -> bool:
        """Whether the driver is its client: then it sees every call."""
        return self.program[0] in ("stdio", "http")


SERVERS: Final = (
    Scenario("server stdio", ("stdio",)),
    Scenario("server http", ("http",), posts=True),
    Scenario("server http-2026", ("http",), posts=True, modern=True),
)
OTHERS: Final = (
    Scenario("in memory", ("memory",)),
    Scenario("client stdio", ("client", "stdio")),
    Scenario("client http", ("client", "http"), companion=True),
    Scenario("client http-2026", ("client", "http-2026"), modern=True, companion=True),
)


class ProgramError(Exception):
    """A program could not be started, or failed.

    Attributes:
        launch: How it was run.
    """

    def __init__(self, launch: Launch, error: BaseException, stderr: IO[bytes]) -> None:
        stderr.seek(0)
        said = stderr.read().decode(errors="replace").strip()[-1500:]
        super().__init__(f"{launch.name}: {error!r}{'; it said: ' + said if said else ''}")
        self.launch = launch


class Subject:
    """A running process with a line to it."""

    def __init__(self, launch: Launch, process: Process, line: Line, page: str | None, stderr: IO[bytes]) -> None:
        self.name = launch.name
        self._launch = launch
        self._process = process
        self._line = line
        self._page = page
        self._stderr = stderr

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        """Make calls; the seconds each of them took, where that can be seen.

        Raises:
            ProgramError: A call failed.
        """
        try:
            return await self._line.calls(count, at_once)
        except (RuntimeError, OSError, EOFError) as error:
            raise ProgramError(self._launch, error, self._stderr) from error

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        return cpu_seconds(self._process.pid)

    def resident_bytes(self) -> int:
        """Resident memory now."""
        return psutil.Process(self._process.pid).memory_info().rss

    async def scrape(self) -> bytes:
        """Its metrics page; empty if it has none.

        Raises:
            ProgramError: It should have one.
        """
        if self._page is None:
            return b""
        try:
            return await asyncio.to_thread(_read, self._page)
        except OSError as error:
            raise ProgramError(self._launch, error, self._stderr) from error


def _read(url: str) -> bytes:
    with fetch(url, timeout=PATIENCE) as answer:
        return answer.read()


def free_port() -> int:
    """A port nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def _answers(port: int, process: Process) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + PATIENCE
    while process.returncode is None and time.monotonic() < end:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.02)
    raise ConnectionError(f"nobody listens; status {process.returncode}")


@asynccontextmanager
async def _process(
    launch: Launch, *program: str, cpu: int | None, **variables: str
) -> AsyncGenerator[tuple[Process, IO[bytes]]]:
    """A process that ends with the block, its children with it; and the file that gets what it writes to stderr."""
    # What the calling shell says about OpenTelemetry is not what is measured.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment |= {"PYTHONPATH": str(ROOT), "BENCHMARK_ROOT": str(ROOT), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryFile() as stderr:
        process = await asyncio.create_subprocess_exec(
            *launch.command,
            "-m",
            "benchmarks.overhead.programs",
            *program,
            stdin=PIPE,
            stdout=PIPE,
            stderr=stderr,
            limit=LINE_LIMIT,
            env=environment | launch.variables | variables,
            start_new_session=True,
        )
        try:
            pin(process.pid, cpu)
            yield process, stderr
        finally:
            await _end(process)


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 0.2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


@asynccontextmanager
async def started(
    launch: Launch, scenario: Scenario, cpu: int | None, other_cpu: int | None
) -> AsyncGenerator[Subject]:
    """Start a process, connect to it, end it; :class:`ProgramError` if it does not start.

    Args:
        launch: How it is run.
        scenario: What is run.
        cpu: Where it is pinned.
        other_cpu: Where the bare server of a client is pinned.
    """
    async with _companion(scenario, other_cpu) as url:
        variables = {"BENCHMARK_TOOLS": str(scenario.traffic.tools)}
        if scenario.traffic.tools > Limits.names:
            variables[OTEL_INSTRUMENTATION_MCP_MAX_NAMES] = str(scenario.traffic.tools)
        page = None
        if launch.has_page:
            port = free_port()
            variables["OTEL_EXPORTER_PROMETHEUS_HOST"] = "127.0.0.1"
            variables["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(port)
            page = f"http://127.0.0.1:{port}/metrics"
        if other_cpu is not None and not scenario.is_server:
            variables["BENCHMARK_SERVER_CPU"] = str(other_cpu)
        port = free_port()
        arguments = (*scenario.program, *([str(port)] if scenario.posts else []), *([url] if url else []))
        async with _process(launch, *arguments, cpu=cpu, **variables) as (process, stderr):
            try:
                line = await _line(scenario, process, port)
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                raise ProgramError(launch, error, stderr) from error
            try:
                yield Subject(launch, process, line, page, stderr)
            finally:
                await line.close()


@asynccontextmanager
async def _companion(scenario: Scenario, cpu: int | None) -> AsyncGenerator[str]:
    if not scenario.companion:
        yield ""
        return
    port = free_port()
    async with _process(BARE, "http", str(port), cpu=cpu) as (process, _):
        await _answers(port, process)
        yield f"http://127.0.0.1:{port}/mcp"


async def _line(scenario: Scenario, process: Process, port: int) -> Line:
    line: Pipes | Posts | Orders
    assert process.stdin is not None
    assert process.stdout is not None
    if scenario.posts:
        await _answers(port, process)
        line = Posts(port, scenario.traffic, modern=scenario.modern)
    elif scenario.is_server:
        line = Pipes(process.stdin, process.stdout, scenario.traffic)
    else:
        line = Orders(process.stdin, process.stdout)
    await asyncio.wait_for(line.open(), PATIENCE)
    return line
