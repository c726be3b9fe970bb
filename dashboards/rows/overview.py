"""Is it well?"""

from __future__ import annotations

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Role

from ..panels import Kind, Panel, Query, Row, Unit, legend, stat
from ..promql import PRESENCE, RANGE, Source, or_zero, processes, total
from ..rules import ERROR_BUDGET, FAILED, FAILURE_RATIO, NOT_ANSWERED_AT_ONCE
from ..sides import (
    ANY,
    FAILURES,
    FEW,
    OF_TOOLS,
    STATUS_COLORS,
    TOOL_ERRORS,
    Side,
    ask,
    during,
    quantiles,
    share,
    share_over_time,
)


def overview(side: Side) -> Row:
    """Is it well?"""
    failed, tools = share(FAILURES), share(TOOL_ERRORS, OF_TOOLS)
    alerts = f'ALERTS{{alertname=~"MCP.+",alertstate="firing",job=~"$job",mcp_role=~"{side.role.value}|"}}'
    burn = Source(('job=~"$job"',), {c.ROLE: "role", c.DIRECTION: "direction", c.SERVER_NAME: "server"})
    windows = ("1h", "6h", "3d")
    budget = tuple(
        Query(
            f"max by ({prometheus_label(c.SERVER_NAME)}) ({burn.named(FAILURE_RATIO.format(each), *_recorded(burn))})"
            f" / {ERROR_BUDGET:g}",
            f"{legend(c.SERVER_NAME)} {each}",
        )
        for each in windows
    )
    peers = "clients" if side.role is Role.SERVER else "servers"
    down = f"max by (job, instance) ({ask.named('up')}) == 0"
    known = f"count_over_time({ask.select(PRESENCE)}[{RANGE}])"
    return Row(
        "Overview",
        (
            stat(
                "Requests",
                "Requests per second, finished in whichever way.",
                Unit.REQUESTS_PER_SECOND,
                total(ask.rate(c.REQUESTS_TOTAL)),
            ),
            stat(
                "Failed requests",
                f"Share of the time range's requests that ended as {', '.join(FAILED)}.",
                Unit.RATIO,
                failed,
                levels=FEW,
                highest=1.0,
                empty="no requests",
            ),
            stat(
                "Tool errors",
                "Share of the time range's tool calls whose result says isError: the tool ran, or its arguments were "
                "wrong.",
                Unit.RATIO,
                tools,
                levels={0.05: "yellow", 0.2: "orange", 0.5: "red"},
                highest=1.0,
                empty="no calls",
            ),
            stat(
                "p95",
                "95 of 100 requests were faster. What waits for a person or a model is not in it.",
                Unit.SECONDS,
                ask.quantile_with_births(0.95, c.REQUEST_DURATION, NOT_ANSWERED_AT_ONCE, by=(), over=RANGE),
                levels={1.0: "yellow", 5.0: "red"},
                empty="no requests",
            ),
            stat(
                "Active sessions",
                "Sessions open now. Stateless servers and those of 2026-07-28 have none.",
                Unit.NUMBER,
                total(ask.select(c.SESSIONS_ACTIVE)),
                empty="no sessions",
            ),
            stat(
                "In flight",
                "Requests that have begun and not ended.",
                Unit.NUMBER,
                total(ask.select(c.REQUESTS_ACTIVE)),
            ),
            stat(
                "Dead peers",
                f"How many {peers} were found dead in the time range: a ping unanswered, a stream gone, a session "
                "forgotten.",
                Unit.NUMBER,
                or_zero(during(c.DEAD_DETECTED)),
                levels=ANY,
            ),
            stat(
                "Alerts",
                "Alerts of this package's rules that fire now. 0 also where no rules are loaded.",
                Unit.NUMBER,
                or_zero(f"count({alerts})"),
                levels={1.0: "red"},
            ),
            Panel(
                "Requests by status",
                "What became of the requests, per second.",
                Kind.TIME,
                Unit.REQUESTS_PER_SECOND,
                (Query(total(ask.rate(c.REQUESTS_TOTAL), c.STATUS), legend(c.STATUS)),),
                colors=STATUS_COLORS,
                stacked=True,
                empty="no requests",
            ),
            Panel(
                "Failed and tool error share",
                "The two ratios of the tiles above over time. The first failure of its kind is in them.",
                Kind.TIME,
                Unit.RATIO,
                (
                    Query(share_over_time(FAILURES), "failed requests"),
                    Query(share_over_time(TOOL_ERRORS, OF_TOOLS), "tool errors"),
                ),
                highest=1.0,
                empty="no requests",
            ),
            Panel(
                "Latency",
                "How long requests take, open-ended streams left out.",
                Kind.TIME,
                Unit.SECONDS,
                quantiles(c.REQUEST_DURATION, NOT_ANSWERED_AT_ONCE),
                empty="no requests",
            ),
            Panel(
                "Requests since the processes started",
                "Totals of the processes that are there now, by the way requests ended.",
                Kind.BARS,
                Unit.NUMBER,
                (Query(total(ask.select(c.REQUESTS_TOTAL), c.STATUS), legend(c.STATUS)),),
                colors=STATUS_COLORS,
                height=7,
                empty="no requests",
            ),
            Panel(
                "Burn rate of the error budget",
                f"How many times faster than allowed failures use up the budget of {ERROR_BUDGET:.0%}, over 1 hour, "
                "6 hours and 3 days. Needs the recording rules.",
                Kind.TIME,
                Unit.NUMBER,
                budget,
                height=7,
                empty="no recording rules, or no requests",
            ),
            Panel(
                "Processes",
                "Processes under this package; one with workers counts once. Down are those that were there in the "
                "time range and do not answer Prometheus. What is sent by OTLP is never down: it is missing 5 minutes "
                "after its last export.",
                Kind.TIME,
                Unit.NUMBER,
                (
                    Query(or_zero(f"count({processes(ask.select(PRESENCE))})"), "up"),
                    Query(or_zero(f"count({down} and on (job, instance) {known})"), "down"),
                ),
                height=7,
            ),
        ),
        collapsed=False,
    )


def _recorded(source: Source) -> tuple[str, ...]:
    """Recorded series keep the labels they can be filtered by."""
    return tuple(f'{prometheus_label(attribute)}=~"${variable}"' for attribute, variable in source.variables.items())
