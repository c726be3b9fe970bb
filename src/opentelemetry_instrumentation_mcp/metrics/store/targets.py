"""Which tool or prompt name a request may show: names that are registered, listed, or proven by a success."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.fail_open import contained, guard
from ...core.json_shapes import fields, items
from ..labels import LISTINGS, OTHER, TARGETS, Registry, Target
from ..outcome import OK, Outcome
from ..vocabulary import Direction
from .method_metrics import IdentityMetrics
from .shared import Shared


def register_served(shared: Shared, series: IdentityMetrics, registry: Registry | None, now: float) -> None:
    """See what a server has registered by ``now`` (``perf_counter`` seconds)."""
    # Apart from what opens its connection: whatever a server object does, that is open and has to be closed.
    series.registry_read = now
    if registry is None:
        return
    for target in Target:
        names = tuple(map(str, registry.names(target)))
        if series.registered.get(target) != names:
            series.registered[target] = names
            register(shared, series, Direction.INBOUND, target, names)


def listed(shared: Shared, series: IdentityMetrics, direction: Direction, method: str, result: object) -> None:
    """A tools/list or prompts/list answer passed by: its names are registered from now on."""
    target, key = LISTINGS[method]
    names = [fields(entry).get("name") for entry in items(fields(result).get(key))]
    shared.identities.mark_listed(series.identity, target)
    register(shared, series, direction, target, (name for name in names if isinstance(name, str)))


@guard("a metric was lost in Connection.register")
def register(
    shared: Shared, series: IdentityMetrics, direction: Direction, target: Target, names: Iterable[str]
) -> None:
    """Names of tools or prompts are known to exist: admit them and let their counters begin at 0."""
    by_peer = direction is Direction.OUTBOUND
    for name in names:
        if shared.bounds.names.register(target, name, by_peer=by_peer):
            series.zero(direction, target, name)


def admitted(
    shared: Shared,
    series: IdentityMetrics,
    registry: Registry | None,
    direction: Direction,
    method: str,
    name: str | None,
    outcome: Outcome,
) -> str | None:
    """The bounded tool or prompt name for a request that ends so; None where the method has none."""
    target = TARGETS.get(method)
    if target is None or name is None:
        return None
    names = shared.bounds.names
    if names.has(target, name):
        return name
    if direction is not Direction.INBOUND:
        registry = None
    if registry is not None and _knows(registry, target, name):
        if not names.register(target, name):
            return OTHER
        series.zero(direction, target, name)
        return name
    listed = shared.identities.is_listed(series.identity, target)
    if listed or (registry is not None and _lists(registry, target)):
        return OTHER
    return name if outcome is OK and names.prove(target, name) else OTHER


@contained
def _knows(registry: Registry, target: Target, name: str) -> bool:
    return registry.knows(target, name)


@contained
def _lists(registry: Registry, target: Target) -> bool:
    return registry.lists(target)
