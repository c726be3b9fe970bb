"""``make soak``: a server and a client at full load, with sessions that come and go, and a look at what grows.

The server is ``examples/http_server.py`` under ``opentelemetry-instrument``; a scraper reads its page every second. The
client, which is this process, holds a few sessions at a time; each makes some calls, of which a few fail, are cancelled
or are for tools that nobody has, and is closed, or left without a word. Memory, file descriptors and threads of both
are read from the system. What the second quarter of the time has and the last one has too is flat; the first quarter is
for warming up. The end says whether the server counted what the client sent, and what is still active.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any, Final

import anyio
import psutil
from mcp import ClientSession
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..example import SDK_VERSION

_ROOT: Final = Path(__file__).resolve().parents[2]
_SESSIONS: Final = 8
_MOST_GROWTH: Final = 0.05
"""Of the memory: allocators and garbage collectors do not give back to the byte. A short run is mostly warming up, and
may want more (``--growth``)."""


@dataclass
class Readings:
    """What was read of one process."""

    memory: list[int] = field(default_factory=list[int])
    descriptors: list[int] = field(default_factory=list[int])
    threads: list[int] = field(default_factory=list[int])

    def read(self, process: psutil.Process) -> None:
        """Read once more."""
        with process.oneshot():
            self.memory.append(process.memory_info().rss)
            self.descriptors.append(process.num_fds())
            self.threads.append(process.num_threads())

    def row(self, name: str, growth: float) -> tuple[str, bool]:
        """A line of the table, and whether everything is flat, memory but for a share of it."""
        memory, descriptors, threads = map(_quarters, (self.memory, self.descriptors, self.threads))
        flat = (
            memory[1] <= memory[0] * (1 + growth)
            and descriptors[1] <= descriptors[0] + 3
            and threads[1] <= threads[0] + 1
        )
        mib = tuple(each / 2**20 for each in memory)
        cells = (
            f"{mib[0]:.1f} → {mib[1]:.1f} MiB",
            f"{descriptors[0]:.1f} → {descriptors[1]:.1f}",
            f"{threads[0]:.1f} → {threads[1]:.1f}",
        )
        return f"| {name} | {' | '.join(cells)} |", flat


def _quarters(values: Sequence[int]) -> tuple[float, float]:
    """The means of the second quarter and of the last."""
    quarter = max(len(values) // 4, 1)
    return mean(values[quarter : 2 * quarter] or values), mean(values[-quarter:])


@dataclass
class Load:
    """The client's side."""

    url: str
    end: float
    sessions: int = 0
    calls: int = 0

    async def run(self, seed: int) -> None:
        """One session after another until the time is up."""
        module: Any = import_module("mcp.client.streamable_http")
        pick = random.Random(seed)
        while time.monotonic() < self.end:
            with contextlib.suppress(Exception):
                async with (
                    module.streamable_http_client(self.url) as streams,
                    ClientSession(streams[0], streams[1]) as session,
                ):
                    await session.initialize()
                    self.sessions += 1
                    await self._use(session, pick)

    async def _use(self, session: Any, pick: random.Random) -> None:
        for _ in range(pick.randint(5, 60)):
            await session.call_tool("add", {"a": 1, "b": 2})
            self.calls += 1
        with contextlib.suppress(Exception):
            await session.call_tool("divide", {"a": 1, "b": 0})
            await session.call_tool(f"nobody-{pick.random()}", {})
        with anyio.move_on_after(0.01):
            await session.call_tool("sleep", {"seconds": 0.05})
        if pick.random() < 0.1:
            raise ConnectionError("left without a word")


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        return response.read().decode()


def _sum(page: str, pattern: str) -> int:
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(pattern, line)))


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


async def _soak(server: psutil.Process, load: Load, port: int, reader: InMemoryMetricReader) -> tuple[Any, str]:
    ours, theirs = Readings(), Readings()
    async with anyio.create_task_group() as tasks:
        for seed in range(_SESSIONS):
            tasks.start_soon(load.run, seed)
        while time.monotonic() < load.end:
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(_scrape, port)
            reader.get_metrics_data()
            ours.read(psutil.Process())
            theirs.read(server)
    await anyio.sleep(1)
    return (theirs, ours), await anyio.to_thread.run_sync(_scrape, port)


def main() -> int:
    """Soak, print a table, and return 1 if anything grows or was not counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--growth", type=float, default=_MOST_GROWTH, help="of the memory, as a share of it")
    options = parser.parse_args()
    seconds: float = options.seconds
    port, metrics_port = _free_ports()
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    command = [str(launcher), sys.executable, str(_ROOT / "examples" / "http_server.py"), str(port)]
    environment = os.environ | {"OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics_port)}
    # Of what a client leaves behind in the middle of an answer the SDK has much to say.
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    reader = InMemoryMetricReader()
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]), skip_dep_check=True)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(metrics_port)
            _wait_for(port)
            load = Load(f"http://127.0.0.1:{port}/mcp", time.monotonic() + seconds)
            readings, page = anyio.run(_soak, psutil.Process(server.pid), load, metrics_port, reader)
        finally:
            server.send_signal(signal.SIGKILL)
    counted = _sum(page, r'mcp_requests_total\{.*gen_ai_tool_name="add".*status="ok"')
    active = _sum(page, r"mcp_requests_active\{")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, mcp {SDK_VERSION}, {seconds:.0f} s, ", end="")
    print(f"{load.sessions:,} sessions, {load.calls:,} successful calls sent, {counted:,} counted, {active} active")
    print("\n| process | memory | file descriptors | threads |\n| --- | --- | --- | --- |")
    rows = [each.row(name, options.growth) for each, name in zip(readings, ("server", "client"), strict=True)]
    for line, _ in rows:
        print(line)
    series = len([line for line in page.splitlines() if not line.startswith("#")])
    print(f"\n{series} series on the server's page")
    return 0 if all(flat for _, flat in rows) and 0 <= counted - load.calls <= _SESSIONS and not active else 1


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
