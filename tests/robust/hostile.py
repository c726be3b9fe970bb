"""What a hostile peer sends: names, methods, versions, ids and codes that nobody has ever heard of, at any rate."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any, Final

_METHODS: Final = (
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "logging/setLevel",
    "tools/list",
    "prompts/list",
    "resources/list",
    "tasks/get",
    "server/discover",
    "ping",
)
_NOTIFICATIONS: Final = (
    "notifications/cancelled",
    "notifications/progress",
    "notifications/initialized",
    "notifications/roots/list_changed",
)


class Scanner:
    """An endless source of messages; two with the same seed are equal.

    Attributes:
        requests: How many requests it has made.
        notifications: How many notifications it has made.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.requests = 0
        self.notifications = 0

    def word(self) -> str:
        """A name that was never used before: of any length, in any script."""
        pick = self._random
        if pick.random() < 0.002:
            return self.text(5000)
        alphabet = string.printable if pick.random() < 0.8 else "äß漢字🙂\u202e\u0000"
        return "".join(pick.choices(alphabet, k=pick.randint(1, 12))) + f"{pick.getrandbits(40):x}"

    def text(self, length: int) -> str:
        """A random word of that length."""
        return "".join(self._random.choices(string.ascii_letters, k=length))

    def number(self) -> int:
        """A number for a code or an id."""
        return self._random.randint(-(2**40), 2**40)

    def version(self) -> str:
        """A protocol revision; few were ever published."""
        return self._random.choice(("2025-06-18", "2026-07-28", f"{self.number()}", self.word()))

    def request(self) -> dict[str, Any]:
        """A request with an id of its own."""
        self.requests += 1
        pick = self._random
        method = self.word() if pick.random() < 0.3 else pick.choice(_METHODS)
        params: dict[str, Any] = {
            "name": self.word(),
            "uri": f"file:///{self.text(8)}",
            "arguments": {self.text(5): self.number()},
            "level": self.word(),
        }
        if pick.random() < 0.5:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": self.version(),
                "io.modelcontextprotocol/clientInfo": {"name": self.word(), "version": self.word()},
                self.text(6): self.word(),
            }
        # Unlike a fresh number, a fresh string cannot meet one of the peer's own.
        identity = self.requests if pick.random() < 0.5 else f"{self.requests}-{self.text(6)}"
        return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}

    def notification(self) -> dict[str, Any]:
        """A notification."""
        self.notifications += 1
        pick = self._random
        method = self.word() if pick.random() < 0.4 else pick.choice(_NOTIFICATIONS)
        params: dict[str, Any] = {
            # Never one that is in flight: what is cancelled in time has no reply to be counted.
            "requestId": f"none-{self.number()}",
            "progressToken": self.word(),
            "progress": self.number(),
        }
        return {"jsonrpc": "2.0", "method": method, "params": params}

    def reply(self) -> dict[str, Any]:
        """An answer to a question nobody asked."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self.number()}
        if self._random.random() < 0.5:
            return message | {"result": {self.text(4): self.word()}}
        return message | {"error": {"code": self.number(), "message": self.word()}}

    def messages(self, count: int) -> Iterator[dict[str, Any]]:
        """So many requests, and others between them."""
        for _ in range(count):
            yield self.request()
            chance = self._random.random()
            if chance < 0.1:
                yield self.notification()
            elif chance < 0.2:
                yield self.reply()


def initialize(version: str = "2025-06-18", name: str = "test") -> dict[str, Any]:
    """The opening request of a session."""
    client = {"name": name, "version": name}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    return {"jsonrpc": "2.0", "id": "opening", "method": "initialize", "params": params}


INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}
