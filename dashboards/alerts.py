"""Alerting rules: what somebody should look at, and what to do then."""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label, prometheus_name
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER

from .promql import Matcher, equals, total, window
from .rules import (
    ERROR_BUDGET,
    FAILED,
    FAILURE_RATIO,
    LATENCY,
    OBJECTIVE,
    POOL_WAIT,
    REQUESTS,
    SESSION_OWNER,
    SESSION_USE,
    SESSIONS,
    TOOL_CALLS,
    TOOL_ERROR_RATIO,
    Alert,
    Group,
    every,
    label,
)

BURN_RATES: Final = (
    # The long and the short window, how many times too fast, for whom, and how many requests there must have been.
    ("1h", "5m", 14.4, "critical", 10),
    ("6h", "30m", 6.0, "critical", 10),
    ("1d", "2h", 3.0, "warning", 1),
    ("3d", "6h", 1.0, "warning", 1),
)
"""The usual pairs of windows: the long one says that it matters, the short one that it still goes on."""

SLOW_SECONDS: Final = 5.0
SLOW_POOL_SECONDS: Final = 0.25
"""Bounds of buckets: between two bounds a quantile is only an estimate."""

TOOL_ERRORS_OF_MANY: Final = 0.15
MANY_CALLS: Final = 5
MANY_DEAD_CLIENTS: Final = 5
MANY_REFUSALS: Final = 10
MANY_EVICTIONS: Final = 10
MANY_SESSIONS: Final = 10

_TEN: Final = window("10m")


def _burn(long: str, short: str, factor: float, severity: str, requests: int) -> Alert:
    limit = f"{factor:g} * {ERROR_BUDGET:g}"
    often = "more often" if factor == 1 else f"{factor:g} times more often"
    expression = (
        f"{FAILURE_RATIO.format(long)} > {limit}\n"
        f"and {FAILURE_RATIO.format(short)} > {limit}\n"
        f"and {REQUESTS.format(long)} >= {requests}"
    )
    return Alert(
        "MCPErrorBudgetBurn",
        severity,
        expression,
        "",
        f"Requests of {label(c.SERVER_NAME)} fail {often} than {OBJECTIVE:.0%} success allows",
        f"{{{{ $value | humanizePercentage }}}} of the {label(c.DIRECTION)} requests of the {label(c.ROLE)} "
        f"{label(c.SERVER_NAME)} (job {{{{ $labels.job }}}}) failed within {long}.",
        "Open the dashboard of the role, row Methods and tools. 'Errors in the time range' says which method or tool "
        f"and which code; {', '.join(FAILED)} count. server_error: look into the server's log for the exception. "
        "timeout: look at the latency of the same tool. connection_lost: look at the row Liveness.",
        {"long": long, "short": short},
    )


def _happened(metric: c.Metric, *where: Matcher, by: tuple[str, ...]) -> str:
    return total(every.increase(metric, *where, over=_TEN), *by)


def _latency() -> Alert:
    return Alert(
        "MCPRequestLatencyHigh",
        "warning",
        f"{LATENCY} > {SLOW_SECONDS:g}",
        "10m",
        f"{label(c.METHOD)} {label(c.TOOL)} of {label(c.SERVER_NAME)} is slow",
        f"p95 over 10 minutes is {{{{ $value | humanizeDuration }}}}, more than {SLOW_SECONDS:g} s, for the "
        f"{label(c.DIRECTION)} "
        f"requests of the {label(c.ROLE)} (job {{{{ $labels.job }}}}).",
        "Filter the dashboard by the tool. Many in flight: it waits for something, or blocks the event loop (then "
        "every "
        "tool is slow). Larger responses than usual: row Sizes. Fast on the server and slow on the client: row "
        "Client pool, "
        "or the network. On the server only: row Interceptors, then the tool itself.",
    )


def _tools() -> Alert:
    return Alert(
        "MCPToolErrorRatioHigh",
        "warning",
        f"{TOOL_ERROR_RATIO} > {TOOL_ERRORS_OF_MANY:g}\nand {TOOL_CALLS} >= {MANY_CALLS}",
        "",
        f"The tool {label(c.TOOL)} of {label(c.SERVER_NAME)} fails often",
        f"{{{{ $value | humanizePercentage }}}} of its calls within 15 minutes ended as tool_error, "
        f"{', '.join(FAILED)}.",
        "tool_error only: the tool raises, or models call it with arguments it does not take: read its description and "
        "its schema as a model would. Else see MCPErrorBudgetBurn. A release of the server just before is the first "
        "suspect: the dashboards mark restarts.",
    )


