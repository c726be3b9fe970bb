"""OpenTelemetry metrics for the official MCP Python SDK, servers and clients, mcp 1.12 to 2.x.

Without code::

    opentelemetry-instrument python server.py

In code, before or after ``mcp`` is imported::

    from opentelemetry_instrumentation_mcp import MCPInstrumentor

    MCPInstrumentor().instrument()

``instrument()`` patches the SDK and records on the given, or the global, ``MeterProvider``. It opens no port, sets no
variable and installs no SDK: that is what the distro of this package does (``opentelemetry-instrument``), or the
application itself. It imports nothing of ``mcp``; a process that never uses MCP pays nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from .adapters import install
from .adapters.adapter import Adapter
from .metrics.recorder import Recorder
from .package import instruments
from .safety import report
from .version import __version__

__all__ = ["MCPInstrumentor", "__version__"]


class MCPInstrumentor(BaseInstrumentor):
    """Instruments the MCP SDK of this process.

    ``instrument()`` takes:

    * ``meter_provider``: where the metrics are recorded; by default the global one, which may be set later.
    * ``tracer_provider``: accepted as every instrumentor does; no spans are made yet.

    It never raises: what fails is logged, and the application goes on without it.
    """

    _adapter: Adapter | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The releases of ``mcp`` this instrumentation is for."""
        return instruments

    def _instrument(self, **kwargs: Any) -> None:
        try:
            self._adapter = Adapter(Recorder(kwargs.get("meter_provider")))
            install(self._adapter)
        except Exception as error:
            report("MCPInstrumentor.instrument", error)

    def _uninstrument(self, **kwargs: Any) -> None:
        try:
            adapter, self._adapter = self._adapter, None
            if adapter is not None:
                adapter.retire()
        except Exception as error:
            report("MCPInstrumentor.uninstrument", error)
