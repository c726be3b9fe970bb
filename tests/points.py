"""Reading metrics in tests: sums and counts by attributes, from a reader or from a scrape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

ROLE = "mcp.role"
DIRECTION = "mcp.direction"
TRANSPORT = "mcp.transport"
METHOD = "mcp.method.name"
TOOL = "gen_ai.tool.name"
PROMPT = "gen_ai.prompt.name"
STATUS = "status"
ERROR = "error.type"
MODE = "mcp.session.mode"


@dataclass(frozen=True)
class Point:
    """One data point: a number, or a histogram's count, sum and buckets."""

    metric: str
    attributes: dict[str, Any]
    value: float
    total: float = 0.0
    bounds: list[float] = field(default_factory=list[float])
    buckets: list[int] = field(default_factory=list[int])


class Points:
    """The points of one collection."""

    def __init__(self, points: Iterable[Point]) -> None:
        self.all = list(points)

    @classmethod
    def of(cls, reader: InMemoryMetricReader) -> Points:
        """Collect now."""
        data = reader.get_metrics_data()
        points: list[Point] = []
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        attributes = dict(point.attributes or {})
                        if isinstance(point, HistogramDataPoint):
                            bounds, buckets = list(point.explicit_bounds), list(point.bucket_counts)
                            points.append(Point(metric.name, attributes, point.count, point.sum, bounds, buckets))
                        elif isinstance(point, NumberDataPoint):
                            points.append(Point(metric.name, attributes, point.value))
        return cls(points)

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> Points:
        """What :meth:`to_json` wrote, in another process."""
        return cls(Point(**row) for row in rows)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data for another process."""
        return [vars(point) for point in self.all]

    def select(self, metric: str, where: Mapping[str, Any] | None = None) -> list[Point]:
        """The points of ``metric`` whose attributes include ``where``; None as a value means absent."""
        wanted = where or {}
        return [
            point
            for point in self.all
            if point.metric == metric and all(point.attributes.get(key) == value for key, value in wanted.items())
        ]

    def sum(self, metric: str, where: Mapping[str, Any] | None = None) -> float:
        """The values (a histogram's: the counts) of the selected points, added up."""
        return sum(point.value for point in self.select(metric, where))

    def by(self, key: str, metric: str, where: Mapping[str, Any] | None = None) -> dict[str, float]:
        """The sums of the selected points by the value of one attribute, zeros left out."""
        sums: dict[str, float] = {}
        for point in self.select(metric, where):
            value = str(point.attributes.get(key))
            sums[value] = sums.get(value, 0) + point.value
        return {value: number for value, number in sums.items() if number}
