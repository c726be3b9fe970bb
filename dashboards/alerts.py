"""Alerting rules: what somebody should look at, and what to do then."""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER

from .promql import PRESENCE, Matcher, equals, processes, total, window
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
    spoken,
)

BURN_RATES: Final = {
    # The long and the short window, and how many times too fast. The long one says that it matters, the short one that
    # it still goes on.
    "critical": (("1h", "5m", 14.4), ("6h", "30m", 6.0)),
    "warning": (("1d", "2h", 3.0), ("3d", "6h", 1.0)),
}
"""The usual pairs of windows."""

ENOUGH_REQUESTS: Final = 10
ENOUGH_FAILURES: Final = {"critical": 5, "warning": 2}
"""In the long window. One request that fails is nobody's page, and of few requests any failure is a large share."""

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


_SERVER: Final = spoken(
    c.SERVER_NAME, absent="a server that has not given its name", other="servers beyond the limit of names"
)
_TOOL: Final = spoken(c.TOOL, absent="", other=" of tools beyond the limit of names", given=" of the tool {}")
_METHOD: Final = spoken(c.METHOD, absent="a method", other="a method beyond the limit of names")
_POOL: Final = spoken(c.POOL, absent="a host", other="hosts beyond the limit of names")
_INTERCEPTOR: Final = spoken(
    c.INTERCEPTOR, absent="An interceptor", other="An interceptor beyond the limit of names", given="The interceptor {}"
)
_EXCEPTION: Final = spoken(c.ERROR_TYPE, absent="an exception", other="an exception of another class")
_ERROR: Final = spoken(c.ERROR_TYPE, absent="of an unknown kind", other="of a kind beyond the limit of names")
_COUNT: Final = '{{ printf "%.0f" $value }}'
"""An increase is an estimate, and what happened once reads 1."""
_TRANSPORT: Final = spoken(c.TRANSPORT, absent="", other=" over a transport of its own", given=" over {}")


def _burns(severity: str) -> str:
    """Too many requests fail, over one of the pairs of windows."""
    failures = ENOUGH_FAILURES[severity] - 0.5
    pairs: list[str] = []
    for long, short, factor in BURN_RATES[severity]:
        limit, ratio, requests = f"{factor:g} * {ERROR_BUDGET:g}", FAILURE_RATIO.format(long), REQUESTS.format(long)
        pairs.append(
            f"(\n  {ratio} > {limit}\n  and {FAILURE_RATIO.format(short)} > {limit}"
            f"\n  and {requests} >= {ENOUGH_REQUESTS}"
            # An increase is an estimate: half of one is left to it.
            f"\n  and {ratio} * {requests} >= {failures:g}\n)"
        )
    return "\nor\n".join(pairs)


def _burn(severity: str, expression: str) -> Alert:
    over = ", or ".join(
        f"more than {100 * factor * ERROR_BUDGET:.3g}% within {long} and within {short}"
        for long, short, factor in BURN_RATES[severity]
    )
    return Alert(
        "MCPErrorBudgetBurn",
        severity,
        expression,
        "",
        f"Requests fail more often than {OBJECTIVE:.0%} success allows: {label(c.ROLE)} side of {_SERVER}",
        f"{{{{ $value | humanizePercentage }}}} of the {label(c.DIRECTION)} requests on the {label(c.ROLE)} side of "
        f"{_SERVER} (job {{{{ $labels.job }}}}) failed: {over}.",
        "Open the dashboard of the role, row Methods and tools. 'Errors in the time range' says which method or tool "
        f"and which code; {', '.join(FAILED)} count. server_error: look into the server's log for the exception. "
        "timeout: look at the latency of the same tool. connection_lost: look at the row Liveness. A client knows no "
        "name of a server whose handshake failed: MCPClientConnectionErrors says why.",
    )


def _error_budget() -> tuple[Alert, Alert]:
    """One alert for each side of each server: what is a page is no ticket as well."""
    # In a client the requests without a name are handshakes that failed. All that succeed have one, so their share is
    # no measure.
    unnamed = every.named(REQUESTS.format("6h"), str(equals(c.ROLE, "client")), str(equals(c.SERVER_NAME, "")))
    page = f"(\n{_burns('critical')}\n)\nunless {unnamed}"
    ticket = f"(\n{_burns('warning')}\n)\nunless (\n{page}\n)"
    return _burn("critical", page), _burn("warning", ticket)


def _happened(metric: c.Metric, *where: Matcher, by: tuple[str, ...]) -> str:
    return total(every.increase(metric, *where, over=_TEN), *by)


