"""mcp 2.x: dispatchers over a stream pair or in process, ``ServerRunner`` behind them, and single HTTP exchanges.

Requests are seen at the dispatcher (:mod:`.dispatcher`, :mod:`.direct`), which both eras and both sides share; a
2026-07-28 request over HTTP has no dispatcher and is seen at its exchange (:mod:`.exchange`). The twin of this package
is :mod:`..v1`.
"""

from . import client, direct, dispatcher, exchange, server, untraced

PATCHES = (*dispatcher.PATCHES, *direct.PATCHES, *client.PATCHES, *server.PATCHES, *exchange.PATCHES, *untraced.PATCHES)
