"""Exactly one span for each message on each side, in the trace of whoever sent it: counted on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from ..spans import CLIENT, METHOD, SERVER, Spans, instrumented
from . import setups
from .generation import V2, VERSION
from .setups import SETUPS, Setup
from .test_exactness import bounded, exercise
from .wire import Wire

pytestmark = pytest.mark.every_release


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans):
        yield spans


def expected(wire: Wire, setup: Setup) -> dict[str, dict[str, float]]:
    """How many spans of a kind there have to be by method.

    mcp 2.x makes its own: none for a notification that is sent, none for what leaves in process without streams, and on
    a client none for what the server asks or tells.
    """
    received, sent = Counter(wire.asked) + wire.told, Counter(wire.asked) + wire.asked_back
    if not V2:
        received += Counter(wire.asked_back) + wire.told_back
        sent += Counter(wire.told) + wire.told_back
        # The server sends them, whether its transport has a place for them or not: a JSON response has none.
        sent["notifications/progress"] = 2
    elif setup.name == "memory-2026":
        sent = Counter[str]()
    # A server of 1.x does not know the method; 2.x says what it was sent.
    return {SERVER: dict(received) if V2 else bounded(received), CLIENT: dict(sent)}


def assert_one_span_on_each_side(spans: Spans, wire: Wire, setup: Setup) -> None:
    want = expected(wire, setup)
    senders = {(span.trace, span.id) for span in spans.of(CLIENT)}
    received = spans.of(SERVER)
    if (2, 0) <= VERSION < (2, 3) and setup.exchanges and setup.modern:
        # These releases ask themselves for their tools before they call one, by a request that nobody sent.
        received = [span for span in received if span.name != "tools/list" or (span.trace, span.parent) in senders]
    assert Counter(span.attributes[METHOD] for span in received) == want[SERVER]
    assert spans.count(CLIENT) == want[CLIENT]
    answered = [span for span in received if span.name.split()[0] in want[CLIENT]]
    parents = Counter((span.trace, span.parent) for span in answered)
    # Each is the child of another one, and of one that was sent.
    assert set(parents) <= senders
    assert set(parents.values()) <= {1}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_every_message_has_one_span_on_each_side(setup: Setup, spans: Spans) -> None:
    async def scenario() -> Wire:
        with spans.tracer.start_as_current_span("test"):
            async with setups.connect(setup) as link:
                await exercise(link.session, setup)
            return link.wire.settle()

    wire = anyio.run(scenario)
    assert_one_span_on_each_side(spans, wire, setup)
    assert {span.trace for span in spans.of(CLIENT)} <= {spans.named("test").trace}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport == "stdio"], ids=str)
def test_every_message_over_real_pipes_has_one_span_on_each_side(setup: Setup, spans: Spans, tmp_path: Path) -> None:
    async def scenario() -> setups.Child:
        async with setups.stdio(tmp_path, modern=setup.modern, spans=True) as child:
            await exercise(child.session, setup)
        return child

    child = anyio.run(scenario)
    spans.add(child.spans())
    assert_one_span_on_each_side(spans, child.count(), setup)
