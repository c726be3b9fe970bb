"""The metric catalogue as data: every instrument this package creates stands here, once.

The recorder creates its instruments from these rows, ``docs/metrics.md`` is checked against them, and the name tests
read them. Units are UCUM (``s``, ``By``, ``{request}``); bucket boundaries are floats in the metric's unit.

Sources: the 23 metrics of the project's specification (``number`` 1 to 23), the four histograms of the OpenTelemetry
semantic conventions for MCP, and two of our own. What is not in the table is not emitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

ROLE: Final = "mcp.role"
TRANSPORT: Final = "mcp.transport"
SESSION_MODE: Final = "mcp.session.mode"
SERVER_NAME: Final = "mcp.server.name"
DIRECTION: Final = "mcp.direction"
METHOD: Final = "mcp.method.name"
TOOL: Final = "gen_ai.tool.name"
PROMPT: Final = "gen_ai.prompt.name"
PROTOCOL_VERSION: Final = "mcp.protocol.version"
STATUS: Final = "status"
REASON: Final = "reason"
ERROR_TYPE: Final = "error.type"
RPC_STATUS_CODE: Final = "rpc.response.status_code"
OPERATION: Final = "gen_ai.operation.name"
NETWORK_TRANSPORT: Final = "network.transport"
NETWORK_PROTOCOL: Final = "network.protocol.name"
KIND: Final = "kind"
INTERCEPTOR: Final = "interceptor"
PHASE: Final = "phase"
ACTION: Final = "action"
POOL: Final = "pool"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"


class Instrument(Enum):
    """The OpenTelemetry instrument a metric is made with."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "updowncounter"
    HISTOGRAM = "histogram"
    OBSERVABLE_UP_DOWN_COUNTER = "observable updowncounter"


class Source(Enum):
    """Who defined a metric."""

    SPECIFICATION = "specification"
    SEMANTIC_CONVENTIONS = "semantic conventions"
    OWN = "own"


@dataclass(frozen=True)
class Metric:
    """One row of the catalogue.

    Attributes:
        name: The OpenTelemetry name.
        instrument: The kind of instrument.
        unit: UCUM unit of the values.
        description: One line, as exporters show it.
        attributes: Every attribute key a point may carry; a key can be absent where it has no value.
        buckets: Explicit bucket boundaries in ``unit``, for histograms only.
        source: Who defined the metric.
        number: Its number in the specification, 0 for the others.
    """

    name: str
    instrument: Instrument
    unit: str
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    source: Source = Source.SPECIFICATION
    number: int = 0


REQUEST_SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
CONNECTION_SECONDS: Final = (
    0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0,
)  # fmt: skip
SESSION_SECONDS: Final = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0)
SIZE_BYTES: Final = (
    64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
)  # fmt: skip
CONVENTION_SECONDS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

_CONNECTION = (ROLE, TRANSPORT, SESSION_MODE)
_SESSION = (ROLE, TRANSPORT, SERVER_NAME, PROTOCOL_VERSION)
_MESSAGE = (ROLE, DIRECTION, TRANSPORT, SERVER_NAME, METHOD, TOOL, PROMPT)
_REQUEST = (*_MESSAGE, STATUS)
_NETWORK = (NETWORK_TRANSPORT, NETWORK_PROTOCOL)
_PEER = (SERVER_ADDRESS, SERVER_PORT)
_OPERATION = (METHOD, ERROR_TYPE, RPC_STATUS_CODE, TOOL, PROMPT, OPERATION, PROTOCOL_VERSION, *_NETWORK)

