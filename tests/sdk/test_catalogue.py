"""One mixed run after which every metric of the catalogue has points, and everything that goes up has come down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import anyio
import pytest

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.catalogue import Instrument

from ..points import Points
from . import example, setups
from .generation import SDKError
from .http import HEADERS, INITIALIZE, httpx
from .setups import SETUPS

pytestmark = pytest.mark.every_release

Collect = Callable[[], Points]
HTTP = next(each for each in SETUPS if each.name == "http")


class FaultyVerifier:
    """A token verifier with a bug."""

    async def verify_token(self, token: str) -> Any:
        raise LookupError(token)


async def talk() -> None:
    """Everyday traffic on every transport that needs no other process, in every era."""
    for setup in SETUPS:
        if setup.transport == "stdio":
            continue
        async with setups.connect(setup) as link:
            await link.session.list_tools()
            for name in ("ok", "fail"):
                await link.session.call_tool(name, {})
            with suppress(SDKError):
                await link.session.get_prompt("broken")
            if not setup.modern:
                await link.session.send_ping()
            if setup.name == "http":
                async with httpx.AsyncClient() as http:
                    await http.post(link.url, content=b"{", headers=HEADERS)


async def meet_a_fault() -> None:
    """An interceptor raises."""
    settings: Any = import_module("mcp.server.auth.settings").AuthSettings(
        issuer_url="http://127.0.0.1/", resource_server_url="http://127.0.0.1/", required_scopes=[]
    )
    server = example.build(auth=settings, token_verifier=FaultyVerifier())
    async with setups.serve(server.streamable_http_app()) as base, httpx.AsyncClient() as http:
        with suppress(httpx.HTTPError):
            await http.post(f"{base}/mcp", json=INITIALIZE, headers=HEADERS | {"authorization": "Bearer x"})


def test_every_metric_of_the_catalogue_has_points_and_what_rises_falls(collect: Collect) -> None:
    anyio.run(talk)
    anyio.run(meet_a_fault)

    points = collect()
    assert {metric.name for metric in catalogue.CATALOGUE} == {point.metric for point in points.all}
    for metric in catalogue.CATALOGUE:
        keys = {key for point in points.select(metric.name) for key in point.attributes}
        assert keys <= set(metric.attributes)
        goes_down = metric.instrument in (Instrument.UP_DOWN_COUNTER, Instrument.OBSERVABLE_UP_DOWN_COUNTER)
        if goes_down and metric is not catalogue.MEMORY_USAGE:
            assert [point for point in points.select(metric.name) if point.value] == [], metric.name
    assert sorted(metric.number for metric in catalogue.CATALOGUE if metric.number) == list(range(1, 24))
    assert set(points.by("error.type", "mcp.interceptor.errors")) == {"LookupError"}
