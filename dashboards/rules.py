"""Recording rules: the ratios of the dashboards for good, and what the alerts are built on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER

from .promql import Source, among, differs, equals, none_of, ratio, total, window

OBJECTIVE: Final = 0.99
"""The share of requests that must not fail."""

ERROR_BUDGET: Final = round(1 - OBJECTIVE, 6)

FAILED: Final = ("server_error", "timeout", "connection_lost")
"""What counts against the objective: nobody gave the request up, nobody asked wrongly, and no good answer came.

Tool errors do not: what a tool tells a model is an answer. They have a ratio and an alert of their own.
"""

NOT_ANSWERED_AT_ONCE: Final = none_of(c.METHOD, "elicitation/create", "sampling/createMessage", "tasks/result")
"""What waits for a person, a model or a long task says nothing about latency."""

SLO_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
REQUESTS: Final = "mcp:requests:increase{}"
FAILURES: Final = "mcp:request_failures:increase{}"
FAILURE_RATIO: Final = "mcp:request_failures:ratio{}"
TOOL_CALLS: Final = "mcp:tool_calls:increase15m"
TOOL_ERROR_RATIO: Final = "mcp:tool_errors:ratio15m"
LATENCY: Final = "mcp:request_duration_seconds:p95_10m"
SESSIONS: Final = "mcp:sessions_active:sum"
SESSION_USE: Final = "mcp:session_requests:increase1h"
LOST_RATIO: Final = "mcp:connections_lost:ratio15m"
REFUSAL_RATIO: Final = "mcp:interceptor_rejections:ratio15m"
POOL_WAIT: Final = "mcp:pool_wait_duration_seconds:p95_10m"
REUSE_RATIO: Final = "mcp:pool_connections_reused:ratio15m"

SERVICE: Final = ("job", c.ROLE, c.DIRECTION, c.SERVER_NAME)
SESSION_OWNER: Final = ("job", c.ROLE, c.SERVER_NAME)
"""By what the rules tell things apart. Instances and workers come and go, services stay."""

every: Final = Source()


@dataclass(frozen=True)
class Recording:
    """One recording rule."""

    name: str
    expression: str

    def to_yaml(self) -> dict[str, Any]:
        return {"record": self.name, "expr": Literal(self.expression)}


@dataclass(frozen=True)
class Alert:
    """One alerting rule.

    Attributes:
        name: Its name.
        severity: ``critical`` is for now, ``warning`` for today, ``info`` to know.
        expression: It fires for every series of this.
        patience: How long that must have lasted.
        summary: One line.
        description: What is known, with the values.
        runbook: What to do.
        labels: Further labels, which tell alerts of one name apart.
    """

    name: str
    severity: str
    expression: str
    patience: str
    summary: str
    description: str
    runbook: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_yaml(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"alert": self.name, "expr": Literal(self.expression)}
        if self.patience:
            rule["for"] = self.patience
        texts = {"summary": self.summary, "description": self.description, "runbook": self.runbook}
        return {**rule, "labels": {"severity": self.severity, **self.labels}, "annotations": texts}


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, so that later ones see what earlier ones have recorded."""

    name: str
    rules: tuple[Recording | Alert, ...]


class Literal(str):
    """A string that is written in lines of its own."""


class _Dumper(yaml.SafeDumper):
    pass


def _literal(dumper: yaml.SafeDumper, text: Literal) -> yaml.ScalarNode:
    # PyYAML writes no block for a text with blanks before a line's end.
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return dumper.represent_scalar("tag:yaml.org,2002:str", lines, style="|")  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(Literal, _literal)


def to_yaml(groups: tuple[Group, ...], head: str) -> str:
    """A rule file."""
    content = {"groups": [{"name": each.name, "rules": [rule.to_yaml() for rule in each.rules]} for each in groups]}
    return head + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)


