"""OpenTelemetry metrics for the official MCP Python SDK, servers and clients, mcp 1.12 to 2.x.

Without code::

    opentelemetry-instrument python server.py

In code, before or after ``mcp`` is imported::

    from opentelemetry_instrumentation_mcp import MCPInstrumentor

    MCPInstrumentor().instrument()

``instrument()`` patches the SDK and records on the given, or the global, ``MeterProvider``. It opens no port, sets no
variable and installs no SDK: that is what the distro of this package does (``opentelemetry-instrument``), or the
application itself. It imports nothing of ``mcp``, and of this package only what waits for the application to do so; a
process that never uses MCP pays nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from .core.environment import sdk_is_disabled
from .core.fail_open import guard
from .package import PACKAGES, instruments
from .patching.first_use import FirstUse
from .version import __version__

if TYPE_CHECKING:
    from .configuration import Configuration
    from .install import Installation

__all__ = ["MCPInstrumentor", "__version__"]


class _ConfigurationClass:
    """Where declarative configuration finds the class of the options; imported when it is asked for."""

    def __get__(self, instance: object, owner: type) -> type[Configuration]:
        from .configuration import Configuration as Options  # noqa: PLC0415

        return Options


class MCPInstrumentor(BaseInstrumentor):
    """Instruments the MCP SDK of this process.

    ``instrument()`` takes:

    * ``meter_provider``: where the metrics are recorded; by default the global one, which may be set later.
    * ``tracer_provider``: where spans go; by default the global one. Without an exporter behind it there are none.
    * the options of :class:`~.configuration.Configuration`.

    It never raises: what fails is logged, and the application goes on without it. With OTEL_SDK_DISABLED=true it does
    nothing.
    """

    configuration = _ConfigurationClass()

    _installation: Installation | None = None
    _first_use: FirstUse | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The releases of ``mcp`` this instrumentation is for."""
        return instruments

    @guard("MCP is not instrumented")
    def _instrument(self, **kwargs: Any) -> None:
        if not sdk_is_disabled():
            self._first_use = FirstUse(PACKAGES, lambda: self._begin(kwargs))
            self._first_use.wait()

    @guard("MCP is not instrumented")
    def _begin(self, options: dict[str, Any]) -> None:
        # Here and not above: this is most of what the package has to import, and few processes use MCP.
        from .install import Installation  # noqa: PLC0415
        from .metrics.events import Recorder  # noqa: PLC0415
        from .metrics.limits import Limits  # noqa: PLC0415

        recorder = Recorder(options.get("meter_provider"), Limits.chosen(options))
        self._installation = Installation(recorder, options)
        self._installation.begin()

    @guard("the instrumentation of MCP was not taken back as a whole")
    def _uninstrument(self, **kwargs: Any) -> None:
        first_use, self._first_use = self._first_use, None
        if first_use is not None:
            first_use.cancel()
        installation, self._installation = self._installation, None
        if installation is not None:
            installation.end()
