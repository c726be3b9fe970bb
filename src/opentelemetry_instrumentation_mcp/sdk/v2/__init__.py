"""mcp 2.x: dispatchers over a stream pair or in process, ``ServerRunner`` behind them, and single HTTP exchanges.

Requests are seen at the dispatcher (:mod:`.dispatcher`, :mod:`.direct`), which both eras and both sides share; a
2026-07-28 request over HTTP has no dispatcher and is seen at its exchange (:mod:`.exchange`). The twin of this package
is :mod:`..v1`.
"""

from ..interceptors.passage import SpanBypass
from ..object_methods import ObjectMethods
from ..sizes import Sizes
from ..spans import Spans
from ..state import ModulePatch, State
from ..streams import Streams
from . import client, direct, dispatcher, exchange, server, untraced


def patches(
    state: State, open_streams: Streams, sizes: Sizes, spans: Spans, methods: ObjectMethods, bypass: SpanBypass
) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        *dispatcher.patches(state, open_streams, sizes, spans, methods),
        *direct.patches(state),
        *client.patches(state, spans),
        *server.patches(state, open_streams, spans),
        *exchange.patches(state),
        *untraced.patches(state, bypass),
    )
