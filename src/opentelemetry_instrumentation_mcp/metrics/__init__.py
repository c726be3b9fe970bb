"""What an MCP event means: the catalogue, the bounded labels, the recorder and the hand-over to OpenTelemetry.

Nothing in this package imports ``mcp``. Adapters translate what they see in the SDK into the vocabulary of
:mod:`.recorder`; the recorder turns it into the instruments of :mod:`.catalogue`.
"""
