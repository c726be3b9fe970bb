"""Exactly one span for each message on each side, in the trace of whoever sent it: counted on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..spans import CLIENT, SERVER, Spans, identity, instrumented, parent
from . import setups
from .generation import V2
from .setups import SETUPS, Setup
from .test_exactness import bounded, exercise
from .wire import Wire


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans):
        yield spans


def expected(wire: Wire, setup: Setup) -> dict[Any, dict[str, float]]:
    """How many spans of a kind there have to be by method.

    mcp 2.x makes its own: none for a notification that is sent, none in process without streams, and on a client none
    for what the server asks.
    """
    received, sent = Counter(wire.asked) + wire.told, Counter(wire.asked) + wire.asked_back
    if not V2:
        received += Counter(wire.asked_back) + wire.told_back
        sent += Counter(wire.told) + wire.told_back
    elif setup.transport == "in_memory" and setup.modern:
        sent = Counter()
    # A server of 1.x does not know the method; 2.x says what it was sent.
    return {SERVER: dict(received) if V2 else bounded(received), CLIENT: dict(sent)}


@pytest.mark.parametrize("setup", [each for each in SETUPS if each.transport != "stdio"], ids=str)
def test_every_message_has_one_span_on_each_side(setup: Setup, spans: Spans) -> None:
    async def scenario() -> Wire:
        with spans.tracer.start_as_current_span("session"):
            async with setups.connect(setup) as link:
                await exercise(link.session, setup)
            return link.wire.settle()

    wire = anyio.run(scenario)
    want = expected(wire, setup)
    # A span of its own for what the server asks itself (docs/traces.md).
    assert spans.count(SERVER) == want[SERVER]
    assert spans.count(CLIENT) == want[CLIENT]
    parents = {identity(span) for span in spans.of(CLIENT)}
    for span in spans.of(SERVER):
        if want[CLIENT]:
            assert parent(span) in parents or not has_client_span(span)
    own = next(identity(span) for span in spans.all if span.name == "session")
    if want[CLIENT]:
        assert {identity(span)[0] for span in spans.of(CLIENT)} == {own[0]}


def has_client_span(span: Any) -> bool:
    """Whether the sender of the message that a SERVER span is for makes a span as well."""
    return not (V2 and "notifications/" in span.name)
