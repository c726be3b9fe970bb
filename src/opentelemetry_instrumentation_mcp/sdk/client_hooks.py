"""Event hooks on the HTTP clients that the SDK uses: public API of httpx and httpx2, taken off again at the end."""

from __future__ import annotations

import weakref
from typing import Any

from ..core.fail_open import contained
from .lifecycle import Lifecycle


class ClientHooks:
    """The event hooks of one ``instrument()``."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._added: list[tuple[weakref.ref[Any], str, Any]] = []
        lifecycle.at_end(self._remove_all)

    @contained
    def add(self, client: Any, event: str, function: Any) -> None:
        """Put an event hook on an httpx client, once."""
        hooks: list[Any] = client.event_hooks[event]
        if function not in hooks:
            hooks.append(function)
            self._added = [entry for entry in self._added if entry[0]() is not None]
            self._added.append((weakref.ref(client), event, function))

    def _remove_all(self) -> None:
        added, self._added = self._added, []
        for reference, event, function in added:
            _remove(reference(), event, function)


@contained
def _remove(client: Any, event: str, function: Any) -> None:
    if client is not None and function in client.event_hooks[event]:
        client.event_hooks[event].remove(function)
