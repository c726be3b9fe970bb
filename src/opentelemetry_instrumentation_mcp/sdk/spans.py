"""Whether anybody wants spans. Until then nothing that makes or touches one is imported or patched.

A tracer provider can be set before the MCP SDK is used, after it, or never, so the question is asked when the SDK is
first used and whenever a session or a server begins, until the answer is yes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from ..core.fail_open import contained
from .lifecycle import Lifecycle
from .state import State

if TYPE_CHECKING:
    from ..tracing.operations import Operations


class Spans:
    """What makes the spans of one ``instrument()``, once somebody wants them.

    Args:
        state: Without a recorder no spans are begun any more.
        lifecycle: That of the ``instrument()``.
        provider: The tracer provider given to ``instrument()``, if one was; else the global one counts.
        begin: Applies the patches for spans, and returns what makes these. Called once.
    """

    def __init__(self, state: State, lifecycle: Lifecycle, provider: Any, begin: Callable[[], Operations]) -> None:
        self._state = state
        self._provider = provider
        self._begin = begin
        self._operations: Operations | None = None
        self._lock = threading.Lock()
        lifecycle.at_fork(self._unlock)

    @contained
    def operations(self) -> Operations | None:
        """What makes spans; None as long as nobody wants any."""
        if self._operations is None:
            self._begin_if_wanted()
        return self._operations

    def _unlock(self) -> None:
        # Whoever was looking is a thread of the parent's.
        self._lock = threading.Lock()

    def _begin_if_wanted(self) -> None:
        if not _does_something(self._provider or trace.get_tracer_provider()):
            return
        with self._lock:
            if self._operations is None and self._state.recorder is not None:
                self._operations = self._begin()


def _does_something(provider: Any) -> bool:
    """Whether spans made with a provider get anywhere.

    Not those of the API's own, which stand for none, nor those of an SDK that was set up without an exporter: they
    would be made for nobody, and requests going out would ask for being sampled.
    """
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return False
    processor = getattr(provider, "_active_span_processor", None)
    # Another vendor's provider, or another shape of the SDK: whoever set it had a reason.
    return processor is None or bool(getattr(processor, "_span_processors", True))
