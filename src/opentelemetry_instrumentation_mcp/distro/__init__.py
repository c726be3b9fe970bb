"""How a process is set up when nobody writes code: the distro and the configurator behind ``opentelemetry-instrument``.

``opentelemetry.instrumentation.auto_instrumentation.initialize()`` comes the same way. Importing these modules does
nothing yet, and ``MCPInstrumentor`` does not use them: it opens no port and sets no variable.
"""

from ._configurator import MCPConfigurator
from ._distro import MCPDistro

__all__ = ["MCPConfigurator", "MCPDistro"]
