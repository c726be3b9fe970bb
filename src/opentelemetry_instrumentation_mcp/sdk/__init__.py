"""Where events are seen: the seams of the SDK, one module each.

An adapter wraps a few functions of ``mcp`` and translates what passes into the vocabulary of the recorder. ``v1`` and
``v2`` are twins: the same events at the seams of two SDK generations. What both have alike is beside them: transports
(``streams``, ``websocket``, ``http_server``, ``http_edge``, ``http_client``, ``http_pool``), bytes (``sizes``) and
``interceptors``; and, where somebody wants them, spans (``spans``, ``fastmcp_spans``). Adapters hold no metric names.

The wrappers of one ``instrument()`` hold its ``State``, and no more of what they share than they need: each such
service owns its tables, and registers what becomes of them in a forked child and at the end (``lifecycle``). A module's
``patches(...)`` is handed those services that the module needs; ``install.py`` makes all of them.

Nothing is imported from ``mcp``: a patch is applied when the application itself imports the module it is for.
"""
