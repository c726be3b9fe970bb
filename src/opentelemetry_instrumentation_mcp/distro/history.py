"""The counters of workers that are gone: their successors go on from them, so that sums never fall.

A worker that is killed takes its counters with it. A successor under the same label that began at zero would look like
a reset only as long as it is behind; once it has overtaken its predecessor between two scrapes, the difference is
lost. So a worker writes down each page that it makes, and its successor adds what is written to its own. Gauges are
not inherited: what a dead process held, it holds no longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ..core.fail_open import guard
from .encodable import encodable

_OPENMETRICS: Final = "application/openmetrics-text"
_ADDITIVE: Final = ("counter", "histogram", "summary")

_Key = tuple[str, tuple[tuple[str, str], ...]]


def written(content_type: str, body: bytes) -> bytes:
    """A page as it is kept."""
    return content_type.encode() + b"\n" + body


def counters(kept: bytes) -> list[Metric]:
    """The counters, histograms and summaries of a page that was kept.

    Raises:
        ValueError: If it is not a page.
    """
    content_type, _, body = kept.decode().partition("\n")
    families: Iterable[Metric]
    if content_type.startswith(_OPENMETRICS):
        # Without annotations there.
        families = openmetrics.text_string_to_metric_families(body)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    else:
        families = parse_text(body)
    return [_additive(family) for family in families if family.type in _ADDITIVE]


def _additive(family: Metric) -> Metric:
    # Quantiles cannot be added, and the time at which a counter began is its own.
    family.samples = [
        sample for sample in family.samples if "quantile" not in sample.labels and not sample.name.endswith("_created")
    ]
    return family


def added(families: list[Metric], past: dict[str, Metric]) -> list[Metric]:
    """``families`` with the values of ``past``, by name, added; those of both are left as they are."""
    if not past:
        return families
    # What was kept is a page, so there is nothing in it that cannot be encoded.
    present = {encodable(family.name) for family in families}
    result = [
        _sum(family, before) if (before := past.get(encodable(family.name))) is not None else family
        for family in families
    ]
    return result + [family for name, family in past.items() if name not in present]


def _sum(family: Metric, past: Metric) -> Metric:
    if family.type != past.type:
        return family
    # A collector of the application's may have put anything into its samples.
    with guard(f"what a worker's predecessor has counted of {family.name} is not added"):
        return _total(family, past)
    return family


def _total(family: Metric, past: Metric) -> Metric:
    values = {_key(sample): sample for sample in past.samples}
    total = Metric(family.name, family.documentation, family.type, family.unit)
    for sample in family.samples:
        before = values.pop(_key(sample), None) or values.pop(_clean_key(sample), None)
        total.samples.append(sample if before is None else sample._replace(value=sample.value + before.value))
    total.samples.extend(values.values())
    return total


def _key(sample: Any) -> _Key:
    # An empty label is the same as none; which one a page shows depends on what else it shows.
    return sample.name, tuple(sorted((name, value) for name, value in sample.labels.items() if value))


def _clean_key(sample: Any) -> _Key:
    labels = ((encodable(name), encodable(value)) for name, value in sample.labels.items() if value)
    return encodable(sample.name), tuple(sorted(labels))
