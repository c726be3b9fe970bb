"""Which method, tool or prompt is slow, or fails, and how?"""

from __future__ import annotations

from opentelemetry_instrumentation_mcp.metrics import catalogue as c

from ..panels import Kind, Panel, Query, Row, Unit, legend
from ..promql import RANGE, top, total
from ..sides import (
    FAILURES,
    OF_PROMPTS,
    OF_TOOLS,
    QUANTILES,
    STATUS_COLORS,
    TOOL_ERRORS,
    UNSUCCESSFUL,
    Side,
    ask,
    during,
    per_minute,
    quantile_by,
    share,
    share_over_time,
)


def methods_and_tools(side: Side) -> Row:
    """Which of them is slow, or fails?"""
    return Row(
        "Methods and tools",
        (
            Panel(
                "Requests by method",
                "Per second. Click a method to see nothing else.",
                Kind.TIME,
                Unit.REQUESTS_PER_SECOND,
                (Query(total(ask.rate(c.REQUESTS_TOTAL), c.METHOD), legend(c.METHOD)),),
                stacked=True,
                link=c.METHOD,
            ),
            Panel(
                "p95 by method",
                "Which method is slow. 95 of 100 of its requests were faster.",
                Kind.TIME,
                Unit.SECONDS,
                (Query(quantile_by(0.95, c.REQUEST_DURATION, by=(c.METHOD,)), legend(c.METHOD)),),
                link=c.METHOD,
            ),
            Panel(
                "Unsuccessful requests by status",
                "Per minute, by the way they ended. Births count: a failure that was never seen before is here.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (Query(per_minute(c.REQUESTS_TOTAL, UNSUCCESSFUL, by=(c.STATUS,)), legend(c.STATUS)),),
                colors=STATUS_COLORS,
                stacked=True,
                empty="none",
            ),
            Panel(
                "Calls by tool",
                "Per second. Click a tool to see nothing else.",
                Kind.TIME,
                Unit.REQUESTS_PER_SECOND,
                (Query(total(ask.rate(c.REQUESTS_TOTAL, OF_TOOLS), c.TOOL), legend(c.TOOL)),),
                stacked=True,
                empty="no tool calls",
            ),
            Panel(
                "p95 by tool",
                "Which tool is slow. 95 of 100 of its calls were faster.",
                Kind.TIME,
                Unit.SECONDS,
                (Query(quantile_by(0.95, c.REQUEST_DURATION, OF_TOOLS, by=(c.TOOL,)), legend(c.TOOL)),),
                empty="no tool calls",
            ),
            Panel(
                "Share of unsuccessful calls by tool",
                "Of each tool's calls: tool errors, failures, cancellations, all that is not ok.",
                Kind.TIME,
                Unit.RATIO,
                (Query(share_over_time(UNSUCCESSFUL, OF_TOOLS, by=(c.TOOL,)), legend(c.TOOL)),),
                highest=1.0,
                empty="no tool calls",
            ),
            _tools_table(),
            Panel(
                "Latency of requests",
                "All requests by duration: the darker, the more. Two bands are two kinds of requests.",
                Kind.HEATMAP,
                Unit.SECONDS,
                (Query(total(ask.rate(c.REQUEST_DURATION, part="bucket"), "le"), "{{le}}"),),
            ),
            Panel(
                "Top tools by errors",
                "The ten tools with the most unsuccessful calls in the time range.",
                Kind.BARS,
                Unit.NUMBER,
                (
                    Query(
                        top(10, during(c.REQUESTS_TOTAL, UNSUCCESSFUL, OF_TOOLS, by=(c.TOOL,))),
                        legend(c.TOOL),
                    ),
                ),
                empty="no errors",
                link=c.TOOL,
            ),
            Panel(
                "Top tools by payload",
                "The ten tools with the most bytes of results in the time range: what fills a model's context.",
                Kind.BARS,
                Unit.BYTES,
                (Query(top(10, during(c.RESPONSE_SIZE, OF_TOOLS, by=(c.TOOL,), part="sum")), legend(c.TOOL)),),
                empty="no tool calls",
                link=c.TOOL,
            ),
            Panel(
                "Prompts",
                "Prompts rendered, per second.",
                Kind.TIME,
                Unit.REQUESTS_PER_SECOND,
                (Query(total(ask.rate(c.REQUESTS_TOTAL, OF_PROMPTS), c.PROMPT), legend(c.PROMPT)),),
                empty="no prompts",
            ),
            Panel(
                "Errors in the time range",
                "Every kind of unsuccessful request, with its code or HTTP status.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(
                        f"{during(c.REQUESTS_TOTAL, UNSUCCESSFUL, by=(c.METHOD, c.TOOL, c.STATUS, c.ERROR_TYPE))} > 0",
                        "Count",
                    ),
                ),
                width=16,
                empty="no errors",
                keys={c.METHOD: "Method", c.TOOL: "Tool", c.STATUS: "Status", c.ERROR_TYPE: "Error"},
                sort="Count",
            ),
        ),
        collapsed=False,
    )


def _tools_table() -> Panel:
    by = (c.TOOL,)
    times = tuple(
        Query(
            ask.quantile_with_births(each, c.REQUEST_DURATION, OF_TOOLS, by=by, over=RANGE),
            f"p{round(100 * each)}",
            Unit.SECONDS,
        )
        for each in QUANTILES
    )
    return Panel(
        "Tools",
        "Every tool in the time range: how often, how well, how fast, how heavy. Click one to see nothing else.",
        Kind.TABLE,
        Unit.NUMBER,
        (
            Query(f"{during(c.REQUESTS_TOTAL, OF_TOOLS, by=by)} > 0", "Calls"),
            Query(share(TOOL_ERRORS, OF_TOOLS, by=by), "Tool errors", Unit.RATIO),
            Query(share(FAILURES, OF_TOOLS, by=by), "Failed", Unit.RATIO),
            *times,
            Query(ask.mean(c.RESPONSE_SIZE, OF_TOOLS, by=by, over=RANGE), "Mean result", Unit.BYTES),
        ),
        width=24,
        empty="no tool calls",
        keys={c.TOOL: "Tool"},
        sort="Calls",
        link=c.TOOL,
    )
