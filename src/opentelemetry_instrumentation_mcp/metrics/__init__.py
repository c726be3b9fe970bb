"""What an MCP event means, and its way into OpenTelemetry's instruments.

Nothing in this package imports ``mcp``. Adapters report what they see in the SDK to :mod:`.events`, in the words of
:mod:`.vocabulary`. Events import :mod:`.store`, and that imports :mod:`.buffers`; beside them stands the data:
:mod:`.catalogue`, :mod:`.labels`, :mod:`.limits`, :mod:`.outcome`. ``docs/architecture.md`` shows the way of a value.
"""
