"""What is being sent in this context: the request, and the HTTP POST that carries a message.

2.x runs the POST of a request in the context of its sender, so a context variable joins the two; the JSON-RPC id is
minted inside the dispatcher and never seen outside. The POST itself is known while the transport's method for it runs,
in both generations.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from ..metrics.connection import Request
from ..safety import report

if TYPE_CHECKING:
    from .http_client import Post

CURRENT: Final[ContextVar[Request | None]] = ContextVar("opentelemetry_instrumentation_mcp_request", default=None)
POST: Final[ContextVar[Post | None]] = ContextVar("opentelemetry_instrumentation_mcp_post", default=None)


def leave(variable: ContextVar[Any], token: Token[Any] | None) -> None:
    """Reset a variable, if it was set."""
    if token is None:
        return
    try:
        variable.reset(token)
    except ValueError:
        # A coroutine that was left alone is closed by the garbage collector, in a context where this was never set.
        return
    except Exception as error:
        report("outbound.leave", error)


def current_request() -> Request | None:
    """The request whose sender's context this is, unless it has ended."""
    request = CURRENT.get()
    return None if request is None or request.ended else request


def current_post() -> Post | None:
    """The POST that runs in this context."""
    return POST.get()
