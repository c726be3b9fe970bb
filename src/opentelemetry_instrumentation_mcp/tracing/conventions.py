"""The attributes of the MCP semantic conventions' spans, as a table, and which of them this package gives.

The table is that of ``docs/gen-ai/mcp.md`` of the OpenTelemetry GenAI conventions (status: development). The page on
traces is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from opentelemetry.trace import SpanKind

from ..metrics.catalogue import (
    ERROR_TYPE,
    METHOD,
    NETWORK_PROTOCOL,
    NETWORK_TRANSPORT,
    OPERATION,
    PROMPT,
    PROTOCOL_VERSION,
    RPC_STATUS_CODE,
    SERVER_ADDRESS,
    SERVER_PORT,
    TOOL,
)

REQUEST_ID: Final = "jsonrpc.request.id"
SESSION_ID: Final = "mcp.session.id"
RESOURCE_URI: Final = "mcp.resource.uri"
PROTOCOL_VERSION_OF_NETWORK: Final = "network.protocol.version"
CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"

EXECUTE_TOOL: Final = "execute_tool"
"""The one value of ``gen_ai.operation.name``."""

URI_METHODS: Final = frozenset(
    {"resources/read", "resources/subscribe", "resources/unsubscribe", "notifications/resources/updated"}
)
"""The messages that are about one resource."""

TARGET_LENGTH: Final = 128
"""The most characters of a tool's or prompt's name on a span; a peer chooses it."""


class Level(str, Enum):
    """The conventions' requirement level."""

    REQUIRED = "Required"
    CONDITIONALLY_REQUIRED = "Conditionally Required"
    RECOMMENDED = "Recommended"
    OPT_IN = "Opt-In"


class Choice(str, Enum):
    """What this package does about an attribute."""

    GIVEN = "given"
    ASKED = "if asked for"
    """By OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES, off by default: it can tell who somebody is or what they read."""
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Attribute:
    """One row of the conventions.

    Attributes:
        key: The attribute.
        type: The type of its value.
        level: How much the conventions want it.
        kinds: The spans it is for.
        choice: What this package does.
        remark: When it is there, or why it is not.
    """

    key: str
    type: type[str] | type[int]
    level: Level
    kinds: frozenset[SpanKind]
    choice: Choice
    remark: str


_BOTH: Final = frozenset({SpanKind.CLIENT, SpanKind.SERVER})
_CLIENT: Final = frozenset({SpanKind.CLIENT})
_SERVER: Final = frozenset({SpanKind.SERVER})
_CONDITIONAL: Final = Level.CONDITIONALLY_REQUIRED
_GIVEN: Final = Choice.GIVEN
_CONTENT: Final = "what is said in a call is not telemetry's to keep"

ATTRIBUTES: Final = (
    Attribute(METHOD, str, Level.REQUIRED, _BOTH, _GIVEN, "always; 1.x: `_OTHER` for what a server does not know"),
    Attribute(ERROR_TYPE, str, _CONDITIONAL, _BOTH, _GIVEN, "it failed; on a server not if the caller is to blame"),
    Attribute(PROMPT, str, _CONDITIONAL, _BOTH, _GIVEN, "`prompts/get`"),
    Attribute(TOOL, str, _CONDITIONAL, _BOTH, _GIVEN, "`tools/call`"),
    Attribute(REQUEST_ID, str, _CONDITIONAL, _BOTH, _GIVEN, "requests"),
    Attribute(
        RESOURCE_URI, str, _CONDITIONAL, _BOTH, Choice.ASKED, "messages about one resource; our choice, for privacy"
    ),
    Attribute(RPC_STATUS_CODE, str, _CONDITIONAL, _BOTH, _GIVEN, "the response is an error"),
    Attribute(OPERATION, str, Level.RECOMMENDED, _BOTH, _GIVEN, "`tools/call`: `execute_tool`"),
    Attribute(
        "jsonrpc.protocol.version", str, Level.RECOMMENDED, _BOTH, Choice.LEFT_OUT, "it is never another than 2.0"
    ),
    Attribute(PROTOCOL_VERSION, str, Level.RECOMMENDED, _BOTH, _GIVEN, "as soon as it is agreed on"),
    Attribute(
        SESSION_ID,
        str,
        Level.RECOMMENDED,
        _BOTH,
        Choice.ASKED,
        "streamable HTTP with a session; our choice, for privacy",
    ),
    Attribute(NETWORK_TRANSPORT, str, Level.RECOMMENDED, _BOTH, _GIVEN, "stdio, HTTP, websocket"),
    Attribute(NETWORK_PROTOCOL, str, Level.RECOMMENDED, _BOTH, _GIVEN, "HTTP, websocket"),
    Attribute(
        PROTOCOL_VERSION_OF_NETWORK, str, Level.RECOMMENDED, _BOTH, _GIVEN, "HTTP servers; a client learns it too late"
    ),
    Attribute(SERVER_ADDRESS, str, Level.RECOMMENDED, _CLIENT, _GIVEN, "HTTP, websocket"),
    Attribute(SERVER_PORT, int, Level.RECOMMENDED, _CLIENT, _GIVEN, "HTTP, websocket"),
    Attribute(CLIENT_ADDRESS, str, Level.RECOMMENDED, _SERVER, _GIVEN, "HTTP"),
    Attribute(CLIENT_PORT, int, Level.RECOMMENDED, _SERVER, _GIVEN, "HTTP"),
    Attribute("gen_ai.tool.call.arguments", str, Level.OPT_IN, _BOTH, Choice.LEFT_OUT, _CONTENT),
    Attribute("gen_ai.tool.call.result", str, Level.OPT_IN, _BOTH, Choice.LEFT_OUT, _CONTENT),
)
"""Every attribute the conventions have for spans."""

ON_REQUEST: Final = frozenset(each.key for each in ATTRIBUTES if each.choice is Choice.ASKED)
"""The attributes that have to be asked for."""
