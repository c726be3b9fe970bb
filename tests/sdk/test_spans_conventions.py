"""The attributes of the MCP semantic conventions, on real spans: names, types, requirement levels, errors.

The table here is the conventions' own (``docs/gen-ai/mcp.md`` of the GenAI conventions), not the package's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

import anyio
import pytest

from ..spans import CLIENT, SERVER, FoundSpan, Spans, instrumented
from . import setups
from .example import raw
from .generation import CRASH_CODE, V2, SDKError
from .setups import HANDSHAKE, Setup

BOTH = (CLIENT, SERVER)

# key: type, level, spans
CONVENTIONS: dict[str, tuple[type, str, tuple[str, ...]]] = {
    "mcp.method.name": (str, "Required", BOTH),
    "error.type": (str, "Conditionally Required", BOTH),
    "gen_ai.prompt.name": (str, "Conditionally Required", BOTH),
    "gen_ai.tool.name": (str, "Conditionally Required", BOTH),
    "jsonrpc.request.id": (str, "Conditionally Required", BOTH),
    "mcp.resource.uri": (str, "Conditionally Required", BOTH),
    "rpc.response.status_code": (str, "Conditionally Required", BOTH),
    "gen_ai.operation.name": (str, "Recommended", BOTH),
    "jsonrpc.protocol.version": (str, "Recommended", BOTH),
    "mcp.protocol.version": (str, "Recommended", BOTH),
    "mcp.session.id": (str, "Recommended", BOTH),
    "network.protocol.name": (str, "Recommended", BOTH),
    "network.protocol.version": (str, "Recommended", BOTH),
    "network.transport": (str, "Recommended", BOTH),
    "server.address": (str, "Recommended", (CLIENT,)),
    "server.port": (int, "Recommended", (CLIENT,)),
    "client.address": (str, "Recommended", (SERVER,)),
    "client.port": (int, "Recommended", (SERVER,)),
}
# Our choice, for privacy: they tell who somebody is and what they read, so only a variable brings them.
ASKED_FOR = {"mcp.session.id", "mcp.resource.uri"}

_VERSIONS: Any = import_module("mcp_types.version" if V2 else "mcp.shared.version")
REVISION = (_VERSIONS.HANDSHAKE_PROTOCOL_VERSIONS if V2 else _VERSIONS.SUPPORTED_PROTOCOL_VERSIONS)[-1]
"""What a client and a server of this release agree on."""

HTTP = next(each for each in HANDSHAKE if each.name == "http")
SSE = next(each for each in HANDSHAKE if each.name == "sse")
MEMORY = next(each for each in HANDSHAKE if each.name == "memory")

Span = tuple[str, str, str]
"""Kind, method, and which of them."""


async def use(session: Any) -> None:
    await session.call_tool("ok", {})
    await session.call_tool("fail", {})
    await session.get_prompt("greeting")
    await session.read_resource("memo://readme")
    for method, params in (("tools/call", {"wrong": 1}), ("prompts/get", {"name": "broken"})):
        with suppress(SDKError):
            await raw(session, method, params)


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    with instrumented(spans, span_attributes=", ".join(ASKED_FOR)):
        yield spans


@pytest.fixture(scope="module")
def http() -> Spans:
    """What there is after some use over streamable HTTP with a session."""
    spans = Spans()
    with instrumented(spans, span_attributes=", ".join(ASKED_FOR)):
        run(HTTP)
    return spans


def run(setup: Setup, scenario: Any = use) -> None:
    async def connected() -> None:
        async with setups.connect(setup) as link:
            await scenario(link.session)

    anyio.run(connected)


def present(spans: list[FoundSpan], key: str) -> set[str]:
    """The names of the spans that have an attribute."""
    return {span.name for span in spans if key in span.attributes}


@pytest.mark.parametrize("kind", BOTH)
def test_every_attribute_of_every_span_is_one_of_the_conventions(kind: str, http: Spans) -> None:
    for span in http.of(kind):
        for key, value in span.attributes.items():
            assert key in CONVENTIONS, (span.name, key)
            of_type, _, kinds = CONVENTIONS[key]
            assert type(value) is of_type, (span.name, key, value)
            assert kind in kinds, (span.name, key)


ALL = {
    "initialize",
    "tools/call ok",
    "tools/call fail",
    "tools/call",
    "prompts/get greeting",
    "prompts/get broken",
    "resources/read",
    # The SDK's client asks by itself before it checks a result.
    "tools/list",
}
TOOLS = {"tools/call ok", "tools/call fail"}
PROMPTS = {"prompts/get greeting", "prompts/get broken"}
FAILED = {"tools/call fail", "tools/call", "prompts/get broken"}
NONE: set[str] = set()

# Where each attribute has to be, and must not be, on either side, over streamable HTTP with a session. The first
# message has no session yet; only 1.x's client has the answer to it in time.
PLACES: dict[str, tuple[set[str], set[str]]] = {
    "mcp.method.name": (ALL, ALL),
    "error.type": (FAILED, FAILED if V2 else FAILED - {"tools/call"}),
    "gen_ai.tool.name": (TOOLS, TOOLS),
    "gen_ai.prompt.name": (PROMPTS, PROMPTS),
    "gen_ai.operation.name": (TOOLS | {"tools/call"}, TOOLS | {"tools/call"}),
    "jsonrpc.request.id": (ALL, ALL),
    "mcp.resource.uri": ({"resources/read"}, {"resources/read"}),
    "rpc.response.status_code": (FAILED - {"tools/call fail"}, FAILED - {"tools/call fail"}),
    "jsonrpc.protocol.version": (NONE, NONE),
    "mcp.protocol.version": (ALL - {"initialize"} if V2 else ALL, ALL),
    "mcp.session.id": (ALL - {"initialize"}, ALL - {"initialize"}),
    "network.transport": (ALL, ALL),
    "network.protocol.name": (ALL, ALL),
    "network.protocol.version": (NONE, ALL),
    "server.address": (ALL, NONE),
    "server.port": (ALL, NONE),
    "client.address": (NONE, ALL),
    "client.port": (NONE, ALL),
}


def requests(spans: Spans, kind: str) -> list[FoundSpan]:
    """Its spans of requests, named by the conventions: those of 2.x's client have another name."""
    found = [span for span in spans.of(kind) if "jsonrpc.request.id" in span.attributes]
    prefix = "MCP send " if kind == CLIENT and V2 else ""
    assert all(span.name.startswith(prefix) for span in found)
    return [replace(span, name=span.name.removeprefix(prefix)) for span in found]


