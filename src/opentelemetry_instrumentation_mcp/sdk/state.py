"""What the wrappers of one ``instrument()`` hold: the door to the metrics, and what they have replaced.

Everything else that modules share is a service of its own, handed to those that need it: :mod:`.streams`,
:mod:`.sizes`, :mod:`.spans`, :mod:`.client_hooks`, :mod:`.object_methods` and what is in :mod:`.interceptors`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from ..metrics.events import Recorder
from ..patching.patches import Patches
from .lifecycle import Lifecycle

ModulePatch = tuple[str, Callable[[ModuleType], None]]
"""The name of a module, and what puts wrappers into it when it is imported."""


class State:
    """Where wrappers record.

    Attributes:
        recorder: The door to the metrics. Wrappers read it on every call: None means retired, and they pass through.
        patches: What was replaced, to be put back at the end.
    """

    __slots__ = ("patches", "recorder")

    def __init__(self, recorder: Recorder, lifecycle: Lifecycle) -> None:
        self.recorder: Recorder | None = recorder
        self.patches = Patches()
        lifecycle.at_fork(self._succeed)
        lifecycle.at_end(lambda: self._withdraw(lifecycle))
        lifecycle.at_end(self.patches.restore)

    def _succeed(self) -> None:
        # Connections and requests under way are the parent's.
        if self.recorder is not None:
            self.recorder = self.recorder.successor()

    def _withdraw(self, lifecycle: Lifecycle) -> None:
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            # After all that is registered by now: what was kept until then is handed over.
            lifecycle.at_end(recorder.retire)
