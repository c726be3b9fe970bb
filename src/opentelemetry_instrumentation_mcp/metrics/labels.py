"""Attribute values that stay bounded whatever a peer sends: the closed sets.

Every value that reaches an attribute goes through a closed set or a table with a limit (:mod:`.store.bounds`); what
does not fit becomes ``_OTHER``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final, Protocol

Attributes = dict[str, str | int]
"""What tells the series of one instrument apart."""

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

DESCRIBING: Final = frozenset({"initialize", "server/discover", *LISTINGS})
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
