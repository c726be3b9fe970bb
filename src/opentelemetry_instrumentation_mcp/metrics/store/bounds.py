"""Tables of attribute values with a limit; what does not fit becomes ``_OTHER``.

Tables only ever grow to their limit, since a cumulative series is never forgotten.
"""

from __future__ import annotations

import threading

from ..labels import METHODS, OTHER, Registry, Target, is_presentable
from ..limits import Limits
from ..outcome import status_name
from ..vocabulary import Address


class BoundedTable:
    """Admits at most ``limit`` different values; the rest reads ``_OTHER``."""

    __slots__ = ("_limit", "_lock", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.RLock()
        self._values: set[str] = set()

    def admit(self, value: object) -> str:
        """The value itself if it is, or can be, in the table; else ``_OTHER``."""
        if not isinstance(value, str):
            return OTHER
        if value in self._values:
            return value
        with self._lock:
            if value not in self._values and (len(self._values) >= self._limit or not is_presentable(value)):
                return OTHER
            self._values.add(value)
        return value


class TargetNames:
    """The table of tool and prompt names.

    A server of this process has its names, peers list theirs, and a few that nobody lists proved themselves by working.
    Where the table is full those of the first kind take the places of the others, and those of the second kind of the
    third: what a peer lists crowds out nothing of our own. A name that lost its place keeps the series it has.

    Args:
        limit: How many names there can be in all, tools and prompts together.
        unregistered_limit: How many of them may be names nobody listed (the catalogue's 20).
    """

    def __init__(self, limit: int, unregistered_limit: int = 20) -> None:
        self._limit = limit
        self._unregistered_limit = min(unregistered_limit, limit)
        self._lock = threading.RLock()
        self._registered: set[tuple[Target, str]] = set()
        self._of_peers: set[tuple[Target, str]] = set()
        self._proven: set[tuple[Target, str]] = set()

    def register(self, target: Target, name: str, *, by_peer: bool = False) -> bool:
        """Admit a name; True if it is (or was) admitted.

        Args:
            target: What it names.
            name: The name.
            by_peer: Whether it is a peer that says so.
        """
        key = (target, name)
        if key in self._registered or (by_peer and key in self._of_peers):
            return True
        if not is_presentable(name):
            return False
        with self._lock:
            mine, others = (self._of_peers, len(self._registered)) if by_peer else (self._registered, 0)
            if len(mine) + others >= self._limit and key not in mine:
                return False
            mine.add(key)
            self._proven.discard(key)
            if not by_peer:
                self._of_peers.discard(key)
            if self._size() > self._limit:
                (self._proven or self._of_peers).pop()
        return True

    def prove(self, target: Target, name: str) -> bool:
        """Admit a name that nobody can list but that worked; True if it is admitted."""
        key = (target, name)
        with self._lock:
            if key in self._proven:
                return True
            full = self._size() >= self._limit or len(self._proven) >= self._unregistered_limit
            if full or not is_presentable(name):
                return False
            self._proven.add(key)
        return True

    def has(self, target: Target, name: str) -> bool:
        """Whether the name is in the table."""
        key = (target, name)
        return key in self._registered or key in self._of_peers or key in self._proven

    def _size(self) -> int:
        return len(self._registered) + len(self._of_peers) + len(self._proven)


class Bounds:
    """The tables of one recorder.

    Args:
        limits: The limit of each.
    """

    def __init__(self, limits: Limits) -> None:
        self.names = TargetNames(limits.names)
        self.servers = BoundedTable(limits.servers)
        self._methods = BoundedTable(limits.methods)
        self._exceptions = BoundedTable(limits.exceptions)
        self._addresses = BoundedTable(limits.addresses)

    def method(self, method: str, registry: Registry | None) -> str:
        """The bounded method name: the protocol's own, or one the server registered."""
        if method in METHODS:
            return method
        if registry is not None and registry.serves(method):
            return self._methods.admit(method)
        return OTHER

    def exception_name(self, name: str | int | None) -> str:
        """The bounded class name of an exception, or the HTTP status that is in its place."""
        return status_name(name) if isinstance(name, int) else self._exceptions.admit(name)

    def address(self, address: Address | None) -> Address | None:
        """The bounded address of a client's peer."""
        if address is None:
            return None
        if self._addresses.admit(f"{address.host}:{address.port}") is OTHER:
            return Address(OTHER, None)
        return address
