"""The request being sent in this context.

2.x runs the HTTP POST of a request in the context of its sender, so a context variable joins the two; the JSON-RPC id
is minted inside the dispatcher and never seen outside.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ..metrics.recorder import Request

CURRENT: Final[ContextVar[Request | None]] = ContextVar("opentelemetry_instrumentation_mcp_request", default=None)


def current_request() -> Request | None:
    """The request whose sender's context this is, unless it has ended."""
    request = CURRENT.get()
    return None if request is None or request.ended else request
