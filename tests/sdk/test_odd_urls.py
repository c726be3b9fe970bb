"""An endpoint that is no URL: the call, and what comes of it, are those of the bare SDK."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import ERROR, ROLE, TRANSPORT, Points
from .generation import V2, streamable_http_client, websocket_client

sse_client: Any = import_module("mcp.client.sse").sse_client

CLIENTS: dict[str, Any] = {"sse": sse_client, "streamable_http": streamable_http_client}
if not V2:
    CLIENTS["websocket"] = websocket_client

URLS = ["://[::1/mcp", "://localhost:port/mcp", "://localhost:99999/mcp", ":///mcp"]


def leaf(error: BaseException) -> str:
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return type(error).__name__


async def outcome(client: Callable[[str], Any], url: str) -> tuple[str, str]:
    """Where an exception came out, and which."""
    try:
        opening = client(url)
    except Exception as error:
        return "at the call", leaf(error)
    try:
        with anyio.fail_after(5):
            async with opening:
                return "", ""
    except Exception as error:
        return "inside", leaf(error)


@pytest.mark.parametrize("rest", URLS)
@pytest.mark.parametrize("transport", CLIENTS)
def test_a_bad_url_is_refused_where_the_sdk_refuses_it(
    transport: str, rest: str, request: pytest.FixtureRequest
) -> None:
    url = ("ws" if transport == "websocket" else "http") + rest
    bare = anyio.run(outcome, CLIENTS[transport], url)
    collect: Callable[[], Points] = request.getfixturevalue("collect")

    assert anyio.run(outcome, CLIENTS[transport], url) == bare
    where = {ROLE: "client", TRANSPORT: transport}
    assert collect().by(ERROR, "mcp.connection.errors", where) == ({bare[1]: 1} if bare[1] else {})