def _slo() -> tuple[Recording, ...]:
    """Long windows are made of what is recorded for the short one: those are few series, and what they stand for many.

    A ratio weighs all recorded values, a sum takes those that do not overlap.
    """
    base, *longer = SLO_WINDOWS
    over = window(base)
    requests, failures = REQUESTS.format(base), FAILURES.format(base)
    failed = total(every.increase(c.REQUESTS_TOTAL, among(c.STATUS, *FAILED), over=over), *SERVICE)
    rules = [
        Recording(requests, total(every.increase(c.REQUESTS_TOTAL, over=over), *SERVICE)),
        Recording(failures, f"{failed}\nor {requests} * 0"),
        Recording(FAILURE_RATIO.format(base), f"{failures} / ({requests} > 0)"),
    ]
    for each in longer:
        share = f"sum_over_time({failures}[{each}]) / (sum_over_time({requests}[{each}]) > 0)"
        rules.append(Recording(REQUESTS.format(each), f"sum_over_time({requests}[{each}:{base}])"))
        rules.append(Recording(FAILURE_RATIO.format(each), share))
    return tuple(rules)


def _recordings() -> tuple[Group, ...]:
    tool, method = (*SERVICE, c.TOOL), (*SERVICE, c.METHOD, c.TOOL)
    quarter, ten = window("15m"), window("10m")
    of_tools, unsuccessful = differs(c.TOOL, ""), among(c.STATUS, "tool_error", *FAILED)
    tool_errors = total(every.increase(c.REQUESTS_TOTAL, of_tools, unsuccessful, over=quarter), *tool)
    # A handshake is a request too; a session nobody uses makes one.
    use = none_of(c.METHOD, "initialize", "ping", "server/discover")
    lost = equals(c.STATUS, "peer_lost")
    connection = ("job", c.ROLE, c.TRANSPORT)
    ended, broken = (
        total(every.increase(c.CONNECTION_DURATION, *where, part="count", over=quarter), *connection)
        for where in ((), (lost,))
    )
    acted, rejected = (
        total(every.increase(c.INTERCEPTOR_ACTIONS, *where, over=quarter), "job", c.INTERCEPTOR)
        for where in ((), (equals(c.ACTION, "reject"),))
    )
    created, reused = (
        total(every.increase(each, over=quarter), "job", c.POOL) for each in (c.POOL_CREATED, c.POOL_REUSED)
    )
    either = f"(({created} or {reused} * 0) + ({reused} or {created} * 0))"
    by_pool = ("job", "instance", c.POOL)
    return (
        Group("mcp-requests", _slo()),
        Group(
            "mcp-methods-and-tools",
            (
                Recording(TOOL_CALLS, total(every.increase(c.REQUESTS_TOTAL, of_tools, over=quarter), *tool)),
                Recording(TOOL_ERROR_RATIO, ratio(tool_errors, TOOL_CALLS)),
                # Of buckets there are many, and one slow request is no trend: births do not matter here.
                Recording(
                    LATENCY,
                    every.quantile(0.95, c.REQUEST_DURATION, NOT_ANSWERED_AT_ONCE, by=method, over=ten),
                ),
            ),
        ),
        Group(
            "mcp-sessions",
            (
                Recording(SESSIONS, total(every.select(c.SESSIONS_ACTIVE), *SESSION_OWNER)),
                Recording(SESSION_USE, total(every.increase(c.REQUESTS_TOTAL, use, over=window("1h")), *SESSION_OWNER)),
                Recording(LOST_RATIO, ratio(broken, ended)),
            ),
        ),
        Group("mcp-interceptors", (Recording(REFUSAL_RATIO, ratio(rejected, acted)),)),
        Group(
            "mcp-pools",
            (
                Recording(POOL_WAIT, every.quantile(0.95, c.POOL_WAIT_DURATION, by=by_pool, over=ten)),
                Recording(REUSE_RATIO, ratio(reused, either)),
            ),
        ),
    )


RECORDINGS: Final = _recordings()


def label(attribute: str) -> str:
    """A label in an annotation, one that every alert of the rule has."""
    return f"{{{{ $labels.{prometheus_label(attribute)} }}}}"


def spoken(attribute: str, *, absent: str, other: str, given: str = "{}") -> str:
    """A label in an annotation, or what to say where the alert does not have it.

    Args:
        attribute: The attribute.
        absent: What stands there if there is no value.
        other: What stands there if the value was one too many to be kept.
        given: How a value stands there.
    """
    name = f"$labels.{prometheus_label(attribute)}"
    unknown = f'{{{{ if eq {name} "" }}}}{absent}{{{{ else if eq {name} "{OTHER}" }}}}{other}'
    return f"{unknown}{{{{ else }}}}{given.format(label(attribute))}{{{{ end }}}}"
