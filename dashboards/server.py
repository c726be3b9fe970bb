"""The dashboard *MCP server*."""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c

from .grafana import Dashboard
from .panels import Kind, Panel, Query, Row, Unit, legend
from .promql import RATE_INTERVAL, equals, ratio, total
from .rows import methods, overview, process, protocol, sessions, sizes
from .sides import SERVER, ask, during, per_minute, variables

UID: Final = "mcp-server"
BY_INTERCEPTOR: Final = (c.INTERCEPTOR,)


def _interceptors() -> Row:
    """What do middleware and guards cost, and do?"""
    rejected = during(c.INTERCEPTOR_ACTIONS, equals(c.ACTION, "reject"), by=BY_INTERCEPTOR)
    return Row(
        "Interceptors",
        (
            Panel(
                "p95 by interceptor",
                "Time in one interceptor alone: before what it wraps (request) and after it (response).",
                Kind.TIME,
                Unit.SECONDS,
                (
                    Query(
                        ask.quantile(0.95, c.INTERCEPTOR_DURATION, by=(c.INTERCEPTOR, c.PHASE), over=RATE_INTERVAL),
                        legend(c.INTERCEPTOR, c.PHASE),
                    ),
                ),
                empty="no interceptors",
            ),
            Panel(
                "Time taken by interceptors",
                "Seconds per second, all messages together.",
                Kind.TIME,
                Unit.SECONDS,
                (
                    Query(
                        total(ask.rate(c.INTERCEPTOR_DURATION, part="sum"), c.INTERCEPTOR),
                        legend(c.INTERCEPTOR),
                    ),
                ),
                stacked=True,
                empty="no interceptors",
            ),
            Panel(
                "Actions",
                "What interceptors did, per minute.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.INTERCEPTOR_ACTIONS, by=(c.INTERCEPTOR, c.ACTION)),
                        legend(c.INTERCEPTOR, c.ACTION),
                    ),
                ),
                empty="no interceptors",
            ),
            Panel(
                "Share of messages refused",
                "By each interceptor, of what passed through it in the time range.",
                Kind.BARS,
                Unit.RATIO,
                (
                    Query(
                        ratio(rejected, during(c.INTERCEPTOR_ACTIONS, by=BY_INTERCEPTOR)),
                        legend(c.INTERCEPTOR),
                    ),
                ),
                width=12,
                highest=1.0,
                empty="no interceptors",
            ),
            Panel(
                "Interceptor errors",
                "Per minute: exceptions that began in an interceptor and are no refusal. Each is a bug.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.INTERCEPTOR_ERRORS, by=(c.INTERCEPTOR, c.ERROR_TYPE)),
                        legend(c.INTERCEPTOR, c.ERROR_TYPE),
                    ),
                ),
                width=12,
                empty="no errors",
            ),
        ),
    )


DASHBOARD: Final = Dashboard(
    UID,
    "MCP server",
    "MCP servers on the Python SDK, as opentelemetry-distro-mcp measures them.",
    variables(SERVER),
    (
        overview.overview(SERVER),
        methods.methods_and_tools(SERVER),
        sizes.sizes(),
        sessions.sessions_and_connections(SERVER),
        sessions.liveness(),
        _interceptors(),
        process.process(SERVER),
        protocol.protocol(SERVER),
    ),
    {"MCP client": "mcp-client"},
)
