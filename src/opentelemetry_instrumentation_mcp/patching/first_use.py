"""Waiting for the first import of a package: whatever patches it is not imported before that."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class FirstUse(MetaPathFinder):
    """Calls ``begin`` once, as soon as one of ``packages`` is imported: at once, or before its first line runs.

    The call comes before the import, not after it: hooks on the modules inside are then in place in time. The finder
    stays where it is afterwards: the import system is going through ``sys.meta_path`` when it calls, and would pass
    over the finder after one that takes itself out.
    """

    def __init__(self, packages: Sequence[str], begin: Callable[[], None]) -> None:
        self._packages = packages
        self._begin: Callable[[], None] | None = begin
        # Re-entrant: what `begin` imports goes through this finder as well.
        self._lock = threading.RLock()

    def wait(self) -> None:
        """Watch imports from now on."""
        if any(package in sys.modules for package in self._packages):
            self._call()
        else:
            sys.meta_path.insert(0, self)

    def cancel(self) -> None:
        """Watch no longer."""
        self._begin = None
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing; notice the import."""
        if fullname in self._packages:
            self._call()
        return None

    def _call(self) -> None:
        # Another thread that imports the same waits here until the hooks are in place.
        with self._lock:
            begin, self._begin = self._begin, None
            if begin is not None:
                begin()
