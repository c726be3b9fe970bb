"""The queries of the shipped dashboards, and a Prometheus to ask them of, as Grafana would.

For the tests and the pictures. Needs nothing but this package.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry_instrumentation_mcp.dashboards import shipped

FILES: Final = ("grafana/mcp-server.json", "grafana/mcp-client.json")
RATIO: Final = "percentunit"

# What is asked is on this machine: no proxy knows it.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class PanelQuery:
    """One target of one panel."""

    dashboard: str
    panel: str
    name: str
    unit: str
    instant: bool
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.name}"


@dataclass(frozen=True)
class Answered:
    """One series of an answer: its labels, its values, the last one last, and when each of them was."""

    labels: dict[str, str]
    values: list[float]
    times: list[float]


def panels_of(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that asks something; collapsed rows hold theirs."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


def queries() -> list[PanelQuery]:
    """Every query of every panel."""
    found: list[PanelQuery] = []
    for file in FILES:
        dashboard: dict[str, Any] = json.loads(shipped()[file])
        for panel in panels_of(dashboard):
            found.extend(queries_of(dashboard["uid"], panel))
    return found


def queries_of(dashboard: str, panel: dict[str, Any]) -> Iterator[PanelQuery]:
    """The queries of one panel."""
    units = {
        override["matcher"]["options"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "unit"
    }
    for target in panel["targets"]:
        name = target["legendFormat"]
        unit = units.get(name, panel["fieldConfig"]["defaults"]["unit"])
        yield PanelQuery(dashboard, panel["title"], name, unit, bool(target.get("instant")), target["expr"])


def variables(file: str) -> dict[str, str]:
    """What each variable stands for when the dashboard is opened."""
    values: dict[str, str] = {}
    for variable in json.loads(shipped()[file])["templating"]["list"]:
        if variable["type"] != "datasource":
            current = variable["current"]["value"]
            values[variable["name"]] = variable["allValue"] if current == "$__all" else current
    return values


def filled(expression: str, values: dict[str, str], *, seconds: int, rate_interval: int) -> str:
    """The expression with its variables replaced, as Grafana does."""
    given = {
        **values,
        "__range": f"{seconds}s",
        "__range_s": str(seconds),
        "__rate_interval": f"{rate_interval}s",
        "__rate_interval_ms": str(1000 * rate_interval),
    }
    return re.sub(r"\$(\w+)", lambda found: given[found[1]], expression)


class Prometheus:
    """The HTTP interface of a Prometheus."""

    def __init__(self, base: str) -> None:
        self.base = base

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error of Prometheus' is raised with its own words."""
        url = f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with _OPENER.open(url, timeout=30) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.loads(error.read())["error"]) from error

    def instant(self, expression: str, at: float) -> list[Answered]:
        data = self.get("query", query=expression, time=str(at))
        if data["resultType"] == "scalar":
            return [Answered({}, [float(data["result"][1])], [at])]
        return [Answered(each["metric"], [float(each["value"][1])], [at]) for each in data["result"]]

    def over(self, expression: str, start: float, end: float, step: int) -> list[Answered]:
        data = self.get("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [
            Answered(
                each["metric"], [float(value) for _, value in each["values"]], [time for time, _ in each["values"]]
            )
            for each in data["result"]
        ]
