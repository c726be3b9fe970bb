"""``python -m tests.robust.beside FIRST,SECOND,...``: switch on instrumentations in that order, then talk to a server.

``ours`` stands for this package's. Prints, as JSON, what was counted and what the server's tool saw.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from typing import Any, Final

import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from ..points import ROLE, STATUS, TOOL, Points
from ..sdk import example, setups
from ..sdk.setups import SETUPS

CLASSES: Final = {
    "ours": "opentelemetry_instrumentation_mcp:MCPInstrumentor",
    "starlette": "opentelemetry.instrumentation.starlette:StarletteInstrumentor",
    "httpx": "opentelemetry.instrumentation.httpx:HTTPXClientInstrumentor",
    "asyncio": "opentelemetry.instrumentation.asyncio:AsyncioInstrumentor",
    "threading": "opentelemetry.instrumentation.threading:ThreadingInstrumentor",
    "openinference": "openinference.instrumentation.mcp:MCPInstrumentor",
    "traceloop": "opentelemetry.instrumentation.mcp:McpInstrumentor",
}


def main(order: str) -> None:
    """Instrument, make calls over HTTP and in memory, uninstrument in the same order."""
    logging.disable(logging.ERROR)
    reader = InMemoryMetricReader()
    metrics, traces = MeterProvider([reader]), TracerProvider()
    instrumentors: list[Any] = []
    for name in order.split(","):
        module, _, attribute = CLASSES[name].partition(":")
        instrumentors.append(getattr(import_module(module), attribute)())
        instrumentors[-1].instrument(meter_provider=metrics, tracer_provider=traces, skip_dep_check=True)
    calls = anyio.run(_talk)
    points = Points.of(reader)
    for each in instrumentors:
        each.uninstrument()
    after = anyio.run(_talk)
    ok = {TOOL: "ok", STATUS: "ok"}
    found: dict[str, Any] = {role: points.sum("mcp.requests.total", {ROLE: role} | ok) for role in ("server", "client")}
    active = ("mcp.requests.active", "mcp.sessions.active", "mcp.connections.active")
    found["active"] = [point.attributes for name in active for point in points.select(name) if point.value]
    json.dump(found | {"calls": calls, "after": after}, sys.stdout)


async def _talk() -> int:
    calls = 0
    for setup in SETUPS:
        if setup.transport == "stdio":
            continue
        async with setups.connect(setup) as link:
            for _ in range(3):
                answer = await link.session.call_tool("ok", {})
                assert answer.content[0].text == "fine"
                calls += 1
            assert getattr(await link.session.call_tool("fail", {}), "isError", None) is not False
        assert example.NAME
    # A server hears of the end of an HTTP session a little later.
    await anyio.sleep(0.1)
    return calls


if __name__ == "__main__":
    main(sys.argv[1])
