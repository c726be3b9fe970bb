"""A release nobody knows: one thing that this package hooks into is not where it was, and everything else is measured.

Each name that a patch asks for is taken away while ``instrument()`` looks for it and put back at once, as if the SDK
used it from another place.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.adapters.release import Module, is_expected
from opentelemetry_instrumentation_mcp.patching import Patches, Seen

from ..points import DIRECTION, METHOD, ROLE, Points
from . import setups
from .generation import V2
from .setups import SETUPS, Setup
from .snapshot import import_everything
from .wire import Wire

pytestmark = pytest.mark.skipif(not V2, reason="what is to come is a 2.x")

# Ways to connect that go through the same hooks; those of one kind are used at once.
KINDS = {
    "streams": [each for each in SETUPS if each.name in ("memory", "sse", "http")],
    "in process": [each for each in SETUPS if each.name == "memory-2026"],
    "exchanges": [each for each in SETUPS if each.name == "http-2026"],
}

# Requests that are not counted without a hook in this module, by kind and role. All others always are.
REQUESTS = {
    "mcp.shared.jsonrpc_dispatcher": {("streams", "server"), ("streams", "client"), ("exchanges", "client")},
    "mcp.shared.direct_dispatcher": {("in process", "server"), ("in process", "client")},
    "mcp.server._streamable_http_modern": {("exchanges", "server")},
    "mcp.server.streamable_http_manager": {("exchanges", "server")},
}

# Metrics that this traffic moves, and none of which moves without the hook.
METRICS = {
    "mcp.client.session.ClientSession": {"mcp.client.session.duration"},
    "mcp.client.session.ClientSession.adopt": {"mcp.client.session.duration"},
}


@dataclass(frozen=True)
class Place:
    """A name that a patch asks for, and what has it: a module or a class."""

    owner: Any
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.owner.__name__}.{self.name}" if isinstance(self.owner, type) else self.module_name

    @property
    def module(self) -> str:
        return str(self.owner.__module__ if isinstance(self.owner, type) else self.owner.__name__)

    @property
    def module_name(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def is_inherited(self) -> bool:
        bases = self.owner.__mro__[1:] if isinstance(self.owner, type) else ()
        return any(self.name in vars(base) and not base.__module__.startswith("mcp") for base in bases)

    @contextmanager
    def moved(self) -> Iterator[None]:
        value = vars(self.owner)[self.name]
        delattr(self.owner, self.name)
        try:
            yield
        finally:
            setattr(self.owner, self.name, value)


def places() -> list[Place]:
    """Every name of the SDK that a patch asks for; what a class has by inheritance from elsewhere cannot move."""
    import_everything()
    found: dict[str, Place] = {}

    def add(owner: Any, name: str) -> None:
        place = Place(owner, name)
        if name in getattr(owner, "__dict__", ()) and place.module.startswith("mcp") and not place.is_inherited:
            found[str(place)] = place

    with pytest.MonkeyPatch.context() as patch:
        for method in ("replace", "replace_generator"):
            original = getattr(Patches, method)

            def recording(self: Any, owner: Any, name: str, make: Any, original: Any = original) -> None:
                add(owner.owner if isinstance(owner, Seen) else owner, name)
                original(self, owner, name, make)

            patch.setattr(Patches, method, recording)
        look_up = Module.__getattr__

        def looking(self: Any, name: str) -> Any:
            add(self.owner, name)
            return look_up(self, name)

        patch.setattr(Module, "__getattr__", looking)
        instrumentor = MCPInstrumentor()
        instrumentor.instrument(meter_provider=MeterProvider())
        instrumentor.uninstrument()
    return [found[name] for name in sorted(found) if is_expected(*name.rsplit(".", 1))]


PLACES = places() if V2 else []


async def use(setup: Setup) -> Wire:
    async with setups.connect(setup) as link:
        session = link.session
        tools = await session.list_tools()
        assert {"ok", "fail"} <= {tool.name for tool in tools.tools}
        for _ in range(2):
            assert (await session.call_tool("ok", {})).content[0].text == "fine"
        assert (await session.call_tool("fail", {})).is_error
        await session.call_tool("tell", {})
        if setup.asks_back:
            assert (await session.call_tool("ask", {})).content[0].text == "asked"
    return link.wire.settle()


def crossed(kind: str) -> Counter[str]:
    """Use everything of a kind; the requests that crossed the wire, by who asked and the method."""
    wires: list[Wire] = []

    async def note(setup: Setup) -> None:
        wires.append(await use(setup))

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            for setup in KINDS[kind]:
                tasks.start_soon(note, setup)

    anyio.run(scenario)
    seen: Counter[str] = Counter()
    for wire in wires:
        seen.update({f"client: {method}": count for method, count in wire.asked.items()})
        seen.update({f"server: {method}": count for method, count in wire.asked_back.items()})
    return seen


def counted(points: Points, role: str) -> Counter[str]:
    """Likewise, as one side has counted them so far."""
    seen: Counter[str] = Counter()
    for direction in ("inbound", "outbound"):
        who = "client" if (role == "client") == (direction == "outbound") else "server"
        methods = points.by(METHOD, "mcp.requests.total", {ROLE: role, DIRECTION: direction})
        seen.update({f"{who}: {method}": int(count) for method, count in methods.items()})
    return seen


def compare(reader: InMemoryMetricReader, may_lack: Container[tuple[str, str]]) -> None:
    """Use everything; what is counted is what crossed the wire, or less where that may be."""
    before = Points.of(reader)
    for kind in KINDS:
        wire = crossed(kind)
        after = Points.of(reader)
        for role in ("server", "client"):
            new = counted(after, role) - counted(before, role)
            if (kind, role) in may_lack:
                assert new <= wire, (kind, role)
            else:
                assert new == wire, (kind, role)
        before = after


def metrics(points: Points) -> set[str]:
    """The metrics that have recorded something."""
    return {point.metric for point in points.all if point.value}


@pytest.fixture(scope="module")
def reference() -> set[str]:
    """The metrics of the same traffic where nothing has moved."""
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider([reader]))
    try:
        compare(reader, ())
    finally:
        instrumentor.uninstrument()
    return metrics(Points.of(reader))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_has_moved_is_said_in_a_line_and_the_rest_is_measured(
    place: Place, reference: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    with caplog.at_level(logging.INFO, "opentelemetry_instrumentation_mcp"):
        with place.moved():
            instrumentor.instrument(meter_provider=MeterProvider([reader]))
        try:
            compare(reader, REQUESTS.get(place.module, ()))
        finally:
            instrumentor.uninstrument()

    ours = [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry_instr")]
    assert ours == [f"this mcp release lacks {place}; what they would show is absent"]
    points = Points.of(reader)
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}
    # The dispatcher is most of a connection.
    if place.module != "mcp.shared.jsonrpc_dispatcher":
        assert reference - metrics(points) == METRICS.get(str(place), set())
