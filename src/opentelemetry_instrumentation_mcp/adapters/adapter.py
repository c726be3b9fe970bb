"""What every patch of one ``instrument()`` shares."""

from __future__ import annotations

from ..metrics.recorder import Recorder
from ..patching import Patches
from .streams import Streams


class Adapter:
    """The recorder, the patches, and what is known about the stream pairs that are open.

    Wrappers read ``recorder`` on every call: None means retired, and they pass through.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder: Recorder | None = recorder
        self.patches = Patches()
        self.streams = Streams()

    def retire(self) -> None:
        """Take the patches out and hand over what was kept."""
        recorder, self.recorder = self.recorder, None
        self.patches.restore()
        if recorder is not None:
            recorder.retire()
