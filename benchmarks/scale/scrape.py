"""What a scrape costs, and how late it makes the event loop: ours beside the stock exporter's, for the same series."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Final

from ..overhead.cpu import cpu_seconds, cpus, pin
from ..overhead.subjects import ROOT, free_port
from .figures import Figure

MOST: Final = 1.2
"""How many times the stock exporter's cost ours may be."""

SCRAPES: Final = 25
WAITING: Final = 5000
"""Calls between two scrapes: 5 s of a server that is busy."""

_fetch = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Page:
    """A running :mod:`.page`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/metrics"
        self.read()

    def read(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the page has ended with status {self._process.wait()}")
        return line

    def order(self, text: str) -> float:
        """Have something done; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return float(self.read())

    def scrape(self) -> tuple[float, float, int]:
        """CPU seconds of the process, seconds until the page was there, and its bytes."""
        begin, before = time.perf_counter(), cpu_seconds(self._process.pid)
        with _fetch(self._url, timeout=60) as answer:
            size = len(answer.read())
        return cpu_seconds(self._process.pid) - before, time.perf_counter() - begin, size

    def lag(self) -> float:
        """The most seconds the event loop was late during a scrape."""
        self.order("watch")
        time.sleep(0.02)
        self.scrape()
        return self.order("lag")


@contextmanager
def page(kind: str, tools: int, cpu: int | None) -> Generator[Page]:
    """A page of ``ours`` or of ``stock``."""
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    with subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.page", kind, str(port), str(tools)],
        env=environment | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            pin(process.pid, cpu)
            yield Page(process, port)
        finally:
            process.kill()


def compare(tools: int) -> list[Figure]:
    """Time, size and disturbance of a scrape with the series of that many tools."""
    pinned, other = cpus() or (None, None)
    pin(os.getpid(), other)
    with ExitStack() as stack:
        ours, stock = (stack.enter_context(page(kind, tools, pinned)) for kind in ("ours", "stock"))
        for each in (ours, stock):
            each.scrape()
        rows: list[tuple[tuple[float, float, int], ...]] = []
        lags: list[tuple[float, float]] = []
        for _ in range(SCRAPES):
            # An idle scrape of each, and one with a hand-over.
            idle = ours.scrape()
            theirs = stock.scrape()
            ours.order(f"work {WAITING}")
            rows.append((ours.scrape(), idle, theirs))
            ours.order(f"work {WAITING}")
            lags.append((ours.lag(), stock.lag()))
    (busy_cpu, busy_time, size), (idle_cpu, _, _), (stock_cpu, stock_time, stock_size) = (
        tuple(median(each[kind][figure] for each in rows) for figure in range(3)) for kind in range(3)
    )
    our_lag, stock_lag = median(lag for lag, _ in lags), median(lag for _, lag in lags)
    title = f"scrape, {tools} tools"
    limit = f"<= {MOST} x stock"
    waiting = f"{WAITING:,} calls waiting"
    return [
        Figure(f"{title}: CPU", 1e3 * idle_cpu, 1e3 * stock_cpu, "ms", limit, idle_cpu <= MOST * stock_cpu),
        Figure(f"{title}: CPU, {waiting}", 1e3 * busy_cpu, 1e3 * stock_cpu, "ms", limit, busy_cpu <= MOST * stock_cpu),
        Figure(f"{title}: time, {waiting}", 1e3 * busy_time, 1e3 * stock_time, "ms"),
        Figure(f"{title}: size", size, stock_size, "bytes", limit, size <= MOST * stock_size),
        Figure(f"{title}: event loop late at most, {waiting}", 1e3 * our_lag, 1e3 * stock_lag, "ms"),
    ]
