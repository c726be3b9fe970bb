"""What spans mean: names, kinds, attributes, errors and propagation, by the MCP semantic conventions.

The twin of ``metrics`` for those who ask for traces: an adapter tells what happened, :class:`~.operations.Operations`
makes spans of it. Nothing here knows an SDK, and nothing of it is imported before there is a tracer provider that does
something with spans.
"""
