"""``uninstrument()`` leaves nothing behind, and ``instrument()`` works whenever it comes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import ROLE, TOOL, TRANSPORT, Points
from . import setups
from .setups import SETUPS
from .snapshot import import_everything, leftovers, snapshot

pytestmark = pytest.mark.every_release

ROOT = Path(__file__).parents[2]
MEMORY = next(each for each in SETUPS if each.name == "memory")


def in_a_fresh_process(code: str) -> str:
    """Run ``code`` where nothing is imported yet; its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_class_and_module_is_as_it_was() -> None:
    import_everything()
    before = snapshot()
    instrumentor = MCPInstrumentor()
    for _ in range(3):
        instrumentor.instrument(meter_provider=MeterProvider())
        during = snapshot()
        assert {name for name, value in before.items() if during[name] is not value}
        instrumentor.uninstrument()
        after = snapshot()
        assert after.keys() == before.keys()
        assert [name for name, value in before.items() if after[name] is not value] == []
    assert leftovers() == []


def test_nothing_is_left_in_modules_imported_while_instrumented() -> None:
    printed = in_a_fresh_process("""
        from opentelemetry_instrumentation_mcp import MCPInstrumentor
        MCPInstrumentor().instrument()
        from tests.sdk.snapshot import import_everything, leftovers
        import_everything()
        assert leftovers()
        MCPInstrumentor().uninstrument()
        print(leftovers())
    """)
    assert printed == "[]\n"


def test_a_process_without_mcp_imports_nothing_of_it() -> None:
    printed = in_a_fresh_process("""
        import sys
        from opentelemetry_instrumentation_mcp import MCPInstrumentor
        MCPInstrumentor().instrument()
        print([name for name in sys.modules if name.split(".")[0] in ("mcp", "mcp_types", "pydantic", "anyio")])
    """)
    assert printed == "[]\n"


def test_a_module_imported_after_uninstrument_is_left_alone() -> None:
    printed = in_a_fresh_process("""
        from opentelemetry_instrumentation_mcp import MCPInstrumentor
        MCPInstrumentor().instrument()
        MCPInstrumentor().uninstrument()
        from tests.sdk.snapshot import import_everything, leftovers
        import_everything()
        print(leftovers())
    """)
    assert printed == "[]\n"


_RUN = """
async def main():
    async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as tasks:
        low = getattr(server, "_lowlevel_server", None) or server._mcp_server
        tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
        async with ClientSession(near[0], near[1]) as session:
            await session.initialize()
            await session.call_tool("ok", {})
anyio.run(main)
"""
_IMPORT = """
import anyio
from mcp import ClientSession
from mcp.shared.memory import create_client_server_memory_streams
from tests.sdk.example import build
"""
_BUILD = "server = build()\n"
_INSTRUMENT = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry_instrumentation_mcp import MCPInstrumentor
reader = InMemoryMetricReader()
MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))
"""
_REPORT = """
from tests.points import Points
points = Points.of(reader)
for role in ("client", "server"):
    ok = {"mcp.role": role, "mcp.transport": "in_memory", "gen_ai.tool.name": "ok", "status": "ok"}
    print(role, points.sum("mcp.requests.total", ok))
"""


@pytest.mark.parametrize(
    "steps",
    [
        (_INSTRUMENT, _IMPORT, _BUILD, _RUN, _REPORT),
        (_IMPORT, _INSTRUMENT, _BUILD, _RUN, _REPORT),
        (_IMPORT, _BUILD, _INSTRUMENT, _RUN, _REPORT),
    ],
    ids=["before the import", "after the import, names bound by value", "after the server exists"],
)
def test_instrument_works_whenever_it_comes(steps: tuple[str, ...]) -> None:
    assert in_a_fresh_process("".join(steps)) == "client 1\nserver 1\n"


def test_rounds_of_instrument_and_uninstrument_leave_nothing_in_memory() -> None:
    """Neither with the modules that are there nor with those that never come; with spans and without."""
    printed = in_a_fresh_process("""
        import gc
        import sys
        import weakref
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry_instrumentation_mcp import MCPInstrumentor
        import mcp
        from opentelemetry_instrumentation_mcp.install import Installation

        installations = weakref.WeakSet()
        make = Installation.__init__
        def remember(self, *args, **kwargs):
            installations.add(self)
            make(self, *args, **kwargs)
        Installation.__init__ = remember

        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        meters = MeterProvider()
        instrumentor = MCPInstrumentor()
        objects = []
        for number in range(50):
            spans = {"tracer_provider": tracers} if number % 2 else {}
            instrumentor.instrument(meter_provider=meters, **spans)
            made = len(installations)
            instrumentor.uninstrument()
            if number in (9, 49):
                gc.collect()
                objects.append(len(gc.get_objects()))
        gc.collect()
        print(made > 0, len(installations), (objects[1] - objects[0]) // 40)
    """)
    assert printed == "True 0 0\n"


def test_every_round_of_instrument_and_uninstrument_counts_its_own() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrumentor = MCPInstrumentor()

    async def scenario() -> None:
        async with setups.connect(MEMORY) as link:
            await link.session.list_tools()
            await link.session.call_tool("ok", {})

    for number in range(1, 4):
        instrumentor.instrument(meter_provider=provider)
        anyio.run(scenario)
        instrumentor.uninstrument()
        # Nobody counts now.
        anyio.run(scenario)
        points = Points.of(reader)
        for role in ("client", "server"):
            assert points.sum("mcp.requests.total", {ROLE: role, TOOL: "ok"}) == number
            assert points.sum("mcp.connections.total", {ROLE: role, TRANSPORT: "in_memory"}) == number
        assert points.sum("mcp.connections.active") == 0
    assert Points.of(reader).select("mcp.memory.usage") == []


def test_what_is_open_at_uninstrument_still_ends(collect: Callable[[], Points]) -> None:
    async def scenario() -> None:
        async with setups.connect(MEMORY) as link, anyio.create_task_group() as tasks:
            await link.session.list_tools()
            tasks.start_soon(link.session.call_tool, "slow", {"seconds": 0.2})
            await anyio.sleep(0.1)
            assert collect().sum("mcp.requests.active") == 2
            MCPInstrumentor().uninstrument()
            # From here on nothing new is counted, and nothing breaks.
            await link.session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert points.sum(metric) == 0
    assert points.by(TOOL, "mcp.requests.total", {ROLE: "server"}) == {"slow": 1, "None": 2}
