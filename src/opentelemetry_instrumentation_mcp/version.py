"""The version of the distribution; hatch and ``telemetry.distro.version`` read it here."""

__version__ = "0.1.0.dev0"
