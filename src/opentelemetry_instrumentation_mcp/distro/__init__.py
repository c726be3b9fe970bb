"""How a process is set up when nobody writes code: the distro and the configurator behind ``opentelemetry-instrument``.

``opentelemetry.instrumentation.auto_instrumentation.initialize()`` comes the same way. ``MCPInstrumentor`` needs none of
this: it opens no port and sets no variable, and neither does importing these modules.
"""

from ._configurator import MCPConfigurator
from ._distro import MCPDistro

__all__ = ["MCPConfigurator", "MCPDistro"]
