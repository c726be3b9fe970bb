"""What happens to the services of one ``instrument()`` in a forked child, and at its end."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

from ..core.fail_open import guard

_Callback = Callable[[], object]


class Lifecycle:
    """Calls what services have registered, in the order in which they have; one that fails stops no other."""

    def __init__(self) -> None:
        self._at_fork: list[_Callback] = []
        self._at_end: list[_Callback] = []
        _running.add(self)

    def at_fork(self, callback: _Callback) -> None:
        """Call ``callback`` in every forked child, until the end."""
        self._at_fork.append(callback)

    def at_end(self, callback: _Callback) -> None:
        """Call ``callback`` at the end, once. What is registered during the end comes last."""
        self._at_end.append(callback)

    def fork(self) -> None:
        """This process is a forked child: start from nothing."""
        for callback in self._at_fork:
            _follow(callback)

    def end(self) -> None:
        """Take everything back."""
        self._at_fork.clear()
        while self._at_end:
            _take_back(self._at_end.pop(0))


@guard("the instrumentation of MCP has not followed a fork as a whole")
def _follow(callback: _Callback) -> None:
    callback()


@guard("the instrumentation of MCP was not taken back as a whole")
def _take_back(callback: _Callback) -> None:
    callback()


_running: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


def _forked() -> None:
    for lifecycle in tuple(_running):
        lifecycle.fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
