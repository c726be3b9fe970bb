"""Switched on and off at odd moments, and in processes that multiply: what runs goes on, what is counted is exact.

That a forked or spawned worker of ours does not repeat its parent's numbers is in ``tests/e2e/test_workers.py``.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import METHOD, ROLE, TOOL, Points
from ..sdk import setups
from ..sdk.setups import HERE, SETUPS

Collect = Callable[[], Points]
IN_PROCESS = [each for each in SETUPS if each.transport != "stdio"]


def assert_nothing_is_active(points: Points) -> None:
    for metric in ("mcp.connections.active", "mcp.sessions.active", "mcp.requests.active"):
        assert [(point.attributes, point.value) for point in points.select(metric) if point.value] == []


@pytest.mark.parametrize("setup", IN_PROCESS, ids=str)
def test_instrument_while_sessions_are_live(setup: setups.Setup) -> None:
    """What is open goes on as it was; what opens from now on is counted."""
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()

    async def scenario() -> None:
        async with setups.connect(setup) as old:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(old.session.call_tool, "slow", {"seconds": 0.1})
                await anyio.sleep(0.03)
                instrumentor.instrument(meter_provider=MeterProvider([reader]))
                assert (await old.session.call_tool("ok", {})).content[0].text == "fine"
            async with setups.connect(setup) as new:
                for _ in range(3):
                    await new.session.call_tool("ok", {})
            assert (await old.session.call_tool("ok", {})).content[0].text == "fine"

    try:
        anyio.run(scenario)
        points = Points.of(reader)
    finally:
        instrumentor.uninstrument()
    assert_nothing_is_active(points)
    # A 2026-07-28 or stateless server has no old sessions: each of its exchanges is new.
    counted = points.sum("mcp.requests.total", {ROLE: "server", TOOL: "ok"})
    assert counted == 3 if not setup.exchanges else 3 <= counted <= 5
    assert 3 <= points.sum("mcp.requests.total", {ROLE: "client", TOOL: "ok"}) <= 5


@pytest.mark.parametrize("setup", IN_PROCESS, ids=str)
def test_uninstrument_in_the_middle_of_a_request_and_instrument_again(setup: setups.Setup, collect: Collect) -> None:
    later = InMemoryMetricReader()

    async def scenario() -> None:
        async with setups.connect(setup) as link, anyio.create_task_group() as tasks:
            await link.session.list_tools()
            for _ in range(5):
                tasks.start_soon(link.session.call_tool, "slow", {"seconds": 0.5})
            with anyio.fail_after(30):
                while _begun(collect()) < 5:
                    await anyio.sleep(0.005)
            MCPInstrumentor().uninstrument()
            assert (await link.session.call_tool("ok", {})).content[0].text == "fine"
            MCPInstrumentor().instrument(meter_provider=MeterProvider([later]))
            assert (await link.session.call_tool("ok", {})).content[0].text == "fine"

    anyio.run(scenario)
    assert_nothing_is_active(collect())
    assert collect().sum("mcp.requests.total", {ROLE: "server", TOOL: "slow"}) == 5
    assert_nothing_is_active(Points.of(later))
    assert Points.of(later).sum("mcp.requests.total", {TOOL: "slow"}) == 0


def _begun(points: Points) -> float:
    """How many of the slow calls have reached the server; on a busy machine the first may be over by now."""
    over = points.sum("mcp.requests.total", {ROLE: "server", TOOL: "slow"})
    return over + points.sum("mcp.requests.active", {ROLE: "server", METHOD: "tools/call"})


_FORKING = """
    import json, os, sys
    import anyio
    import multiprocessing
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry_instrumentation_mcp import MCPInstrumentor
    from tests.points import Points
    from tests.sdk import setups

    SETUP = setups.SETUPS[0]

    def instrument():
        global reader
        reader = InMemoryMetricReader()
        MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))

    async def calls(count):
        async with setups.connect(SETUP) as link:
            for _ in range(count):
                await link.session.call_tool("ok", {})
            if count == 2:
                held = os.fork()
                if not held:
                    # A copy of everything, a session in the middle of its life included.
                    os._exit(0)
                os.waitpid(held, 0)
                await link.session.call_tool("ok", {})

    def work(path, how):
        if how == "spawn":
            instrument()
        anyio.run(calls, 3)
        points = Points.of(reader)
        # A forked child has its parent's provider, and with it what the parent had handed over before.
        new = points.sum("mcp.requests.total", {"mcp.role": "server", "gen_ai.tool.name": "ok"})
        active = points.sum("mcp.connections.active") + points.sum("mcp.requests.active")
        with open(path, "w") as file:
            json.dump([new, active], file)

    if __name__ == "__main__":
        how, path = sys.argv[1:]
        instrument()
        anyio.run(calls, 2)
        child = multiprocessing.get_context(how).Process(target=work, args=(path, how))
        child.start()
        child.join(60)
        points = Points.of(reader)
        parent = points.sum("mcp.requests.total", {"mcp.role": "server", "gen_ai.tool.name": "ok"})
        with open(path) as file:
            print(json.dumps([child.exitcode, parent, *json.load(file)]))
"""


def test_nothing_holds_on_to_what_was_recorded_before_an_uninstrument(caplog: pytest.LogCaptureFixture) -> None:
    # What is logged of an exception holds all that was at work.
    caplog.set_level(60)
    setup = next(each for each in SETUPS if each.name == "http")

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            await link.session.call_tool("ok", {})

    instrumentor = MCPInstrumentor()
    recorders: list[weakref.ref[object]] = []
    for _ in range(2):
        instrumentor.instrument(meter_provider=MeterProvider([InMemoryMetricReader()]))
        recorders.append(weakref.ref(getattr(instrumentor, "_installation").state.recorder))  # noqa: B009
        anyio.run(scenario)
        instrumentor.uninstrument()
    gc.collect()
    # The instruments of OpenTelemetry live as long as their provider.
    assert [each() for each in recorders] == [None, None]


def test_what_was_looked_at_before_a_fork_is_looked_at_anew(collect: Collect) -> None:
    """A server that has answered its parent's requests has guards and chains that know its parent's recorder."""
    setup = next(each for each in SETUPS if each.name == "http")
    actions = "mcp.interceptor.actions"
    counted: list[dict[str, float]] = []

    async def scenario() -> None:
        async with setups.connect(setup) as link:
            for _ in range(2):
                await link.session.call_tool("ok", {})
                counted.append(collect().by("interceptor", actions))
                # As in the child, but for the threads.
                getattr(MCPInstrumentor(), "_installation").lifecycle.fork()  # noqa: B009

    anyio.run(scenario)
    before, after = counted
    # The session itself is the parent's, whose recorder keeps what it is told.
    for name in ("TransportSecurityMiddleware", "RequestBodyLimitMiddleware"):
        assert after[name] > before[name]


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_child_process_counts_its_own(how: str, tmp_path: Path) -> None:
    script = tmp_path / "forking.py"
    script.write_text(textwrap.dedent(_FORKING))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(HERE.parent.parent)
    command = [sys.executable, "-W", "ignore", str(script), how, str(tmp_path / "report")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    code, parent, child, active = json.loads(done.stdout)
    assert (code, parent) == (0, 3)
    if how == "spawn":
        assert (child, active) == (3, 0)
    else:
        # A provider that is not our distro's is the parent's, and what it had been handed by then is copied with it:
        # the first value of each series. What waited to be handed over is the parent's alone.
        assert child == 4
