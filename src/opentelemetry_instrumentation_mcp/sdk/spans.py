"""Whether anybody wants spans. Until then nothing that makes or touches one is imported or patched.

A tracer provider can be set before the MCP SDK is used, after it, or never, so the question is asked when the SDK is
first used and whenever a session or a server begins, until the answer is yes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from ..core.fail_open import report

if TYPE_CHECKING:
    from ..tracing.operations import Operations
    from .adapter import Adapter


class Spans:
    """What makes the spans of one ``instrument()``, once somebody wants them.

    Args:
        options: The options of ``instrument()``.
    """

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = options or {}
        self._operations: Operations | None = None
        self._lock = threading.Lock()

    def seek(self, adapter: Adapter) -> Operations | None:
        """What makes spans; None as long as nobody wants any."""
        if self._operations is None:
            try:
                self._look(adapter)
            except Exception as error:
                report("Spans.seek", error)
        return self._operations

    def unlock(self) -> None:
        """Forget who was looking, in a forked child."""
        self._lock = threading.Lock()

    def _look(self, adapter: Adapter) -> None:
        given: Any = self._options.get("tracer_provider")
        if not _does_something(given or trace.get_tracer_provider()):
            return
        with self._lock:
            if self._operations is not None or adapter.recorder is None:
                return
            # Most processes never get here.
            from ..tracing.choices import Choices  # noqa: PLC0415
            from ..tracing.operations import Operations  # noqa: PLC0415
            from . import fastmcp_spans  # noqa: PLC0415
            from .v1 import spans as v1  # noqa: PLC0415
            from .v2.spans import NativeSpans  # noqa: PLC0415

            choices = Choices.chosen(self._options)
            operations = Operations(given, choices.attributes)
            native = NativeSpans(adapter, operations, given)
            patches = (
                *v1.patches(operations),
                *native.patches(choices.enrichment),
                *fastmcp_spans.patches(native, given, choices.enrichment),
            )
            adapter.apply(patches)
            self._operations = operations


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
