"""``KEEP=1 make demo``, without make: servers, clients, and a Prometheus that looks on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest

from dashboards.asking import Prometheus

from ..sdk.generation import V2
from .processes import PATIENCE_SECONDS, read

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"

# It takes as long as a demo; the examples are the same for both generations.
pytestmark = pytest.mark.skipif(not V2, reason="run with the newest SDK only")


@pytest.fixture
def demo() -> Generator[subprocess.Popen[str]]:
    if shutil.which("prometheus") is None and not os.environ.get("CI"):
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    environment = {**os.environ, "KEEP": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, DEMO], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            # It ends its own children, which nobody else knows.
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_SECONDS)


def test_prometheus_scrapes_what_the_demo_starts_and_ends_with_it(demo: subprocess.Popen[str]) -> None:
    assert demo.stdout is not None
    told: dict[str, str] = {}
    for line in demo.stdout:
        if line.startswith("Still running"):
            # Before it there are tables.
            told.clear()
        if found := re.match(r"  (\S+)  (.+)$", line):
            told[found[2]] = found[1]
        if line.startswith("Ctrl-C"):
            break

    first = next(place for what, place in told.items() if what.startswith("Prometheus"))
    prometheus = Prometheus("{0.scheme}://{0.netloc}".format(urlsplit(first)))
    deadline = time.monotonic() + PATIENCE_SECONDS
    calls = "count by (service) (mcp_requests_total{mcp_method_name='tools/call'} > 0)"
    services: set[str] = set()
    while len(services) < 4 and time.monotonic() < deadline:
        services = {each.labels["service"] for each in prometheus.instant(calls, time.time())}
        time.sleep(0.5)
    assert services == {"demo-http-server", "demo-stdio-server", "demo-http-client", "demo-stdio-client"}
    assert len(prometheus.get("rules")["groups"]) == 7
    for place in told.values():
        if place.startswith("http"):
            assert read(place)
        else:
            assert Path(place).is_file()

    demo.send_signal(signal.SIGINT)
    assert demo.wait(PATIENCE_SECONDS) == 0
    with pytest.raises(URLError):
        read(first)
