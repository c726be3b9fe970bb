"""What is heavy?"""

from __future__ import annotations

from opentelemetry_instrumentation_mcp.metrics import catalogue as c

from ..panels import Kind, Panel, Query, Row, Unit, legend
from ..promql import RANGE, total
from ..sides import (
    OF_TOOLS,
    ask,
    quantile_by,
    quantiles,
)


def sizes() -> Row:
    """What is heavy?"""
    return Row(
        "Sizes",
        (
            Panel(
                "Request size",
                "Bytes of a request's JSON on the wire. Nothing is on a wire in memory.",
                Kind.TIME,
                Unit.BYTES,
                quantiles(c.REQUEST_SIZE),
                empty="no sizes in memory",
            ),
            Panel(
                "Response size",
                "Bytes of a response's JSON on the wire.",
                Kind.TIME,
                Unit.BYTES,
                quantiles(c.RESPONSE_SIZE),
                empty="no sizes in memory",
            ),
            Panel(
                "Throughput",
                "Bytes of messages per second, both ways.",
                Kind.TIME,
                Unit.BYTES_PER_SECOND,
                (
                    Query(total(ask.rate(c.REQUEST_SIZE, part="sum")), "requests"),
                    Query(total(ask.rate(c.RESPONSE_SIZE, part="sum")), "responses"),
                ),
                empty="no sizes in memory",
            ),
            Panel(
                "Heaviest tools",
                "p95 of a tool's results. One that grows costs every client more, and a model its context.",
                Kind.TIME,
                Unit.BYTES,
                (Query(quantile_by(0.95, c.RESPONSE_SIZE, OF_TOOLS, by=(c.TOOL,)), legend(c.TOOL)),),
                width=12,
                empty="no tool calls",
            ),
            Panel(
                "Mean size by method",
                "Of responses in the time range.",
                Kind.BARS,
                Unit.BYTES,
                (Query(ask.mean(c.RESPONSE_SIZE, by=(c.METHOD,), over=RANGE), legend(c.METHOD)),),
                width=12,
                link=c.METHOD,
            ),
        ),
    )
