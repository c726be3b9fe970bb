"""A 2.x whose functions are not as we know them is measured as well: around them instead of in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.adapters import sizes
from opentelemetry_instrumentation_mcp.adapters.interceptors import chain
from opentelemetry_instrumentation_mcp.adapters.v2 import dispatcher

from ..points import Points
from . import setups
from .generation import V2
from .setups import SETUPS, Setup
from .test_exactness import assert_counts_are_the_wires, assert_sizes_are_the_wires, exercise
from .wire import Wire

PORT = "server.port"
"""Another one each time."""

pytestmark = pytest.mark.skipif(not V2, reason="on 1.x nothing of the SDK is done in its place")


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no function of the SDK look familiar to the patches that are made from now on."""

    def names_in(function: object) -> frozenset[str]:
        return frozenset()

    for module in (sizes, chain, dispatcher):
        monkeypatch.setattr(module, "names_in", names_in)


@pytest.fixture
def unfamiliar(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


async def drive(setup: Setup) -> Wire:
    async with setups.connect(setup) as link:
        await exercise(link.session, setup)
    return link.wire.settle()


@pytest.mark.usefixtures("unfamiliar")
@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_every_request_and_every_byte_is_counted(setup: Setup, request: pytest.FixtureRequest) -> None:
    # Instrumented only now that nothing is familiar.
    collect: Callable[[], Points] = request.getfixturevalue("collect")
    wire = anyio.run(drive, setup)
    points = collect()
    assert_counts_are_the_wires(points, points, wire, setup)
    assert_sizes_are_the_wires(points, points, wire)


def test_every_series_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interceptors, tasks, liveness and all the rest: the same attribute sets, moved as often."""
    setup = next(each for each in SETUPS if each.name == "http")

    def seen() -> dict[tuple[str, Any], float]:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        MCPInstrumentor().instrument(meter_provider=provider)
        try:
            anyio.run(drive, setup)
            points = Points.of(reader).all
        finally:
            MCPInstrumentor().uninstrument()
            provider.shutdown()
        seen: dict[tuple[str, Any], float] = {}
        for point in points:
            # Resident bytes, and which of several connections a pool gives, are not for us to decide.
            if point.metric != "mcp.memory.usage" and not point.metric.startswith("mcp.pool."):
                attributes = sorted(pair for pair in point.attributes.items() if pair[0] != PORT)
                seen[point.metric, tuple(attributes)] = point.value
        return seen

    familiar = seen()
    forget(monkeypatch)
    assert seen() == familiar
