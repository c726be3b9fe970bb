"""What the shipped dashboards and rules speak of: the metrics and labels in their expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Metric
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label, prometheus_samples

SAMPLES: Final[dict[str, Metric]] = {name: metric for metric in CATALOGUE for name in prometheus_samples(metric)}
"""Every name a sample of ours can have."""

OF_PROMETHEUS: Final = {
    "up": {"job", "instance", "pid"},
    "process_start_time_seconds": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "job", "mcp_role"},
}
OF_TARGETS: Final = frozenset({"job", "instance"})

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_WINDOW: Final = re.compile(r"\[[^\]]*\]|\boffset\s+[\w$]+")
_SERIES: Final = re.compile(r"(?<![\w$:.])([A-Za-z_:][\w:]*)(?:\{([^}]*)\})?")
_WORDS_OF_PROMQL: Final = frozenset(
    re.findall(
        r"\w+",
        "and or unless on by without group_left offset bool sum count max topk rate increase resets sum_over_time "
        "count_over_time histogram_quantile label_replace time vector",
    )
)
_GROUPING: Final = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")


def series_of(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series an expression selects, with the labels it is selected by."""
    bare = _WINDOW.sub("", _GROUPING.sub(" ", _STRING.sub('""', expression)))
    for name, matchers in _SERIES.findall(bare):
        if name not in _WORDS_OF_PROMQL:
            yield name, set(re.findall(r"(\w+)\s*[=!]", matchers))


def groupings_of(expression: str) -> set[str]:
    """The labels an expression keeps or joins by."""
    return {label.strip() for found in _GROUPING.finditer(expression) for label in found[1].split(",") if label.strip()}


def labels_of(metric: Metric) -> set[str]:
    """Every label its samples can have."""
    labels = [prometheus_label(each) for each in metric.attributes]
    return {*labels, *OF_TARGETS, *(("le",) if metric.buckets else ())}