def _latency() -> Alert:
    return Alert(
        "MCPRequestLatencyHigh",
        "warning",
        f"{LATENCY} > {SLOW_SECONDS:g}",
        "10m",
        f"{_METHOD}{_TOOL} of {_SERVER} is slow",
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
        f"Calls{_TOOL} of {_SERVER} fail often",
        f"{{{{ $value | humanizePercentage }}}} of the calls within 15 minutes, seen by the {label(c.ROLE)} (job "
        f"{{{{ $labels.job }}}}), ended as tool_error, {', '.join(FAILED)}.",
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
            f"A client lost its server{_TRANSPORT}",
            f"{_COUNT} sessions of clients (job {{{{ $labels.job }}}}) found their server dead "
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
            f"Clients vanish from a server{_TRANSPORT}",
            f"{_COUNT} clients were found dead within 10 minutes: {label(c.REASON)} (job {{{{ $labels.job }}}}).",
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
            f"A client cannot reach its server{_TRANSPORT}",
            f"{_COUNT} failures within 10 minutes: {_ERROR} (job {{{{ $labels.job }}}}).",
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
            f"A server refuses what comes{_TRANSPORT}",
            f"{_COUNT} refusals or broken messages within 10 minutes: {_ERROR} (job {{{{ $labels.job }}}}).",
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
        f"Sessions of {_SERVER} grow, requests do not",
        f"{_COUNT} sessions more than an hour ago in the {label(c.ROLE)} (job "
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
        f"A server evicts many sessions{_TRANSPORT}",
        f"{_COUNT} idle sessions were evicted within 15 minutes, three times what was usual in the 6 "
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
        f"A client waits for HTTP connections to {_POOL}",
        "p95 of the wait is {{ $value | humanizeDuration }} (job {{ $labels.job }}, {{ $labels.instance }}).",
        "The client's pool is too small for what it does at a time: raise max_connections of the HTTP client, have "
        "fewer "
        "standalone streams, or speak JSON responses or 2026-07-28, which give connections back.",
    )


def _targets() -> tuple[Alert, ...]:
    known = f"on (job, instance) count_over_time({every.select(PRESENCE)}[1d]) > 0"
    before = processes(f"count_over_time({every.select(PRESENCE)}[1h] offset 10m)")
    summary = "{{ $labels.instance }} does not answer Prometheus"
    return (
        Alert(
            "MCPTargetDown",
            "critical",
            f'up{{pid=""}} == 0\nand {known}',
            "5m",
            summary,
            "{{ $labels.instance }} of job {{ $labels.job }} had MCP metrics within the last day and cannot be "
            "scraped.",
            "The process ended, hangs, or its metrics port moved (the log has a line on that).",
        ),
        # It has written the file itself, and stdio servers come and go: one that is killed leaves its file behind.
        Alert(
            "MCPTargetDown",
            "warning",
            f'up{{pid!=""}} == 0\nand {known}\nunless on (job, instance) up == 1',
            "30m",
            summary,
            "{{ $labels.service }}, process {{ $labels.pid }} at {{ $labels.instance }} (job {{ $labels.job }}), had "
            "MCP metrics within the last day and cannot be scraped. Its target file is still there.",
            "The process was killed, or hangs. A killed server leaves its target file until the next server with the "
            "same directory starts: if nothing is to run there, delete the file.",
        ),
        Alert(
            "MCPTargetsMissing",
            "info",
            # What is sent by OTLP has no targets.
            f"count by (job) ({before})\nunless on (job) up\nunless on (job) {every.select(PRESENCE)}",
            "10m",
            "Job {{ $labels.job }} has no MCP processes any more",
            f"{_COUNT} processes of job {{{{ $labels.job }}}} were there within the last hour, and Prometheus knows "
            "none now.",
            "Scraped: service discovery lost them, or the configuration did. Sent by OTLP: they have ended, or what "
            "they send no longer arrives. For stdio servers it is what happens when the editor is closed.",
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
        f"{_COUNT} events within the hour on {{{{ $labels.instance }}}} had a "
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
        f"{_INTERCEPTOR} raises {_EXCEPTION}",
        f"{_COUNT} exceptions that are no refusal began in it within 10 minutes (job {{{{ $labels.job }}}}).",
        "It is a bug of the interceptor, or something it depends on is away (a token verifier's issuer, for one). "
        "Requests "
        "that pass through it fail.",
    )


ALERTS: Final = (
    Group("mcp-slo", _error_budget()),
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
