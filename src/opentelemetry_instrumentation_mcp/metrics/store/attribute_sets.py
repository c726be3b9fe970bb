"""The attribute sets that one instrument may hold.

Each instrument admits a bounded number of them. The last tenth of the bound is kept for folded ones, so that a set past
it can still say what it is about: its tool or prompt name becomes ``_OTHER`` first, then its ``error.type``, then every
value. A quarter is kept from the client's role: what servers elsewhere are called, list and answer is theirs to choose,
and may not crowd out what a server of this process has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from .. import catalogue
from ..catalogue import Metric
from ..labels import OTHER, Attributes
from ..vocabulary import Role

_FOLDS = ((catalogue.TOOL, catalogue.PROMPT), (catalogue.ERROR_TYPE, catalogue.RPC_STATUS_CODE))

_CLIENT = Role.CLIENT.value

_Key = tuple[tuple[str, str | int], ...]


class AttributeSets:
    """Decides which attribute sets one instrument may hold.

    Args:
        metric: The catalogue row; sets are folded within its attribute keys.
        limit: The most sets there can ever be, folded ones included.
    """

    def __init__(self, metric: Metric, limit: int) -> None:
        self._keys = metric.attributes
        self._limit = max(limit, 1)
        self._plain_limit = self._limit - max(self._limit // 10, 1)
        self._admitted: set[_Key] = set()
        self._of_clients = 0
        self._lock = threading.RLock()

    def admit(self, values: Mapping[str, str | int | None]) -> Attributes:
        """The attribute set to use for ``values``: keys of this metric that have a value, folded if need be."""
        attributes: Attributes = {}
        for key in self._keys:
            value = values.get(key)
            if value is not None:
                attributes[key] = value
        with self._lock:
            if self._take(attributes, self._plain_limit):
                return attributes
            for folded in self._folded(attributes):
                # The set in which everything is folded must always find room: it is the one that ends the row.
                if self._take(folded, self._limit - 1):
                    return folded
            last: Attributes = dict.fromkeys(self._keys, OTHER)
            self._take(last, self._limit)
            return last

    def _take(self, attributes: Attributes, limit: int) -> bool:
        key: _Key = tuple(attributes.items())
        if key in self._admitted:
            return True
        if len(self._admitted) >= limit:
            return False
        if attributes.get(catalogue.ROLE) == _CLIENT:
            if self._of_clients >= limit - limit // 4:
                return False
            self._of_clients += 1
        self._admitted.add(key)
        return True

    @staticmethod
    def _folded(attributes: Attributes) -> Iterator[Attributes]:
        folded = dict(attributes)
        for keys in _FOLDS:
            if any(key in folded for key in keys):
                folded.update({key: OTHER for key in keys if key in folded})
                yield dict(folded)
