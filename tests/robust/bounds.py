"""What may grow and how far: the series of every instrument, and every table this package keeps."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, cast
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.labels import METHODS, PROTOCOL_VERSIONS
from opentelemetry_instrumentation_mcp.metrics.limits import Limits

from ..points import Points

PACKAGE: Final = "opentelemetry_instrumentation_mcp"
OVERFLOW: Final = "otel.metric.overflow"
"""How OpenTelemetry's SDK marks the series in which everything past its own limit ends up."""

_LIMITS: Final = Limits()
_OTHER: Final = 1

VALUES: Final[Mapping[str, int]] = {
    catalogue.METHOD: len(METHODS) + _LIMITS.methods + _OTHER,
    catalogue.PROTOCOL_VERSION: len(PROTOCOL_VERSIONS) + _OTHER,
    catalogue.SERVER_NAME: _LIMITS.servers + _OTHER,
    # Names of the process' own take the places of those that peers listed, which keep the series they have.
    catalogue.TOOL: 2 * _LIMITS.names + _OTHER,
    catalogue.PROMPT: 2 * _LIMITS.names + _OTHER,
    catalogue.POOL: _LIMITS.pools + _OTHER,
    catalogue.INTERCEPTOR: _LIMITS.interceptors + _OTHER,
    # The codes of the protocol and the statuses of HTTP are closed sets of less than that.
    catalogue.ERROR_TYPE: 100 + _LIMITS.exceptions + _OTHER,
    catalogue.RPC_STATUS_CODE: 20,
}
"""How many different values a key may have, for those that a peer has a part in."""

_CONTAINERS: Final = (dict, list, set, deque, bytearray, WeakKeyDictionary, WeakSet)

_KEYS: Final = frozenset(key for metric in catalogue.CATALOGUE for key in metric.attributes)

LONGEST: Final = 256
"""How many characters a value may have."""


def assert_bounded(points: Points) -> None:
    """Every instrument is within its bound, and so is every attribute key in all of them together."""
    series: dict[str, int] = {}
    values: dict[str, set[Any]] = {}
    for point in points.all:
        series[point.metric] = series.get(point.metric, 0) + 1
        assert OVERFLOW not in point.attributes
        for key, value in point.attributes.items():
            values.setdefault(key, set()).add(value)
            assert not isinstance(value, str) or (len(value) <= LONGEST and value.isprintable()), (key, value[:80])
    assert series
    assert {metric: count for metric, count in series.items() if count > _LIMITS.attribute_sets} == {}
    assert set(values) <= _KEYS
    assert {key: len(values.get(key, ())) for key, most in VALUES.items() if len(values.get(key, ())) > most} == {}


def tables(root: Any) -> dict[str, int]:
    """The length of every container that can be reached from ``root`` by way of this package's objects, by its path.

    Found by looking, not by a list of names: a table that is added tomorrow is among them. Those of a kind, the cells'
    for instance, add up under one path. An attribute set counts as one entry, however many attributes are in it.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [(type(root).__name__, root)]
    for name, module in tuple(sys.modules.items()):
        if name.split(".")[0] == PACKAGE:
            waiting += [
                (f"{name}.{key}", value) for key, value in vars(module).items() if isinstance(value, _CONTAINERS)
            ]
            for key, value in vars(module).items():
                if callable(getattr(value, "cache_info", None)):
                    found[f"{name}.{key}"] = value.cache_info().currsize
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _CONTAINERS):
            found[path] = found.get(path, 0) + (1 if _is_attribute_set(value) else len(cast("Any", value)))
            waiting += [(path + "[]", each) for each in _contents(value)]
        elif type(value).__module__.split(".")[0] == PACKAGE:
            waiting += [(f"{type(value).__name__}.{key}", each) for key, each in _attributes(value)]
        elif isinstance(value, (FunctionType, MethodType)):
            waiting += [(path + "()", each) for each in _closed_over(value)]
    return found


def _is_attribute_set(value: Any) -> bool:
    return isinstance(value, dict) and _KEYS.issuperset(keys := cast("dict[Any, Any]", value)) and len(keys) > 0


def _contents(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, WeakKeyDictionary)):
        yield from tuple(cast("dict[Any, Any]", value).values())
    elif not isinstance(value, bytearray):
        yield from tuple(cast("list[Any]", value))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    names = set[str](getattr(value, "__dict__", ()))
    for owner in type(value).__mro__:
        names.update(cast("Any", owner).__dict__.get("__slots__", ()))
    # In one order, since what two attributes share is found under the first of them.
    for name in sorted(names - {"__weakref__", "__dict__"}):
        try:
            each = getattr(value, name)
        except Exception:
            continue
        if not isinstance(each, (str, int, float, type, BuiltinFunctionType, type(None))):
            yield name, each


def _closed_over(function: Any) -> Iterator[Any]:
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
