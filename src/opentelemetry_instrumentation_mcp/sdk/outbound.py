"""What is being sent in this context: the request, and what an HTTP client is used for, such as the POST of a message.

2.x runs the POST of a request in the context of its sender, so a context variable joins the two; the JSON-RPC id is
minted inside the dispatcher and never seen outside. The POST itself is known while the transport's method for it runs,
in both generations.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from ..core.fail_open import report
from ..metrics.events import Request

if TYPE_CHECKING:
    from .http_pool import Endpoint

CURRENT: Final[ContextVar[Request | None]] = ContextVar("opentelemetry_instrumentation_mcp_request", default=None)


class Use:
    """What a transport of the SDK uses an HTTP client for; here something that is not measured.

    Args:
        endpoint: Where the server is; None if that cannot be told.
    """

    __slots__ = ("endpoint", "status")

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.endpoint = endpoint
        self.status = 0
        """That of the last answer, if it is of interest."""

    def sent(self, request: Any) -> None:
        """An HTTP request is sent."""

    def answered(self, response: Any) -> None:
        """An HTTP response began."""

    def abandoned(self, blames_the_answer: bool) -> None:
        """2.x makes up an error reply, since none can come."""

    def unparsable(self, error: Exception) -> None:
        """The answer was no message."""

    def failed(self, error: Exception) -> None:
        """What the transport did raised."""

    def refused(self, transport: Any) -> None:
        """The transport is done, without an exception, though the last answer was an error."""

    def let_go(self) -> None:
        """Hold on to nothing: contexts outlive the use, and this is in them."""


UNKNOWN: Final = Use(None)
"""What is not known, for nothing in particular."""

USE: Final[ContextVar[Use | None]] = ContextVar("opentelemetry_instrumentation_mcp_use", default=None)
"""For what an HTTP client is used in this context."""


def reset(variable: ContextVar[Any], token: Token[Any] | None) -> None:
    """Reset a variable, if it was set."""
    if token is None:
        return
    try:
        variable.reset(token)
    except ValueError:
        # A coroutine that was left alone is closed by the garbage collector, in a context where this was never set.
        return
    except Exception as error:
        report("outbound.reset", error)
