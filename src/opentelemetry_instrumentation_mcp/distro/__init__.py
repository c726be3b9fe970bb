"""How a process is set up when nobody writes code: the distro and the configurator behind ``opentelemetry-instrument``.

``opentelemetry.instrumentation.auto_instrumentation.initialize()`` comes the same way. Importing these modules does
nothing yet, and ``MCPInstrumentor`` does not use them: it opens no port and sets no variable.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._configurator import MCPConfigurator
    from ._distro import MCPDistro

__all__ = ["MCPConfigurator", "MCPDistro"]


def __getattr__(name: str) -> object:
    # The launcher needs one small module of this package, and not the SDK that the configurator imports.
    if name == "MCPConfigurator":
        from ._configurator import MCPConfigurator as Configurator  # noqa: PLC0415

        return Configurator
    if name == "MCPDistro":
        from ._distro import MCPDistro as Distro  # noqa: PLC0415

        return Distro
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
