"""The ASGI scope in which an HTTP answer is found: it is the application's, who may copy it and put guards around."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..points import ROLE, TRANSPORT, Points
from . import example, setups
from .generation import sse_client
from .http import HEADERS, INITIALIZE, httpx, low_level

Collect = Callable[[], Points]
OURS = "opentelemetry_instrumentation_mcp."


def limit() -> Any:
    found = getattr(import_module("mcp.server.transport_security"), "RequestBodyLimitMiddleware", None)
    if found is None:
        pytest.skip("this release limits no bodies there")
    return found


def test_a_scope_can_be_copied_and_nothing_is_left_in_it(collect: Collect) -> None:
    limit()
    scopes: list[Any] = []

    class Copying(import_module("mcp.server.streamable_http_manager").StreamableHTTPSessionManager):
        async def _handle_request(self, scope: Any, receive: Any, send: Any) -> None:
            assert [key for key in scope if key.startswith(OURS)]
            # The server's own objects are no part of the question.
            plain = {key: value for key, value in scope.items() if key not in ("app", "state")}
            for copied in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
                assert copied == {key: None if key.startswith(OURS) else plain[key] for key in plain}
            assert [copy.copy(value) for key, value in scope.items() if key.startswith(OURS)] == [None]
            scopes.append(scope)
            await super()._handle_request(scope, receive, send)  # pyright: ignore[reportUnknownMemberType]

    async def scenario() -> None:
        app = Copying(app=low_level(example.build()))
        async with app.run(), setups.serve(app.asgi_app) as base, httpx.AsyncClient() as http:
            assert (await http.post(f"{base}/mcp", json=INITIALIZE, headers=HEADERS)).status_code == 200
            assert (await http.post(f"{base}/mcp", content=b"{", headers=HEADERS)).status_code == 400

    anyio.run(scenario)
    points = collect()
    assert points.sum("mcp.connection.errors") == 1
    assert (
        points.sum("mcp.interceptor.actions", {"interceptor": "RequestBodyLimitMiddleware", "action": "continue"}) == 2
    )
    assert len(scopes) == 2
    assert [key for scope in scopes for key in scope if key.startswith(OURS)] == []


def test_sse_behind_a_limit_of_the_applications_own_is_sse(collect: Collect) -> None:
    async def scenario() -> None:
        app = limit()(example.build().sse_app(), 1_000_000)
        async with setups.serve(app) as base, setups.client_over(sse_client(f"{base}/sse")) as session:
            await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    served = {ROLE: "server"}
    assert set(points.by(TRANSPORT, "mcp.connections.total", served)) == {"sse"}
    assert set(points.by(TRANSPORT, "mcp.requests.total", served)) == {"sse"}
    assert points.sum("mcp.connections.active") == 0
