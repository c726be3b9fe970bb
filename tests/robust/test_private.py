"""What nobody is to see is put everywhere, and looked for in everything that leaves the process.

Spans of the SDK itself are not ours to judge; what ours may carry is in ``tests/sdk/test_spans_conventions.py``.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

import anyio
import psutil
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.core import fail_open
from opentelemetry_instrumentation_mcp.metrics.store.connection import Request

from ..e2e.conftest import launch, python, start
from ..e2e.processes import Start
from ..sdk import example, setups
from ..sdk.generation import streamable_http_client, types
from ..sdk.http import HEADERS, httpx
from ..sdk.setups import SETUPS
from .hostile import initialize

__all__ = ["launch", "python", "start"]

CANARY = "s3cr3t-c4n4ry"
PACKAGE = "opentelemetry_instrumentation_mcp"


async def sing(setup: setups.Setup) -> None:
    """Put the canary wherever a peer or an application can put something."""
    server = example.build()

    def leak(text: str) -> str:
        if text.startswith("fail"):
            raise ValueError(f"{CANARY} in an exception")
        return f"{CANARY} in a result"

    def picture(name: str) -> str:
        return f"{CANARY} in a resource"

    def prompt(topic: str) -> str:
        return f"{CANARY} about {topic}"

    server.add_tool(leak)
    server.prompt()(prompt)
    server.resource("memo://{name}")(picture)
    client = types.Implementation(name=f"{CANARY}-client", version=CANARY)
    async with setups.serve(setups.http_app(server, setup)) as base:
        host = base.removeprefix("http://")
        url = f"http://{CANARY}-user:{CANARY}-password@{host}/mcp?token={CANARY}"
        headers = {"authorization": f"Bearer {CANARY}", f"x-{CANARY}": CANARY, "cookie": f"user={CANARY}"}
        http = httpx.AsyncClient(headers=headers, timeout=20)
        transport = streamable_http_client(url, http_client=http)
        async with setups.client_over(transport, modern=setup.modern, client_info=client) as session:
            for name, arguments in (("leak", {"text": CANARY}), ("leak", {"text": f"fail {CANARY}"}), (CANARY, {})):
                with suppress(Exception):
                    await session.call_tool(name, arguments)
            for call in (
                lambda: session.read_resource(f"memo://{CANARY}"),
                lambda: session.read_resource(f"file:///{CANARY}"),
                lambda: session.get_prompt("prompt", {"topic": CANARY}),
                lambda: session.get_prompt(CANARY, {"x": CANARY}),
                lambda: example.raw(session, f"{CANARY}/method", {CANARY: CANARY}),
                lambda: example.raw(session, "tools/call", {"name": "ok", "_meta": {f"a/{CANARY}": CANARY}}),
            ):
                with suppress(Exception):
                    await call()
        hostile = HEADERS | headers | {"mcp-session-id": CANARY, "mcp-protocol-version": CANARY, "mcp-method": CANARY}
        for body in (
            CANARY.encode(),
            json.dumps({"method": CANARY}).encode(),
            json.dumps(initialize(name=CANARY)).encode(),
        ):
            await http.post(f"{base}/mcp", content=body, headers=hostile)
            await http.post(f"{base}/mcp?token={CANARY}", content=body, headers=HEADERS)
        await http.aclose()


@pytest.mark.parametrize("is_broken", [False, True], ids=["works", "broken"])
@pytest.mark.parametrize("setup", [each for each in SETUPS if each.name in ("http", "http-2026")], ids=str)
def test_the_canary_is_heard_nowhere(
    setup: setups.Setup, is_broken: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, PACKAGE)
    monkeypatch.setattr(fail_open, "_reports", {})
    if is_broken:
        # A bug of ours that quotes what it stumbled over.
        def measured(*_: Any, **__: Any) -> None:
            raise ValueError(CANARY)

        monkeypatch.setattr(Request, "measured", measured)
    provider = MeterProvider([PrometheusMetricReader()])
    instrumentor = MCPInstrumentor()
    try:
        instrumentor.instrument(meter_provider=provider)
        anyio.run(sing, setup)
        page = generate_latest(REGISTRY).decode()
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
    told = [record.getMessage() for record in caplog.records if record.name.startswith(PACKAGE)]
    assert 'gen_ai_tool_name="leak"' in page
    assert CANARY not in page
    assert CANARY not in "\n".join(told)
    assert bool([line for line in told if "ValueError" in line]) == is_broken


SERVER = """
import sys
from tests.robust.peer import main
main("http")
"""


def addresses(pid: int) -> set[str]:
    """Where a process listens."""
    return {each.laddr.ip for each in psutil.Process(pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN}


def test_scrapers_of_any_kind_cost_the_server_no_time(start: Start, free_port: int) -> None:
    """A hundred at once, slow ones and malformed ones among them: requests take about as long as under one."""
    root = str(setups.HERE.parent.parent)
    child = start(SERVER, PYTHONPATH=root, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    metrics = f"http://127.0.0.1:{free_port}/metrics"
    child.scrape(metrics, "mcp_connections_total")
    base = next(line for line in child.stderr.splitlines() if line.startswith("http://"))
    assert addresses(child.process.pid) <= {"127.0.0.1", "::1"}

    def latency(requests: int) -> float:
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize()["params"]}
        ).encode()
        taken: list[float] = []
        for _ in range(requests):
            began = time.perf_counter()
            request = urllib.request.Request(f"{base}/mcp", body, HEADERS)
            with urllib.request.urlopen(request, timeout=20) as response:
                response.read()
            taken.append(time.perf_counter() - began)
        return median(taken)

    def while_scraped(scrapers: int, ask: Callable[[], None]) -> float:
        stop = threading.Event()

        def scrape() -> None:
            while not stop.is_set():
                with suppress(OSError):
                    ask()

        threads = [threading.Thread(target=scrape, daemon=True) for _ in range(scrapers)]
        for each in threads:
            each.start()
        try:
            return latency(40)
        finally:
            stop.set()
            for each in threads:
                each.join(30)

    def scrape_once() -> None:
        with urllib.request.urlopen(metrics, timeout=20) as response:
            assert b"mcp_connections_total" in response.read()
        time.sleep(0.5)

    def pester() -> None:
        with socket.create_connection(("127.0.0.1", free_port), timeout=2) as client:
            client.sendall(b"\\x00\\xff GET /metrics\\r\\n" if int(time.time() * 1000) % 2 else b"GET /met")
            time.sleep(0.2)

    latency(10)
    alone = while_scraped(1, scrape_once)
    crowded = while_scraped(100, scrape_once)
    pestered = while_scraped(50, pester)
    # Processes of a test share the machine: what is ruled out is that requests wait for pages to be made.
    assert crowded < 5 * alone + 0.05, (alone, crowded)
    assert pestered < 5 * alone + 0.05, (alone, pestered)
    assert "mcp_connections_total" in child.scrape(metrics, "mcp_connections_total")
    assert child.process.poll() is None
