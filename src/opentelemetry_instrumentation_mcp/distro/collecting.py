"""The families of prometheus_client's registry, collected so that one collector's failure costs no other's.

The application has collectors there as well as this package, and other libraries have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

from ..core.fail_open import guard


def families(registry: object) -> list[Metric]:
    """The families of the registry, in its order. A collector that fails costs its own families, and a log line."""
    if not isinstance(registry, CollectorRegistry) or (collectors := _collectors(registry)) is None:
        # It ends at the first collector that fails.
        return _collected(registry, keep_part=True)
    found = _target(registry)
    for collector in collectors:
        found += _collected(collector)
    return found


def _has_value(sample: Any) -> bool:
    # OpenMetrics would get a line without a value, and no parser could read the page.
    return sample.value is not None or getattr(sample, "native_histogram", None) is not None


def _collectors(registry: CollectorRegistry) -> list[Any] | None:
    """The collectors one by one; None for a registry that keeps them in another way than the releases we know."""
    # The public way is one generator for all of them. It ends when one collector raises.
    by_collector = getattr(registry, "_collector_to_names", None)
    is_known = type(registry).collect is CollectorRegistry.collect and isinstance(by_collector, Mapping)
    return list(cast("Mapping[Any, Any]", by_collector)) if is_known else None


def _target(registry: CollectorRegistry) -> list[Metric]:
    """What an application may have set as the target of the whole registry."""
    labels = registry.get_target_info()
    if not labels:
        return []
    target = Metric("target", "Target metadata", "info")
    target.add_sample("target_info", labels, 1)
    return [target]


def _collected(collector: Any, keep_part: bool = False) -> list[Metric]:
    found: list[Metric] = []
    with guard(f"the metrics of the collector {type(collector).__name__} are not on the page"):
        for family in cast("Iterable[object]", collector.collect()):
            if not isinstance(family, Metric) or not all(map(_has_value, family.samples)):
                raise TypeError("what it collects is no metric, or has no value")
            found.append(family)
        return found
    return found if keep_part else []
