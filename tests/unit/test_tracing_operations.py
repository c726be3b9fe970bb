"""Spans from events, without an SDK: names, kinds, attributes, errors, parents."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from opentelemetry_instrumentation_mcp.metrics.outcome import (
    CALLER_FAULTS,
    CANCELLED,
    CONNECTION_LOST,
    OK,
    TIMEOUT,
    TOOL_ERROR,
    Outcome,
    error_reply,
    http_error,
)
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Address, Transport
from opentelemetry_instrumentation_mcp.tracing.conventions import ATTRIBUTES, ON_REQUEST, TARGET_LENGTH, Choice
from opentelemetry_instrumentation_mcp.tracing.operations import HttpRequest, Operation, Operations, network
from opentelemetry_instrumentation_mcp.tracing.propagation import Within, from_meta, injected

from ..spans import CLIENT, SERVER, FoundSpan, Spans

NOBODY: dict[str, str | int] = {}


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def operations(spans: Spans) -> Operations:
    return Operations(spans.provider, frozenset())


def ended(spans: Spans, operation: Operation, outcome: Outcome = OK, **options: Any) -> FoundSpan:
    operation.end(outcome, **options)
    return spans.all[-1]


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "add"}, "tools/call add"),
        ("tools/call", {}, "tools/call"),
        ("tools/call", {"name": 7}, "tools/call"),
        ("tools/call", None, "tools/call"),
        ("prompts/get", {"name": "greeting"}, "prompts/get greeting"),
        ("resources/read", {"uri": "memo://readme"}, "resources/read"),
        ("tools/list", {"name": "no target"}, "tools/list"),
        ("notifications/initialized", None, "notifications/initialized"),
    ],
)
def test_the_name_of_a_span(method: str, params: object, name: str, spans: Spans, operations: Operations) -> None:
    for operation, kind in (
        (operations.send(method, params, NOBODY), CLIENT),
        (operations.receive(method, params, NOBODY), SERVER),
    ):
        span = ended(spans, operation)
        assert (span.name, span.kind) == (name, kind)
        assert span.scope == "opentelemetry_instrumentation_mcp"


def test_a_peer_cannot_make_a_name_as_long_as_it_likes(spans: Spans, operations: Operations) -> None:
    span = ended(spans, operations.receive("tools/call", {"name": "x" * 10_000}, NOBODY))
    assert span.attributes["gen_ai.tool.name"] == "x" * TARGET_LENGTH
    assert span.name == "tools/call " + "x" * TARGET_LENGTH


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (TOOL_ERROR, "tool_error"),
        (CANCELLED, "CancelledError"),
        (TIMEOUT, "TimeoutError"),
        (CONNECTION_LOST, "ConnectionError"),
        (http_error(503), "503"),
        (error_reply(-32603), "-32603"),
        (error_reply(0), "0"),
        # 1.x forgets the minus sign.
        (error_reply(32600), "-32600"),
    ],
    ids=str,
)
def test_what_is_an_error_on_either_side(outcome: Outcome, error: str, spans: Spans, operations: Operations) -> None:
    sides = (operations.send("ping", None, NOBODY), operations.receive("ping", None, NOBODY))
    for operation in sides[: 1 if outcome.caller_fault else 2]:
        span = ended(spans, operation, outcome, message="what went wrong")
        assert (span.error, span.status, span.description) == (error, "ERROR", "what went wrong")
        code = span.attributes.get("rpc.response.status_code")
        assert code == (error if outcome.code is not None else None)


@pytest.mark.parametrize("code", sorted(CALLER_FAULTS))
def test_a_fault_of_the_caller_is_an_error_of_the_caller_alone(code: int, spans: Spans, operations: Operations) -> None:
    outcome = error_reply(code)
    asked = ended(spans, operations.send("ping", None, NOBODY), outcome, code=code)
    assert (asked.error, asked.status) == (str(code), "ERROR")
    answered = ended(spans, operations.receive("ping", None, NOBODY), outcome, code=code)
    assert (answered.error, answered.status) == (None, "UNSET")
    assert answered.attributes["rpc.response.status_code"] == str(code)


def test_a_code_nobody_knows_is_told_as_it_is(spans: Spans, operations: Operations) -> None:
    span = ended(spans, operations.send("ping", None, NOBODY), error_reply(4711), code=4711)
    assert span.error == span.attributes["rpc.response.status_code"] == "4711"


def test_the_first_end_counts(spans: Spans, operations: Operations) -> None:
    operation = operations.send("ping", None, NOBODY)
    operation.end(http_error(503))
    operation.end(CONNECTION_LOST)
    (span,) = spans.all
    assert span.error == "503"


def test_success_has_no_status_and_says_which_revision_was_spoken(spans: Spans, operations: Operations) -> None:
    span = ended(spans, operations.send("ping", None, NOBODY), protocol_version="2025-06-18")
    assert (span.error, span.status) == (None, "UNSET")
    assert span.attributes == {"mcp.method.name": "ping", "mcp.protocol.version": "2025-06-18"}


@pytest.mark.parametrize(
    ("transport", "address", "attributes"),
    [
        (Transport.STDIO, None, {"network.transport": "pipe"}),
        (Transport.SSE, None, {"network.transport": "tcp", "network.protocol.name": "http"}),
        (Transport.WEBSOCKET, None, {"network.transport": "tcp", "network.protocol.name": "websocket"}),
        (Transport.IN_MEMORY, None, {}),
        (Transport.OTHER, None, {}),
        (
            Transport.STREAMABLE_HTTP,
            Address("example.com", 8000),
            {
                "network.transport": "tcp",
                "network.protocol.name": "http",
                "server.address": "example.com",
                "server.port": 8000,
            },
        ),
        (
            Transport.STREAMABLE_HTTP,
            Address("example.com", None),
            {"network.transport": "tcp", "network.protocol.name": "http", "server.address": "example.com"},
        ),
    ],
)
def test_what_the_transport_says(transport: Transport, address: Address | None, attributes: dict[str, Any]) -> None:
    assert network(transport, address) == attributes


def test_a_context_goes_out_and_comes_in(spans: Spans, operations: Operations) -> None:
    sent = operations.send("tools/call", {"name": "add"}, NOBODY)
    params = injected({"name": "add", "_meta": {"progressToken": 3, "mine": [1]}}, sent.context)
    assert params is not None
    assert params["name"] == "add"
    assert params["_meta"].keys() == {"progressToken", "mine", "traceparent"}
    received = operations.receive("tools/call", params, NOBODY)
    server, client = ended(spans, received), ended(spans, sent)
    assert (server.trace, server.parent) == (client.trace, client.id)


def test_what_a_user_gave_is_not_changed(operations: Operations) -> None:
    given: dict[str, Any] = {"_meta": {"traceparent": "mine"}}
    params = injected(given, operations.send("ping", given, NOBODY).context)
    assert given == {"_meta": {"traceparent": "mine"}}
    # As mcp 2.x does: the span that is open is the parent.
    assert params is not None
    assert params["_meta"]["traceparent"].endswith("-01") or params["_meta"]["traceparent"][-2:] == "03"


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        [],
        {"_meta": None},
        {"_meta": "traceparent"},
        {"_meta": {"traceparent": 7}},
        {"_meta": {"traceparent": None}},
        {"_meta": {"traceparent": ["00-11111111111111111111111111111111-2222222222222222-01"]}},
        {"_meta": {"traceparent": "00-not-a-context"}},
        {"_meta": {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"}},
    ],
)
def test_what_is_no_context_makes_a_root(params: object, spans: Spans, operations: Operations) -> None:
    assert from_meta(params) is None
    with spans.tracer.start_as_current_span("whoever opened the session"):
        span = ended(spans, operations.receive("ping", params, NOBODY))
    assert span.parent == ""


REMOTE = "00-11111111111111111111111111111111-2222222222222222-01"
OTHER = "00-33333333333333333333333333333333-4444444444444444-01"


def test_the_parent_is_in_the_message_then_the_http_request_then_its_headers(
    spans: Spans, operations: Operations
) -> None:
    http_span = spans.tracer.start_span("POST")
    inner = f"{http_span.get_span_context().span_id:016x}"
    headers = {"traceparent": OTHER}
    with_meta = {"_meta": {"traceparent": REMOTE}}
    cases: list[tuple[object, HttpRequest | None, str, list[str]]] = [
        (with_meta, HttpRequest(headers, http_span), "2" * 16, [inner]),
        (with_meta, HttpRequest(headers), "2" * 16, []),
        (None, HttpRequest(headers, http_span), inner, []),
        (None, HttpRequest(headers), "4" * 16, []),
        (None, HttpRequest({}, http_span), inner, []),
        (None, HttpRequest({}), "", []),
        (None, None, "", []),
    ]
    for params, http, parent, links in cases:
        span = ended(spans, operations.receive("ping", params, NOBODY, http=http))
        assert (span.parent, span.links) == (parent, links)


def test_what_identifies_somebody_has_to_be_asked_for(spans: Spans) -> None:
    http = HttpRequest({"mcp-session-id": "secret"}, None, "1.1", ("192.0.2.1", 5000))
    read = {"uri": "file:///home/user/diary"}
    for asked in (frozenset[str](), ON_REQUEST):
        operations = Operations(spans.provider, asked)
        attributes = ended(spans, operations.receive("resources/read", read, NOBODY, http=http)).attributes
        assert ON_REQUEST & attributes.keys() == asked
        assert attributes["client.address"] == "192.0.2.1"
        assert attributes["client.port"] == 5000
        assert attributes["network.protocol.version"] == "1.1"


def test_a_request_that_is_not_sampled_passes_that_on_and_records_nothing() -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    operations = Operations(spans.provider, frozenset())
    operation = operations.send("ping", None, NOBODY)
    assert not operation.is_sampled
    params = injected(None, operation.context)
    assert params is not None
    assert params["_meta"]["traceparent"][-2:] in ("00", "02")
    operation.end(TIMEOUT)
    assert spans.all == []


def test_a_parent_that_is_not_sampled_is_followed(spans: Spans, operations: Operations) -> None:
    parent = NonRecordingSpan(SpanContext(1, 2, True, TraceFlags(0)))
    with trace.use_span(parent):
        operation = operations.send("ping", None, NOBODY)
    assert not operation.is_sampled


def test_a_client_span_that_a_framework_has_open_for_the_same_call_is_used(
    spans: Spans, operations: Operations
) -> None:
    tracer = spans.provider.get_tracer("fastmcp")
    attributes = {"mcp.method.name": "tools/call"}
    with tracer.start_as_current_span("tools/call add", kind=trace.SpanKind.CLIENT, attributes=attributes) as own:
        operation = operations.send("tools/call", {"name": "add"}, {"network.transport": "pipe"}, request_id=3)
        assert operation.span is own
        operation.end(TOOL_ERROR)
        # Not ended by us, and another request within it has a span of its own.
        assert spans.all == []
        inner = ended(spans, operations.send("tools/list", None, NOBODY))
        assert inner.kind == CLIENT
    span = spans.named("tools/call add")
    assert inner.parent == span.id
    assert span.error == "tool_error"
    assert span.attributes["jsonrpc.request.id"] == "3"
    assert span.attributes["network.transport"] == "pipe"


def test_a_block_puts_back_what_was_there_and_leaves_a_dead_coroutine_alone(spans: Spans) -> None:
    span = spans.tracer.start_span("inner")
    before = otel_context.get_current()
    with Within(trace.set_span_in_context(span)):
        assert trace.get_current_span() is span
    assert otel_context.get_current() == before
    # What the garbage collector closes, it closes in a context of its own choosing.
    block = Within(trace.set_span_in_context(span))
    block.__enter__()
    block.__exit__(GeneratorExit, GeneratorExit(), None)
    assert trace.get_current_span() is span
    otel_context.attach(before)


def test_the_table_names_every_attribute_once_and_what_has_to_be_asked_for() -> None:
    keys = [each.key for each in ATTRIBUTES]
    assert len(keys) == len(set(keys))
    assert {each.key for each in ATTRIBUTES if each.choice is Choice.ASKED} == {"mcp.session.id", "mcp.resource.uri"}
