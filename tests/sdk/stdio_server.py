"""``python -m tests.sdk.stdio_server REPORT [SERVER [BACKEND [spans]]]``: the example server over stdio.

Its metrics go to REPORT when it ends, and its spans, if it is told to make some, beside it. Another server can be
named, ``tests.sdk.fast_example`` for instance; and another event loop than asyncio's own, by what anyio calls it.
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
from ..spans import Spans, spans_to_json


def main(report: str, server: str = "tests.sdk.example", backend: str = "asyncio", *wanted: str) -> None:
    """Instrument, serve until the client leaves, report."""
    reader = InMemoryMetricReader()
    spans = Spans() if wanted else None
    provider = spans.provider if spans else None
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]), tracer_provider=provider, skip_dep_check=True)
    try:
        anyio.run(import_module(server).build().run_stdio_async, backend=backend)
    finally:
        Path(report).write_text(json.dumps(Points.of(reader).to_json()))
        if spans:
            Path(report).with_suffix(".spans").write_text(spans_to_json(spans.all))


if __name__ == "__main__":
    main(*sys.argv[1:])
