"""``python -m tests.sdk.stdio_server REPORT [spans]``: the example server over stdio.

Its metrics go to REPORT when it ends, and its spans, if it is told to make some, beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import Points
from ..spans import Spans, spans_to_json
from . import example


def main(report: str, *wanted: str) -> None:
    """Instrument, serve until the client leaves, report."""
    reader = InMemoryMetricReader()
    spans = Spans() if wanted else None
    provider = spans.provider if spans else None
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]), tracer_provider=provider, skip_dep_check=True)
    try:
        example.build().run("stdio")
    finally:
        Path(report).write_text(json.dumps(Points.of(reader).to_json()))
        if spans:
            Path(report).with_suffix(".spans").write_text(spans_to_json(spans.all))


if __name__ == "__main__":
    main(*sys.argv[1:])