def _dead() -> tuple[Alert, Alert]:
    by = ("job", c.TRANSPORT, c.REASON)
    server, client = (_happened(c.DEAD_DETECTED, equals(c.ROLE, role), by=by) for role in ("client", "server"))
    return (
        Alert(
            "MCPDeadServer",
            "warning",
            f"{server} > 0",
            "",
            f"A client lost its server over {label(c.TRANSPORT)}",
            f"{{{{ $value | humanize }}}} sessions of clients (job {{{{ $labels.job }}}}) found their server dead "
            f"within 10 "
            f"minutes: {label(c.REASON)}.",
            "peer_closed over stdio: the server process ended; its standard error says why. Over HTTP: a restart, or a "
            "proxy that ends idle streams. session_not_found: the server restarted or evicted the session, or a "
            "balancer "
            "has no affinity. write_failed, ping_failed: the server is gone or does not answer.",
        ),
        Alert(
            "MCPDeadClients",
            "warning",
            f"{client} >= {MANY_DEAD_CLIENTS}",
            "",
            f"Clients vanish from a server over {label(c.TRANSPORT)}",
            f"{{{{ $value | humanize }}}} clients were found dead within 10 minutes: {label(c.REASON)} (job "
            f"{{{{ $labels.job }}}}).",
            "They went while the server owed them answers: is it slow (MCPRequestLatencyHigh), do clients run into "
            "their "
            "own timeouts, or does a proxy in between end connections?",
        ),
    )


def _errors() -> tuple[Alert, Alert]:
    by = ("job", c.TRANSPORT, c.ERROR_TYPE)
    client, server = (_happened(c.CONNECTION_ERRORS, equals(c.ROLE, role), by=by) for role in ("client", "server"))
    return (
        Alert(
            "MCPClientConnectionErrors",
            "warning",
            f"{client} > 0",
            "",
            f"A client cannot reach its server over {label(c.TRANSPORT)}",
            f"{{{{ $value | humanize }}}} failures within 10 minutes: {label(c.ERROR_TYPE)} (job "
            f"{{{{ $labels.job }}}}).",
            "A class of exception: the command cannot be started, or the host not be reached. 401 and 403: "
            "credentials. "
            "404: the session is unknown, or the URL wrong. 5xx: the server, or what stands before it. "
            "ValidationError: "
            "what came is no MCP message; over stdio something prints to standard output.",
        ),
        Alert(
            "MCPServerConnectionErrors",
            "warning",
            f"{server} >= {MANY_REFUSALS}",
            "",
            f"A server refuses what comes over {label(c.TRANSPORT)}",
            f"{{{{ $value | humanize }}}} refusals or broken messages within 10 minutes: {label(c.ERROR_TYPE)} (job "
            "{{ $labels.job }}).",
            "401, 403: credentials have expired, or somebody tries. 404: clients hold sessions of before a restart. "
            "413: "
            "bodies are larger than allowed. 421: the host header is not among the allowed ones. 503: the limit of "
            "sessions is reached, see MCPSessionLeak. -32700, ValidationError: what comes is no JSON-RPC.",
        ),
    )


def _leak() -> Alert:
    keys = ", ".join(prometheus_label(each) for each in SESSION_OWNER)
    return Alert(
        "MCPSessionLeak",
        "warning",
        f"{SESSIONS} - {SESSIONS} offset 1h >= {MANY_SESSIONS}\n"
        f"and {SESSIONS} > 1.5 * {SESSIONS} offset 1h\n"
        f"and on ({keys}) ({SESSION_USE} <= 1.1 * {SESSION_USE} offset 1h)",
        "30m",
        f"Sessions of {label(c.SERVER_NAME)} grow, requests do not",
        f"{{{{ $value | humanize }}}} sessions more than an hour ago in the {label(c.ROLE)} (job "
        f"{{{{ $labels.job }}}}), and no "
        "more requests.",
        "Somebody opens sessions and does not end them: clients without DELETE, which a server keeps until its idle "
        "timeout (set one), or an agent that opens one for every question. 'Sessions created' says how fast; memory "
        "grows with them.",
    )


def _evictions() -> Alert:
    by = ("job", c.TRANSPORT)
    evicted = total(every.increase(c.SESSIONS_EVICTED, over=window("15m")), *by)
    before = total(f"increase({every.select(c.SESSIONS_EVICTED)}[6h] offset 15m)", *by)
    return Alert(
        "MCPSessionEvictionsSurge",
        "warning",
        f"{evicted} >= {MANY_EVICTIONS}\nand {evicted} > 3 * ({before} / 24 or {evicted} * 0)",
        "",
        f"A server evicts many sessions over {label(c.TRANSPORT)}",
        "{{ $value | humanize }} idle sessions were evicted within 15 minutes, three times what was usual in the 6 "
        "hours before "
        "(job {{ $labels.job }}).",
        "Clients that went away some time ago without a DELETE: did many of them crash or get deployed, or is the idle "
        "timeout shorter than their pauses? Then they come back with MCPDeadServer, session_not_found.",
    )


