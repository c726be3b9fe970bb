"""The dashboard *MCP client*: agents and everything else that holds sessions to servers."""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c

from . import server
from .grafana import Dashboard
from .panels import Kind, Panel, Query, Row, Unit, legend
from .promql import RANGE, RATE_INTERVAL, ratio, total
from .rows import methods, overview, process, protocol, sessions, sizes
from .sides import CLIENT, FAILURES, OF_TOOLS, TOOL_ERRORS, ask, during, per_minute, variables

UID: Final = "mcp-client"


def _servers() -> Row:
    """Which server is slow, or fails?"""
    by = (c.SERVER_NAME,)
    requests = during(c.REQUESTS_TOTAL, by=by)
    failed = during(c.REQUESTS_TOTAL, FAILURES, by=by)
    tool_errors = during(c.REQUESTS_TOTAL, TOOL_ERRORS, OF_TOOLS, by=by)
    calls = during(c.REQUESTS_TOTAL, OF_TOOLS, by=by)
    addresses = (c.SERVER_ADDRESS, c.SERVER_PORT)
    return Row(
        "Servers",
        (
            Panel(
                "Servers by name",
                "Every server the clients speak with, in the time range. Click one to see nothing else.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(f"{requests} > 0", "Requests"),
                    Query(ratio(failed, requests), "Failed", Unit.RATIO),
                    Query(ratio(tool_errors, calls), "Tool errors", Unit.RATIO),
                    Query(ask.quantile_with_births(0.95, c.REQUEST_DURATION, by=by, over=RANGE), "p95", Unit.SECONDS),
                    Query(total(ask.select(c.SESSIONS_ACTIVE), *by), "Sessions"),
                ),
                width=12,
                empty="no requests",
                keys={c.SERVER_NAME: "Server"},
                sort="Requests",
                link=c.SERVER_NAME,
            ),
            Panel(
                "Servers by address",
                "mcp.client.operation.duration: requests and notifications to each host, in the time range. Servers "
                "over stdio have no address.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(f"{during(c.CLIENT_OPERATION_DURATION, by=addresses, part='count')} > 0", "Messages"),
                    Query(ask.mean(c.CLIENT_OPERATION_DURATION, by=addresses, over=RANGE), "Mean time", Unit.SECONDS),
                ),
                width=12,
                empty="no requests",
                keys={c.SERVER_ADDRESS: "Address", c.SERVER_PORT: "Port"},
                sort="Messages",
            ),
        ),
        collapsed=False,
    )


def _pool() -> Row:
    """Are there enough HTTP connections?"""
    by = (c.POOL,)
    reused, created = during(c.POOL_REUSED, by=by), during(c.POOL_CREATED, by=by)
    # Until a connection is reused there is no series that says so.
    requests = f"(({reused} or {created} * 0) + ({created} or {reused} * 0))"
    return Row(
        "Client pool",
        (
            Panel(
                "Connections created and reused",
                "HTTP requests per minute that went out on a new connection, and on one that was there. Event streams "
                "over the handshake revisions take a new one nearly every time.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(per_minute(c.POOL_CREATED, by=by), f"created {legend(c.POOL)}"),
                    Query(per_minute(c.POOL_REUSED, by=by), f"reused {legend(c.POOL)}"),
                ),
                empty="no HTTP",
            ),
            Panel(
                "Share of reused connections",
                "Of the HTTP requests in the time range.",
                Kind.BARS,
                Unit.RATIO,
                (Query(ratio(reused, requests), legend(c.POOL)),),
                highest=1.0,
                empty="no HTTP",
            ),
            Panel(
                "Idle connections",
                "Held by the pools now.",
                Kind.TIME,
                Unit.NUMBER,
                (Query(total(ask.select(c.POOL_IDLE), *by), legend(c.POOL)),),
                stacked=True,
                empty="no HTTP",
            ),
            Panel(
                "Wait for a connection",
                "p95 of the time until the pool assigned one. It grows when the pool is too small.",
                Kind.TIME,
                Unit.SECONDS,
                (Query(ask.quantile(0.95, c.POOL_WAIT_DURATION, by=by, over=RATE_INTERVAL), legend(c.POOL)),),
                width=24,
                empty="no HTTP",
            ),
        ),
    )


DASHBOARD: Final = Dashboard(
    UID,
    "MCP client",
    "MCP clients on the Python SDK, as opentelemetry-distro-mcp measures them: agents, proxies, scripts.",
    variables(CLIENT),
    (
        overview.overview(CLIENT),
        _servers(),
        methods.methods_and_tools(CLIENT),
        sizes.sizes(),
        sessions.sessions_and_connections(CLIENT),
        sessions.liveness(),
        _pool(),
        process.process(CLIENT),
        protocol.protocol(CLIENT),
    ),
    {"MCP server": server.UID},
)
