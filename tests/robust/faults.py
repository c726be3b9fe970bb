"""``python -m tests.robust.faults REPORT``: servers and clients at work while functions of the package fail, in turn.

Writes what became of the calls and what was logged; never writes to stdout.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from . import injection

injection.install()

import anyio  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402

from opentelemetry_instrumentation_mcp import MCPInstrumentor  # noqa: E402
from opentelemetry_instrumentation_mcp.core import fail_open  # noqa: E402

from ..sdk import example, setups  # noqa: E402
from ..sdk.generation import V2, streamable_http_client  # noqa: E402
from ..sdk.http import HEADERS, failing_app, httpx  # noqa: E402
from ..sdk.setups import SETUPS, Setup  # noqa: E402
from .hostile import INITIALIZED, initialize  # noqa: E402

PATIENCE_SECONDS = 15
"""A scenario takes a tenth of a second; one that hangs has failed."""

Scenario = Callable[[], Awaitable[list[Any]]]


async def _outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return repr(await call())
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'error', error)}"


def _session(setup: Setup) -> Scenario:
    """A session of a client with the example server in which everything happens once."""

    async def scenario() -> list[Any]:
        async with setups.connect(setup) as link:
            session = link.session
            found = [
                await _outcome(session.list_tools),
                await _outcome(lambda: session.call_tool("ok", {})),
                await _outcome(lambda: session.call_tool("fail", {})),
                await _outcome(lambda: session.call_tool("nobody", {})),
                await _outcome(lambda: session.call_tool("tell", {}, progress_callback=_progress)),
                await _outcome(lambda: session.get_prompt("greeting")),
                await _outcome(lambda: session.get_prompt("broken")),
                await _outcome(lambda: example.raw(session, "nothing/known")),
            ]
            with anyio.move_on_after(0.01):
                await _outcome(lambda: session.call_tool("slow", {"seconds": 0.02}))
            if setup.asks_back:
                found.append(await _outcome(lambda: session.call_tool("ask", {})))
            if not setup.modern:
                found.append(await _outcome(session.send_ping))
            await anyio.sleep(0.015)
        return found

    return scenario


async def _progress(*_: Any) -> None:
    return


def _posts(setup: Setup) -> Scenario:
    """What reaches an HTTP server without a client of the SDK: refusals, sessions that are deleted."""

    async def scenario() -> list[Any]:
        server = example.build(**({} if V2 else setup.settings))
        found: list[Any] = []
        headers = dict(HEADERS)
        if setup.modern:
            headers["mcp-protocol-version"] = "2026-07-28"
        bodies: list[Any] = [
            b"not json",
            initialize(),
            INITIALIZED,
            {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        ]
        async with setups.serve(setups.http_app(server, setup)) as base, httpx.AsyncClient(timeout=20) as http:
            for body in bodies:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                answer = await http.post(f"{base}/mcp", content=content, headers=headers)
                found.append((answer.status_code, answer.text))
                if "mcp-session-id" in answer.headers:
                    headers["mcp-session-id"] = answer.headers["mcp-session-id"]
            found.append((await http.delete(f"{base}/mcp", headers=headers)).status_code)
            found.append((await http.post(f"{base}/mcp", json=INITIALIZED, headers=headers)).status_code)
        return found

    return scenario


async def _refusals() -> list[Any]:
    """Servers that refuse, and one that is not there."""

    async def connect(url: str) -> None:
        async with setups.client_over(streamable_http_client(url)) as session:
            await session.list_tools()

    found: list[Any] = []
    async with setups.serve(failing_app(503)) as base:
        for url in (f"{base}/mcp", "http://127.0.0.1:9/mcp"):
            try:
                await connect(url)
            except BaseException as error:
                while inner := getattr(error, "exceptions", None):
                    error = inner[0]
                found.append(type(error).__name__)
    return found


def scenarios() -> dict[str, Scenario]:
    """By name, the quick ones first."""
    by_name = {each.name: each for each in SETUPS}
    found: dict[str, Scenario] = {"memory": _session(by_name["memory"])}
    if V2:
        found["memory-2026"] = _session(by_name["memory-2026"])
    found["posts"] = _posts(by_name["http"])
    if V2:
        found["posts-2026"] = _posts(by_name["http-2026"])
    for name in ("http-json-2026", "http-stateless-json", "http-2026", "sse", "http"):
        if name in by_name:
            found[name] = _session(by_name[name])
    found["refusals"] = _refusals
    return found


async def _in_time(scenario: Scenario) -> list[Any]:
    with anyio.fail_after(PATIENCE_SECONDS):
        return await scenario()


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run(scenario: Scenario) -> dict[str, Any]:
    """Instrument, let it happen, collect, and leave."""
    getattr(fail_open, "_reports").clear()  # noqa: B009
    log = _Log()
    logger = logging.getLogger(injection.PACKAGE)
    logger.addHandler(log)
    injection.plan.hits.clear()
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    raised: str | None = None
    results: list[Any] = []
    try:
        instrumentor.instrument(meter_provider=MeterProvider([reader]), skip_dep_check=True)
        results = anyio.run(_in_time, scenario)
        reader.get_metrics_data()
        instrumentor.uninstrument()
    except BaseException as error:
        while inner := getattr(error, "exceptions", None):
            error = inner[0]
        raised = repr(error)
        instrumentor.uninstrument()
    finally:
        logger.removeHandler(log)
    return {"results": _same(results), "raised": raised, "log": log.lines, "hits": len(injection.plan.hits)}


def _same(results: list[Any]) -> Any:
    text = json.dumps(results)
    return json.loads(re.sub(r"0x[0-9a-f]+|127\.0\.0\.1:\d+|[0-9a-f]{32}", "*", text))


def main(report: str) -> None:
    """Every function that a scenario calls, in the quickest scenario that calls it."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    for name in ("asyncio", "httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    plan, all_of_them = injection.plan, scenarios()
    expected: dict[str, Any] = {}
    where: dict[str, str] = {}
    for name, scenario in all_of_them.items():
        # Once for whatever is imported on the way, once to see what is called.
        run(scenario)
        expected[name] = run(scenario)
        for function in plan.hits:
            where.setdefault(function, name)
    failed: dict[str, Any] = {}
    lines: dict[str, list[str]] = {}
    hits: dict[str, int] = {}
    started = time.monotonic()
    for function, name in where.items():
        plan.target = function
        outcome = run(all_of_them[name])
        plan.target = None
        lines[function] = outcome["log"]
        hits[function] = plan.hits.get(function, 0)
        if outcome["raised"] or outcome["results"] != expected[name]["results"]:
            failed[function] = {"scenario": name} | outcome
    seconds = time.monotonic() - started
    together: dict[str, Any] = {}
    slow: dict[str, Any] = {}
    for name, scenario in all_of_them.items():
        plan.everything = True
        together[name] = run(scenario)
        plan.everything = False
        plan.dawdle = 0.003
        slow[name] = run(scenario)
        plan.dawdle = 0.0
    Path(report).write_text(
        json.dumps(
            {
                "known": sorted(plan.known),
                "where": where,
                "expected": expected,
                "failed": failed,
                "lines": lines,
                "hits": hits,
                "together": together,
                "slow": slow,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1])
