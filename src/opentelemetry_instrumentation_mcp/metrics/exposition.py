"""How the metrics of the catalogue are called on a Prometheus page, for documentation, dashboards and rules.

The exporter makes these names by itself; a test compares.
"""

from __future__ import annotations

from typing import Final

from .catalogue import Instrument, Metric

UNIT_SUFFIXES: Final = {"s": "seconds", "By": "bytes"}


def prometheus_name(metric: Metric) -> str:
    """The family a metric is in on a Prometheus page."""
    name = metric.name.replace(".", "_")
    if metric.unit in UNIT_SUFFIXES:
        name = f"{name}_{UNIT_SUFFIXES[metric.unit]}"
    if metric.instrument is Instrument.COUNTER:
        name = f"{name.removesuffix('_total')}_total"
    return name


def prometheus_label(attribute: str) -> str:
    """The label an attribute becomes."""
    return attribute.replace(".", "_")


def prometheus_samples(metric: Metric) -> tuple[str, ...]:
    """The names its samples have; a histogram has three."""
    name = prometheus_name(metric)
    if metric.instrument is Instrument.HISTOGRAM:
        return f"{name}_bucket", f"{name}_sum", f"{name}_count"
    return (name,)