def _pool() -> Alert:
    return Alert(
        "MCPPoolSaturated",
        "warning",
        f"{POOL_WAIT} > {SLOW_POOL_SECONDS:g}",
        "5m",
        f"A client waits for HTTP connections to {label(c.POOL)}",
        "p95 of the wait is {{ $value | humanizeDuration }} (job {{ $labels.job }}, {{ $labels.instance }}).",
        "The client's pool is too small for what it does at a time: raise max_connections of the HTTP client, have "
        "fewer "
        "standalone streams, or speak JSON responses or 2026-07-28, which give connections back.",
    )


def _targets() -> tuple[Alert, Alert]:
    present = prometheus_name(c.MEMORY_USAGE)
    return (
        Alert(
            "MCPTargetDown",
            "critical",
            f"up == 0\nand on (job, instance) count_over_time({present}[1d]) > 0",
            "5m",
            "{{ $labels.instance }} does not answer Prometheus",
            "{{ $labels.instance }} of job {{ $labels.job }} had MCP metrics within the last day and cannot be "
            "scraped.",
            "The process ended, hangs, or its metrics port moved (the log has a line on that). A killed stdio server "
            "leaves its target file until the next one starts.",
        ),
        Alert(
            "MCPTargetsMissing",
            "info",
            f"count by (job) (count_over_time({present}[1h] offset 10m))\nunless on (job) up",
            "10m",
            "Job {{ $labels.job }} has no targets any more",
            "{{ $value | humanize }} processes of job {{ $labels.job }} were there an hour ago, and Prometheus knows "
            "none now.",
            "Service discovery lost them, or the configuration did. For stdio servers it is what happens when the "
            "editor "
            "is closed.",
        ),
    )


def _folded() -> Alert:
    """A name that works and reads _OTHER has found its table full; unknown tools that peers invent do not work."""
    worked = equals(c.STATUS, "ok")
    hour = window("1h")
    parts = (
        (c.REQUESTS_TOTAL, c.TOOL, (worked,)),
        (c.REQUESTS_TOTAL, c.PROMPT, (worked,)),
        (c.REQUESTS_TOTAL, c.METHOD, (worked,)),
        (c.REQUESTS_TOTAL, c.SERVER_NAME, ()),
        (c.INTERCEPTOR_ACTIONS, c.INTERCEPTOR, ()),
        (c.POOL_CREATED, c.POOL, ()),
    )
    expression = "\nor\n".join(
        f"label_replace({total(every.increase(metric, equals(attribute, OTHER), *where, over=hour), 'job', 'instance')}"
        f', "label", "{prometheus_label(attribute)}", "", "") > 0'
        for metric, attribute, where in parts
    )
    return Alert(
        "MCPLabelsFolded",
        "info",
        expression,
        "",
        f"Values of {{{{ $labels.label }}}} are counted as {OTHER}",
        "{{ $value | humanize }} events within the hour on {{ $labels.instance }} had a "
        "{{ $labels.label }} beyond the "
        "limit. Sums are right, names are lost.",
        "More tools, servers, pools or interceptors than the limits allow. Raise OTEL_INSTRUMENTATION_MCP_MAX_NAMES "
        "and "
        "OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS together (docs/metrics.md, Bounds).",
    )


def _interceptors() -> Alert:
    return Alert(
        "MCPInterceptorErrors",
        "warning",
        f"{_happened(c.INTERCEPTOR_ERRORS, by=('job', c.INTERCEPTOR, c.ERROR_TYPE))} > 0",
        "",
        f"The interceptor {label(c.INTERCEPTOR)} raises {label(c.ERROR_TYPE)}",
        "{{ $value | humanize }} exceptions that are no refusal began in it within 10 minutes (job {{ $labels.job }}).",
        "It is a bug of the interceptor, or something it depends on is away (a token verifier's issuer, for one). "
        "Requests "
        "that pass through it fail.",
    )


ALERTS: Final = (
    Group("mcp-slo", tuple(_burn(*each) for each in BURN_RATES)),
    Group(
        "mcp-alerts",
        (
            _latency(),
            _tools(),
            *_dead(),
            *_errors(),
            _leak(),
            _evictions(),
            _pool(),
            _interceptors(),
            *_targets(),
            _folded(),
        ),
    ),
)
