"""Applies patches to the modules of the SDK: now, or when the application imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import cast

from ..core.fail_open import guard
from .release import Module, note_missing_modules
from .state import ModulePatch, State


class Modules:
    """The modules that one ``instrument()`` patches.

    Attributes:
        expected: Those that are named in the log where the release should have them and has not.
    """

    def __init__(self, state: State) -> None:
        self.expected: tuple[str, ...] = ()
        self._state = state

    def apply(self, patches: Iterable[ModulePatch]) -> None:
        """Apply patches to the modules that are imported, and to the others when they are, until the end."""
        for name, patch in patches:
            self._state.patches.when_imported(name, self._applying(patch))

    def _applying(self, patch: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        state = self._state

        def hook(module: ModuleType) -> None:
            if state.recorder is None:
                return
            with guard(f"{module.__name__} was not instrumented"):
                note_missing_modules(self.expected, state.patches)
                patch(cast("ModuleType", Module(module, state.patches)))
                state.patches.tell()

        return hook
