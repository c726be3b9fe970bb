"""mcp 1.x: ``BaseSession`` over a stream pair, ``Server.run`` around it.

A message that 1.x answers by itself (``initialize``, invalid parameters, anything before the handshake) never reaches a
handler, so requests are seen where they cross the session's streams (:mod:`.session`). The twin of this package is
:mod:`..v2`.
"""

from . import server, session

PATCHES = (*session.PATCHES, *server.PATCHES)
