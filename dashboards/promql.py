"""PromQL from rows of the catalogue: no metric or label is named otherwise, so none can be wrong.

Prometheus sees no increase in a counter that is born with a value, and the first failure of its kind usually is. The
:meth:`Source.increase` of this module counts it. It also counts what a process that has just started brings along with
its first scrape, and leaves out what happened before Prometheus knew of a process.

A process is there if it shows :data:`PRESENCE`. A scrape also gives ``up`` and ``process_start_time_seconds``; a
process that sends its metrics by OTLP has neither, so no expression may need them unless it is about scrapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry_instrumentation_mcp.metrics.catalogue import MEMORY_USAGE, Instrument, Metric
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label, prometheus_name

PRESENCE: Final = MEMORY_USAGE
"""What every process shows at all times, and each of its workers, and nothing else of that Prometheus."""


@dataclass(frozen=True)
class Matcher:
    """A condition on one attribute."""

    attribute: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f'{prometheus_label(self.attribute)}{self.operator}"{self.value}"'


def equals(attribute: str, value: str) -> Matcher:
    return Matcher(attribute, "=", value)


def differs(attribute: str, value: str) -> Matcher:
    return Matcher(attribute, "!=", value)


def among(attribute: str, *values: str) -> Matcher:
    return Matcher(attribute, "=~", "|".join(values))


def none_of(attribute: str, *values: str) -> Matcher:
    return Matcher(attribute, "!~", "|".join(values))


@dataclass(frozen=True)
class Window:
    """A stretch of time, as a PromQL duration and as an expression for its seconds."""

    duration: str
    seconds: str

    def __str__(self) -> str:
        return self.duration


RATE_INTERVAL = Window("$__rate_interval", "$__rate_interval_ms / 1000")
"""For graphs: Grafana makes it as long as it takes."""

RANGE = Window("$__range", "$__range_s")
"""All of what the dashboard shows."""


def window(duration: str) -> Window:
    """A fixed one, such as ``30m``."""
    seconds = int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
    return Window(duration, str(seconds))


@dataclass(frozen=True)
class Source:
    """Whose series are asked for.

    Attributes:
        common: Matchers every selector has.
        variables: For each attribute a dashboard can filter by, the variable; metrics without the attribute are not
            filtered by it.
    """

    common: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    def select(self, metric: Metric, *where: Matcher, part: str = "") -> str:
        """The selector of a metric; ``part`` is one of ``bucket``, ``sum``, ``count`` of a histogram.

        Raises:
            ValueError: If the metric has no such attribute or part.
        """
        if (metric.instrument is Instrument.HISTOGRAM) != bool(part):
            raise ValueError(f"{metric.name} is asked for its {part or 'value'}")
        for matcher in where:
            if matcher.attribute not in metric.attributes:
                raise ValueError(f"{metric.name} has no attribute {matcher.attribute}")
        # What is required takes the place of a variable; what is excluded comes on top.
        given = {matcher.attribute for matcher in where if matcher.operator in ("=", "=~")}
        filters = [
            f'{prometheus_label(attribute)}=~"${variable}"'
            for attribute, variable in self.variables.items()
            if attribute in metric.attributes and attribute not in given
        ]
        matchers = ",".join((*self.common, *filters, *map(str, where)))
        name = f"{prometheus_name(metric)}_{part}" if part else prometheus_name(metric)
        return f"{name}{{{matchers}}}" if matchers else name

    def named(self, name: str, *matchers: str) -> str:
        """The selector of a series that is not of the catalogue, such as ``up``."""
        return f"{name}{{{','.join((*self.common, *matchers))}}}" if self.common or matchers else name

    def rate(self, metric: Metric, *where: Matcher, part: str = "", over: Window = RATE_INTERVAL) -> str:
        """Per second, of what happens all the time."""
        return f"rate({self.select(metric, *where, part=part)}[{over}])"

    def increase(self, metric: Metric, *where: Matcher, part: str = "", over: Window = RANGE) -> str:
        """How much was added, the value a series was born with included.

        A series that is there and was not one window ago has its whole value from within the window if its process
        was there before without it, or has started since. Where it was reset as well, its increase says more.
        """
        series = self.select(metric, *where, part=part)
        # By instance: it can have several workers, and two targets, the file of a dead process and one at its old port.
        # A scrape counts even before the process has metrics of ours; what comes by OTLP has no scrapes.
        scraped, shown = (
            f"sum_over_time({self.named('up')}[{over}])",
            f"count_over_time({self.select(PRESENCE)}[{over}])",
        )
        present = f"max by (job, instance) ({scraped} or {shown})"
        started = f"{self.named('process_start_time_seconds')} > bool time() - {over.seconds}"
        # In a process that has just started a series is always younger, as if the process had been there once more.
        return (
            f"\n  {series}\n  unless {series} offset {over}\n  unless resets({series}[{over}]) > 0"
            f"\n  and count_over_time({series}[{over}]) < on (job, instance) group_left () ("
            f"\n    {present} + on (job, instance) max by (job, instance) ({started})"
            f"\n    or {present}\n  )"
            f"\n  or increase({series}[{over}])\n"
        )

    def quantile(self, quantile: float, metric: Metric, *where: Matcher, by: tuple[str, ...], over: Window) -> str:
        """A quantile of a histogram; nothing where nothing was measured, instead of NaN."""
        buckets = total(self.rate(metric, *where, part="bucket", over=over), "le", *by)
        return f"histogram_quantile({quantile:g}, {buckets}) >= 0"

    def quantile_with_births(
        self, quantile: float, metric: Metric, *where: Matcher, by: tuple[str, ...], over: Window
    ) -> str:
        """Likewise, of rare events: the first of them counts."""
        buckets = total(self.increase(metric, *where, part="bucket", over=over), "le", *by)
        return f"histogram_quantile({quantile:g}, {buckets}) >= 0"

    def mean(self, metric: Metric, *where: Matcher, by: tuple[str, ...], over: Window) -> str:
        """The mean of a histogram's values."""
        both = (total(self.increase(metric, *where, part=part, over=over), *by) for part in ("sum", "count"))
        return " / ".join((next(both), f"({next(both)} > 0)"))


def total(expression: str, *by: str) -> str:
    """The sum, by attributes or plain labels."""
    labels = ", ".join(map(prometheus_label, by))
    return f"sum by ({labels}) ({expression})" if by else f"sum({expression})"


def processes(selector: str) -> str:
    """A series for each process; its workers, and all else it shows, count once."""
    return f"count by (job, instance) ({selector})"


def ratio(part: str, whole: str) -> str:
    """From 0 to 1 where there is a whole; a part without series is 0, and nothing is divided by 0."""
    nothing = "vector(0)" if part.startswith("sum(") else f"{whole} * 0"
    return f"({part} or {nothing}) / ({whole} > 0)"


def or_zero(expression: str) -> str:
    """0 instead of nothing, for sums without labels."""
    return f"{expression} or vector(0)"


def top(count: int, expression: str) -> str:
    """The largest, zeros left out."""
    return f"topk({count}, {expression} > 0)"
