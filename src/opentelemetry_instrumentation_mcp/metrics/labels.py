"""Attribute values that stay bounded whatever a peer sends.

Every value that reaches an attribute goes through a closed set or a table with a limit; what does not fit becomes
``_OTHER``. Tables only ever grow to their limit, since a cumulative series is never forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final, Protocol

OTHER: Final = "_OTHER"

LONGEST: Final = 256
"""Characters of the longest value: a hundred names of a megabyte each would be as good as no bound."""

PROTOCOL_VERSIONS: Final = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"})
"""The published revisions of the protocol."""

METHODS: Final = frozenset(
    {
        "completion/complete",
        "elicitation/create",
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/elicitation/complete",
        "notifications/initialized",
        "notifications/message",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/roots/list_changed",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks/status",
        "notifications/tools/list_changed",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "roots/list",
        "sampling/createMessage",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tools/call",
        "tools/list",
    }
)
"""The methods of both protocol eras, the experimental tasks of 1.x included."""

OPEN_ENDED: Final = frozenset({"subscriptions/listen"})
"""Requests that last as long as somebody listens; their age says nothing about latency."""


def bounded_version(version: object) -> str | None:
    """A protocol revision; one that was never published is ``_OTHER``, and what is none is None."""
    if not isinstance(version, str):
        return None
    return version if version in PROTOCOL_VERSIONS else OTHER


def is_presentable(value: str) -> bool:
    """Whether a value may stand in an attribute: of a bounded length, and nothing an exporter could choke on.

    A lone surrogate cannot be encoded, and would cost a whole collection; line ends and control characters are no part
    of a name.
    """
    return len(value) <= LONGEST and value.isprintable()


class Table:
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


class Target(str, Enum):
    """What a request can name: the attribute key is the value."""

    TOOL = "gen_ai.tool.name"
    PROMPT = "gen_ai.prompt.name"


TARGETS: Final[Mapping[str, Target]] = {"tools/call": Target.TOOL, "prompts/get": Target.PROMPT}
"""Which methods name a target in ``params.name``."""

LISTINGS: Final[Mapping[str, tuple[Target, str]]] = {
    "tools/list": (Target.TOOL, "tools"),
    "prompts/list": (Target.PROMPT, "prompts"),
}
"""Which results list the registered names, and under which key."""

TELLING: Final = frozenset({"initialize", "server/discover", *LISTINGS})
"""Methods whose results say something about the server."""


class Registry(Protocol):
    """What a server has registered, as far as its SDK object can tell; adapters implement it."""

    def lists(self, target: Target) -> bool:
        """Whether the server can list its names (so that an unlisted name is not registered)."""
        ...

    def knows(self, target: Target, name: str) -> bool:
        """Whether ``name`` is registered at this moment."""
        ...

    def names(self, target: Target) -> Collection[str]:
        """The registered names that can be told without asking the application."""
        ...

    def serves(self, method: str) -> bool:
        """Whether the server has a handler for a method that is not one of the protocol's own."""
        ...


class Names:
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
        self._heard: set[tuple[Target, str]] = set()
        self._proven: set[tuple[Target, str]] = set()

    def register(self, target: Target, name: str, *, heard: bool = False) -> bool:
        """Admit a name; True if it is (or was) admitted.

        Args:
            target: What it names.
            name: The name.
            heard: Whether it is a peer that says so.
        """
        key = (target, name)
        if key in self._registered or (heard and key in self._heard):
            return True
        if not is_presentable(name):
            return False
        with self._lock:
            mine, others = (self._heard, len(self._registered)) if heard else (self._registered, 0)
            if len(mine) + others >= self._limit and key not in mine:
                return False
            mine.add(key)
            self._proven.discard(key)
            if not heard:
                self._heard.discard(key)
            if self._size() > self._limit:
                (self._proven or self._heard).pop()
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
        return key in self._registered or key in self._heard or key in self._proven

    def _size(self) -> int:
        return len(self._registered) + len(self._heard) + len(self._proven)
