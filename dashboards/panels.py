"""What a dashboard consists of, as data: rows of panels with their queries. :mod:`dashboards.grafana` draws them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label


class Kind(Enum):
    """How a panel shows its answers."""

    STAT = "stat"
    TIME = "timeseries"
    BARS = "bargauge"
    TABLE = "table"
    HEATMAP = "heatmap"


class Unit(str, Enum):
    """Grafana's names of units."""

    NUMBER = "short"
    RATIO = "percentunit"
    SECONDS = "s"
    AGE = "dtdurations"
    BYTES = "bytes"
    BYTES_PER_SECOND = "binBps"
    REQUESTS_PER_SECOND = "reqps"
    PER_SECOND = "cps"
    PER_MINUTE = "cpm"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: PromQL.
        name: The legend, with ``{{label}}`` for labels; in a table the title of the column.
        unit: Of a column of a table, where it is not the panel's.
        right: Whether it has the axis on the right, since its values are of another kind.
    """

    expression: str
    name: str
    unit: Unit | None = None
    right: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: Unique within the dashboard: the panel's id follows from it.
        description: What it answers, in a sentence.
        kind: How it looks.
        unit: The unit of its values, in a heat map of its buckets.
        queries: What it asks.
        width: Of 24 columns.
        height: Of rows of some 30 pixels.
        levels: Colours from a value on; below the first it is green.
        highest: The end of the axis, where there is one by nature.
        stacked: Whether lines add up to something.
        empty: What it shows where there is nothing, and what that means.
        keys: The columns of a table that tell its rows apart: attributes and their titles.
        sort: The column of a table to sort by, the largest first.
        link: The attribute by which a click filters the dashboard.
        colors: Series that always look the same.
    """

    title: str
    description: str
    kind: Kind
    unit: Unit
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    levels: Mapping[float, str] = field(default_factory=dict[float, str])
    highest: float | None = None
    stacked: bool = False
    empty: str = "no data"
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    sort: str = ""
    link: str = ""
    colors: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Row:
    """A row of panels; collapsed ones ask nothing until somebody opens them."""

    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = True


def legend(*attributes: str) -> str:
    """A legend of nothing but labels."""
    return " ".join(f"{{{{{prometheus_label(attribute)}}}}}" for attribute in attributes)


def stat(
    title: str,
    description: str,
    unit: Unit,
    expression: str,
    *,
    levels: Mapping[float, str] | None = None,
    highest: float | None = None,
    empty: str = "no data",
) -> Panel:
    """A number, as large as it gets."""
    query = (Query(expression, title),)
    return Panel(title, description, Kind.STAT, unit, query, 3, 4, levels or {}, highest, empty=empty)
