"""What a scrape costs, and how late it makes the event loop: ours beside the stock exporter's, for the same series."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Sequence
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

_Scrape = tuple[float, float, int]
"""CPU seconds of the process, seconds until the page was there, and its bytes."""

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

    def scrape(self) -> _Scrape:
        """Fetch the page."""
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


class _Scrapes:
    """What the scrapes of one page took, right after the process has worked and once more after that."""

    def __init__(self) -> None:
        self.busy: list[_Scrape] = []
        self.idle: list[_Scrape] = []
        self.lags: list[float] = []

    def take(self, page: Page) -> None:
        """Scrape the page, in all the ways there are."""
        page.order(f"work {WAITING}")
        self.busy.append(page.scrape())
        self.idle.append(page.scrape())
        page.order(f"work {WAITING}")
        self.lags.append(page.lag())


def _medians(scrapes: Sequence[_Scrape]) -> tuple[float, float, float]:
    cpu, seconds, size = (median(each[figure] for each in scrapes) for figure in range(3))
    return 1e3 * cpu, 1e3 * seconds, size


def compare(tools: int) -> list[Figure]:
    """Time, size and disturbance of a scrape with the series of that many tools."""
    pinned, other = cpus() or (None, None)
    pin(os.getpid(), other)
    with ExitStack() as stack:
        ours, stock = (stack.enter_context(page(kind, tools, pinned)) for kind in ("ours", "stock"))
        our, their = _Scrapes(), _Scrapes()
        pages = ((ours, our), (stock, their))
        for number in range(SCRAPES):
            # A process that follows itself is the faster for it.
            for each, scrapes in pages[:: -1 if number % 2 else 1]:
                scrapes.take(each)
    title = f"scrape, {tools} tools"
    waiting = f"{WAITING:,} calls waiting"
    (our_cpu, our_time, _), (their_cpu, their_time, _) = _medians(our.busy), _medians(their.busy)
    (our_idle, _, our_size), (their_idle, _, their_size) = _medians(our.idle), _medians(their.idle)
    return [
        _limited(f"{title}: CPU", our_idle, their_idle, "ms"),
        _limited(f"{title}: CPU, {waiting}", our_cpu, their_cpu, "ms"),
        Figure(f"{title}: time, {waiting}", our_time, their_time, "ms"),
        _limited(f"{title}: size", our_size, their_size, "bytes"),
        Figure(f"{title}: event loop late at most, {waiting}", 1e3 * median(our.lags), 1e3 * median(their.lags), "ms"),
    ]


def _limited(title: str, ours: float, stock: float, unit: str) -> Figure:
    return Figure(title, ours, stock, unit, f"<= {MOST} x stock", ours <= MOST * stock)