def test_the_table_is_complete() -> None:
    assert PLACES.keys() == CONVENTIONS.keys()


@pytest.mark.parametrize("kind", BOTH)
def test_each_attribute_is_where_the_conventions_want_it(kind: str, http: Spans) -> None:
    found = requests(http, kind)
    assert {span.name for span in found} == ALL
    where = {key: present(found, key) for key in CONVENTIONS}
    assert where == {key: places[BOTH.index(kind)] for key, places in PLACES.items()}


def test_what_identifies_somebody_has_to_be_asked_for() -> None:
    spans = Spans()
    with instrumented(spans):
        run(HTTP)
    assert len(spans.of(SERVER)) >= len(ALL)
    assert not any(ASKED_FOR & span.attributes.keys() for span in spans.all)
    assert not any("readme" in span.name for span in spans.all)


@pytest.mark.parametrize("setup", [HTTP, SSE, MEMORY], ids=str)
def test_the_values_of_the_attributes_about_the_transport(setup: Setup, spans: Spans) -> None:
    run(setup)
    server, client = spans.of(SERVER, "tools/call")[0], spans.of(CLIENT, "tools/call")[0]
    for span in (server, client):
        if setup is MEMORY:
            # The conventions have no word for it.
            assert not any(key.startswith(("network.", "server.", "client.")) for key in span.attributes)
        else:
            assert (span.attributes["network.transport"], span.attributes["network.protocol.name"]) == ("tcp", "http")
    if setup is not MEMORY:
        assert client.attributes["server.address"] == "127.0.0.1"
        assert server.attributes["client.address"] == "127.0.0.1"
        assert server.attributes["network.protocol.version"] == "1.1"
    assert server.attributes["mcp.protocol.version"] == client.attributes["mcp.protocol.version"] == REVISION
    assert server.attributes["jsonrpc.request.id"] == client.attributes["jsonrpc.request.id"]


# method, parameters; code; the server's part: error.type, status; the client's error.type
# 2.x's own span says what a handler raised (the SDK makes a ValueError of it).
ERRORS: list[tuple[str, dict[str, Any], str | None, tuple[str | None, str], str]] = [
    ("tools/call", {"name": "fail", "arguments": {}}, None, ("tool_error", "ERROR"), "tool_error"),
    # 2.x's own span calls a fault of the caller an error of the server.
    ("tools/call", {"wrong": 1}, "-32602", ("-32602", "ERROR") if V2 else (None, "UNSET"), "-32602"),
    ("prompts/get", {"name": "broken"}, CRASH_CODE, ("ValueError" if V2 else CRASH_CODE, "ERROR"), CRASH_CODE),
]


@pytest.mark.parametrize(("method", "params", "code", "server", "client"), ERRORS)
def test_what_is_an_error_and_whose(
    method: str, params: dict[str, Any], code: str | None, server: tuple[str | None, str], client: str, spans: Spans
) -> None:
    async def scenario(session: Any) -> None:
        with suppress(SDKError):
            await raw(session, method, params)

    run(MEMORY, scenario)
    answered, asked = spans.one(SERVER, method), spans.one(CLIENT, method)
    assert answered.attributes.get("rpc.response.status_code") == code
    assert asked.attributes.get("rpc.response.status_code") == code
    assert (answered.error, answered.status) == server
    assert (asked.error, asked.status) == (client, "ERROR")
    if code is not None:
        assert asked.description


def test_a_method_that_nobody_knows_names_no_span_of_a_server() -> None:
    spans = Spans()

    async def scenario(session: Any) -> None:
        with suppress(SDKError):
            await raw(session, "no/such/method", {})

    with instrumented(spans):
        run(MEMORY, scenario)
    method = "no/such/method" if V2 else "_OTHER"
    assert spans.one(SERVER, method).name == method
    assert spans.one(CLIENT, "no/such/method").error == ("-32601" if V2 else "-32602")
