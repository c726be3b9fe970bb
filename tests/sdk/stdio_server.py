"""``python -m tests.sdk.stdio_server REPORT``: the example server over stdio; its metrics go to REPORT when it ends.

Another server can be named: ``... REPORT tests.sdk.fast_example``; and another event loop than asyncio's own, by what
anyio calls it: ``... tests.sdk.example trio``.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import Points


def main(report: str, server: str = "tests.sdk.example", backend: str = "asyncio") -> None:
    """Instrument, serve until the client leaves, report."""
    reader = InMemoryMetricReader()
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]), skip_dep_check=True)
    try:
        anyio.run(import_module(server).build().run_stdio_async, backend=backend)
    finally:
        Path(report).write_text(json.dumps(Points.of(reader).to_json()))


if __name__ == "__main__":
    main(*sys.argv[1:])
