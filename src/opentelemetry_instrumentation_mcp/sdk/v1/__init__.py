"""mcp 1.x: ``BaseSession`` over a stream pair, ``Server.run`` around it.

A message that 1.x answers by itself (``initialize``, invalid parameters, anything before the handshake) never reaches a
handler, so requests are seen where they cross the session's streams (:mod:`.session`). The twin of this package is
:mod:`..v2`.
"""

from ..sizes import Sizes
from ..spans import Spans
from ..state import ModulePatch, State
from ..streams import Streams
from . import server, session


def patches(state: State, open_streams: Streams, sizes: Sizes, spans: Spans) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (*session.patches(state, open_streams, sizes, spans), *server.patches(state, open_streams))