CONNECTIONS_TOTAL: Final = Metric(
    "mcp.connections.total",
    Instrument.COUNTER,
    "{connection}",
    "Connections opened: stream pairs served or held by a client, and stateless HTTP exchanges.",
    _CONNECTION,
    number=1,
)
CONNECTIONS_ACTIVE: Final = Metric(
    "mcp.connections.active",
    Instrument.UP_DOWN_COUNTER,
    "{connection}",
    "Connections open now.",
    _CONNECTION,
    number=2,
)
CONNECTION_DURATION: Final = Metric(
    "mcp.connection.duration",
    Instrument.HISTOGRAM,
    "s",
    "How long a connection was open, by the way it ended.",
    (*_CONNECTION, STATUS, ERROR_TYPE),
    CONNECTION_SECONDS,
    number=3,
)
CONNECTION_ERRORS: Final = Metric(
    "mcp.connection.errors",
    Instrument.COUNTER,
    "{error}",
    "Transport failures, and refusals before a request was parsed.",
    (ROLE, TRANSPORT, ERROR_TYPE),
    number=4,
)
SESSIONS_CREATED: Final = Metric(
    "mcp.sessions.created",
    Instrument.COUNTER,
    "{session}",
    "Sessions established: initialize answered with a result, or a discovery adopted by a client.",
    _SESSION,
    number=5,
)
SESSIONS_ACTIVE: Final = Metric(
    "mcp.sessions.active", Instrument.UP_DOWN_COUNTER, "{session}", "Sessions open now.", _SESSION, number=6
)
SESSIONS_EVICTED: Final = Metric(
    "mcp.sessions.evicted",
    Instrument.COUNTER,
    "{session}",
    "Sessions the server ended by itself, by reason.",
    (TRANSPORT, REASON),
    number=7,
)
SESSION_DURATION: Final = Metric(
    "mcp.session.duration",
    Instrument.HISTOGRAM,
    "s",
    "How long a session lived, by the way it ended.",
    (*_SESSION, STATUS),
    SESSION_SECONDS,
    number=8,
)
HEARTBEAT_CHECKS: Final = Metric(
    "mcp.session.heartbeat_checks",
    Instrument.COUNTER,
    "{check}",
    "Liveness checks made: pings sent, pings answered, SSE keep-alive frames.",
    (ROLE, TRANSPORT, DIRECTION, KIND),
    number=9,
)
DEAD_DETECTED: Final = Metric(
    "mcp.session.dead_detected",
    Instrument.COUNTER,
    "{session}",
    "Peers found dead, at most once per connection.",
    (ROLE, TRANSPORT, REASON),
    number=10,
)
REQUESTS_TOTAL: Final = Metric(
    "mcp.requests.total",
    Instrument.COUNTER,
    "{request}",
    "JSON-RPC requests finished, by the way they ended.",
    (*_REQUEST, ERROR_TYPE),
    number=11,
)
REQUEST_DURATION: Final = Metric(
    "mcp.request.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time from a JSON-RPC request to its end.",
    _REQUEST,
    REQUEST_SECONDS,
    number=12,
)
REQUEST_SIZE: Final = Metric(
    "mcp.request.size",
    Instrument.HISTOGRAM,
    "By",
    "Bytes of a JSON-RPC request on the wire.",
    _MESSAGE,
    SIZE_BYTES,
    number=13,
)
RESPONSE_SIZE: Final = Metric(
    "mcp.response.size",
    Instrument.HISTOGRAM,
    "By",
    "Bytes of a JSON-RPC response on the wire.",
    _MESSAGE,
    SIZE_BYTES,
    number=14,
)
INTERCEPTOR_DURATION: Final = Metric(
    "mcp.interceptor.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time spent in one interceptor alone, before and after what it wraps.",
    (INTERCEPTOR, PHASE),
    REQUEST_SECONDS,
    number=15,
)
INTERCEPTOR_ERRORS: Final = Metric(
    "mcp.interceptor.errors",
    Instrument.COUNTER,
    "{error}",
    "Exceptions raised by an interceptor itself, other than a refusal.",
    (INTERCEPTOR, ERROR_TYPE),
    number=16,
)
INTERCEPTOR_ACTIONS: Final = Metric(
    "mcp.interceptor.actions",
    Instrument.COUNTER,
    "{action}",
    "What an interceptor did with a message.",
    (INTERCEPTOR, ACTION),
    number=17,
)
POOL_CREATED: Final = Metric(
    "mcp.pool.connections.created",
    Instrument.COUNTER,
    "{connection}",
    "Connections the client's HTTP pool opened for MCP requests.",
    (POOL,),
    number=18,
)
POOL_REUSED: Final = Metric(
    "mcp.pool.connections.reused",
    Instrument.COUNTER,
    "{connection}",
    "MCP requests the client's HTTP pool sent over a connection it had.",
    (POOL,),
    number=19,
)
POOL_IDLE: Final = Metric(
    "mcp.pool.connections.idle",
    Instrument.OBSERVABLE_UP_DOWN_COUNTER,
    "{connection}",
    "Idle connections the client's HTTP pools hold now for the origin of an MCP endpoint.",
    (POOL,),
    number=20,
)
POOL_WAIT_DURATION: Final = Metric(
    "mcp.pool.wait.duration",
    Instrument.HISTOGRAM,
    "s",
    "Time from asking the client's HTTP pool until it assigned a connection.",
    (POOL,),
    REQUEST_SECONDS,
    number=21,
)
MEMORY_USAGE: Final = Metric(
    "mcp.memory.usage",
    Instrument.OBSERVABLE_UP_DOWN_COUNTER,
    "By",
    "Resident memory of the process.",
    (),
    number=22,
)
TASK_SPAWNS: Final = Metric(
    "mcp.task.spawns", Instrument.COUNTER, "{task}", "Tasks the SDK started for messages.", (ROLE,), number=23
)
SERVER_OPERATION_DURATION: Final = Metric(
    "mcp.server.operation.duration",
    Instrument.HISTOGRAM,
    "s",
    "Duration of a request or notification as seen by its receiver.",
    _OPERATION,
    CONVENTION_SECONDS,
    Source.SEMANTIC_CONVENTIONS,
)
CLIENT_OPERATION_DURATION: Final = Metric(
    "mcp.client.operation.duration",
    Instrument.HISTOGRAM,
    "s",
    "Duration of a request or notification as seen by its sender.",
    (*_OPERATION, *_PEER),
    CONVENTION_SECONDS,
    Source.SEMANTIC_CONVENTIONS,
)
SERVER_SESSION_DURATION: Final = Metric(
    "mcp.server.session.duration",
    Instrument.HISTOGRAM,
    "s",
    "Duration of a session as seen by the server.",
    (ERROR_TYPE, PROTOCOL_VERSION, *_NETWORK),
    CONVENTION_SECONDS,
    Source.SEMANTIC_CONVENTIONS,
)
CLIENT_SESSION_DURATION: Final = Metric(
    "mcp.client.session.duration",
    Instrument.HISTOGRAM,
    "s",
    "Duration of a session as seen by the client.",
    (ERROR_TYPE, PROTOCOL_VERSION, *_NETWORK, *_PEER),
    CONVENTION_SECONDS,
    Source.SEMANTIC_CONVENTIONS,
)
REQUESTS_ACTIVE: Final = Metric(
    "mcp.requests.active",
    Instrument.UP_DOWN_COUNTER,
    "{request}",
    "JSON-RPC requests in flight.",
    (ROLE, DIRECTION, TRANSPORT, METHOD),
    source=Source.OWN,
)
NOTIFICATIONS_TOTAL: Final = Metric(
    "mcp.notifications.total",
    Instrument.COUNTER,
    "{notification}",
    "JSON-RPC notifications sent or received.",
    (ROLE, DIRECTION, TRANSPORT, METHOD),
    source=Source.OWN,
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    CONNECTIONS_TOTAL,
    CONNECTIONS_ACTIVE,
    CONNECTION_DURATION,
    CONNECTION_ERRORS,
    SESSIONS_CREATED,
    SESSIONS_ACTIVE,
    SESSIONS_EVICTED,
    SESSION_DURATION,
    HEARTBEAT_CHECKS,
    DEAD_DETECTED,
    REQUESTS_TOTAL,
    REQUEST_DURATION,
    REQUEST_SIZE,
    RESPONSE_SIZE,
    INTERCEPTOR_DURATION,
    INTERCEPTOR_ERRORS,
    INTERCEPTOR_ACTIONS,
    POOL_CREATED,
    POOL_REUSED,
    POOL_IDLE,
    POOL_WAIT_DURATION,
    MEMORY_USAGE,
    TASK_SPAWNS,
    SERVER_OPERATION_DURATION,
    CLIENT_OPERATION_DURATION,
    SERVER_SESSION_DURATION,
    CLIENT_SESSION_DURATION,
    REQUESTS_ACTIVE,
    NOTIFICATIONS_TOTAL,
)
"""Every metric of the package, in the order of the specification, then the conventions', then our own."""
