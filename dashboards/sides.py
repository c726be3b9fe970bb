"""The two points of view, what their dashboards can be filtered by, and how rows ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Direction, Role

from .grafana import Variable
from .panels import Query
from .promql import (
    PRESENCE,
    RANGE,
    RATE_INTERVAL,
    Matcher,
    Source,
    among,
    differs,
    equals,
    ratio,
    total,
)
from .rules import ERROR_BUDGET, FAILED

QUANTILES: Final = (0.5, 0.95, 0.99)
FAILURES: Final = among(c.STATUS, *FAILED)
TOOL_ERRORS: Final = equals(c.STATUS, "tool_error")
UNSUCCESSFUL: Final = differs(c.STATUS, "ok")
OF_TOOLS: Final = differs(c.TOOL, "")
OF_PROMPTS: Final = differs(c.PROMPT, "")

FEW: Final = {0.001: "yellow", ERROR_BUDGET: "orange", 0.05: "red"}
ANY: Final = {1.0: "orange", 10.0: "red"}
STATUS_COLORS: Final = {
    "ok": "green",
    "tool_error": "orange",
    "client_error": "yellow",
    "cancelled": "blue",
    "server_error": "red",
    "timeout": "purple",
    "connection_lost": "dark-red",
}


@dataclass(frozen=True)
class Side:
    """The point of view of a dashboard.

    Attributes:
        role: What the process is.
        direction: Of the requests that it is there for: a server answers, a client asks.
        operations: The conventions' histogram of those.
        asked_back: The conventions' histogram of the others.
        sessions: The conventions' histogram of sessions.
    """

    role: Role
    direction: Direction
    operations: c.Metric
    asked_back: c.Metric
    sessions: c.Metric

    @property
    def opposite(self) -> Direction:
        return Direction.OUTBOUND if self.direction is Direction.INBOUND else Direction.INBOUND


SERVER: Final = Side(
    Role.SERVER,
    Direction.INBOUND,
    c.SERVER_OPERATION_DURATION,
    c.CLIENT_OPERATION_DURATION,
    c.SERVER_SESSION_DURATION,
)
CLIENT: Final = Side(
    Role.CLIENT,
    Direction.OUTBOUND,
    c.CLIENT_OPERATION_DURATION,
    c.SERVER_OPERATION_DURATION,
    c.CLIENT_SESSION_DURATION,
)

_OURS: Final = ('job=~"$job"', 'instance=~"$instance"')
_FILTERS: Final = {
    c.ROLE: "role",
    c.DIRECTION: "direction",
    c.TRANSPORT: "transport",
    c.SERVER_NAME: "server",
    c.METHOD: "method",
    c.TOOL: "tool",
}
ask: Final = Source(_OURS, _FILTERS)
"""Everything on a dashboard is asked through its variables."""


def variables(side: Side) -> tuple[Variable, ...]:
    """What a dashboard can be filtered by."""
    everyone = Source(('job=~"$job"',)).select(PRESENCE)
    requests = Source(_OURS, {c.ROLE: "role", c.DIRECTION: "direction"}).select(c.REQUESTS_TOTAL)
    connections = Source(_OURS, {c.ROLE: "role"}).select(c.CONNECTIONS_TOTAL)
    roles, directions = tuple(each.value for each in Role), tuple(each.value for each in Direction)
    return (
        Variable("job", "Job", "job", Source().select(PRESENCE)),
        Variable("instance", "Instance", "instance", everyone),
        Variable("role", "Role", "mcp_role", values=roles, chosen=side.role.value),
        Variable("direction", "Direction", "mcp_direction", values=directions, chosen=side.direction.value),
        Variable("server", "Server", "mcp_server_name", requests),
        Variable("transport", "Transport", "mcp_transport", connections),
        Variable("method", "Method", "mcp_method_name", requests),
        Variable("tool", "Tool", "gen_ai_tool_name", requests),
    )


def per_minute(metric: c.Metric, *where: Matcher, by: tuple[str, ...], part: str = "") -> str:
    """Rare events, the first of them included."""
    increase = total(ask.increase(metric, *where, part=part, over=RATE_INTERVAL), *by)
    return f"{increase} * 60 / ({RATE_INTERVAL.seconds})"


def during(metric: c.Metric, *where: Matcher, by: tuple[str, ...] = (), part: str = "") -> str:
    """How many in the time range."""
    return total(ask.increase(metric, *where, part=part, over=RANGE), *by)


def share_over_time(where: Matcher, *others: Matcher, by: tuple[str, ...] = ()) -> str:
    parts = (ask.increase(c.REQUESTS_TOTAL, *given, over=RATE_INTERVAL) for given in ((where, *others), others))
    return ratio(total(next(parts), *by), total(next(parts), *by))


def share(where: Matcher, *others: Matcher, by: tuple[str, ...] = ()) -> str:
    part = during(c.REQUESTS_TOTAL, where, *others, by=by)
    return ratio(part, during(c.REQUESTS_TOTAL, *others, by=by))


def quantiles(metric: c.Metric, *where: Matcher, name: str = "p{}") -> tuple[Query, ...]:
    """A line for each."""
    return tuple(
        Query(ask.quantile(each, metric, *where, by=(), over=RATE_INTERVAL), name.format(round(100 * each)))
        for each in QUANTILES
    )


def quantile_by(quantile: float, metric: c.Metric, *where: Matcher, by: tuple[str, ...]) -> str:
    return ask.quantile(quantile, metric, *where, by=by, over=RATE_INTERVAL)
