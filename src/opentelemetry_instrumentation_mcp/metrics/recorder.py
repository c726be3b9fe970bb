"""The recorder: connections, sessions, requests and notifications, and which metrics each of them moves.

Adapters open a :class:`Connection`, begin and end :class:`Request` objects on it, and close it; the vocabulary is the
protocol's, nothing here knows an SDK. The way of the data is: event, meaning (labels, outcome), cell. Cells are handed
over to the instruments when a reader collects (:mod:`.handover`).

A request costs three appends: ``mcp.requests.active`` up and down, and one duration, whose cell feeds
``mcp.requests.total`` (its length), ``mcp.request.duration`` and the operation histogram of the conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from time import perf_counter
from typing import Any, Final

import psutil
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter, get_meter_provider

from ..safety import contained
from ..version import __version__
from ..wire import fields, items
from . import catalogue
from .catalogue import Metric
from .handover import Cell, Ledger
from .instruments import Bound, Instruments
from .labels import LISTINGS, METHODS, OPEN_ENDED, OTHER, PROTOCOL_VERSIONS, TARGETS, Names, Registry, Table, Target
from .limits import Limits
from .outcome import CONNECTION_LOST, OK, TIMEOUT, TOOL_ERROR, End, Outcome, error_reply

SCOPE_NAME: Final = "opentelemetry_instrumentation_mcp"

_MOST_CELLS: Final = 20_000
"""Request cells one recorder keeps apart. Closed sets bound their number, generously; this is the backstop."""


class Role(Enum):
    """What this process is in a connection."""

    SERVER = "server"
    CLIENT = "client"


class Heartbeat(Enum):
    """How life is checked."""

    PING = "ping"
    SSE_KEEPALIVE = "sse_keepalive"


class Death(Enum):
    """How a peer was found dead."""

    PING_FAILED = "ping_failed"
    PEER_CLOSED = "peer_closed"
    SESSION_NOT_FOUND = "session_not_found"
    WRITE_FAILED = "write_failed"


class Action(Enum):
    """What an interceptor did with a message."""

    CONTINUE = "continue"
    MODIFY = "modify"
    SHORT_CIRCUIT = "short_circuit"
    REJECT = "reject"
    ERROR = "error"


class Phase(Enum):
    """Before what an interceptor wraps, or after it."""

    REQUEST = "request"
    RESPONSE = "response"


class Direction(Enum):
    """Which way a message goes, seen from this process."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Transport(Enum):
    """How the peer is reached; ``OTHER`` is a stream pair of the application's own."""

    STDIO = "stdio"
    SSE = "sse"
    STREAMABLE_HTTP = "streamable_http"
    WEBSOCKET = "websocket"
    IN_MEMORY = "in_memory"
    OTHER = OTHER


class Mode(Enum):
    """``STATELESS`` is one server-side HTTP exchange; every stream pair and every client is ``STATEFUL``."""

    STATEFUL = "stateful"
    STATELESS = "stateless"


_NETWORK: Final[dict[Transport, tuple[str | None, str | None]]] = {
    Transport.STDIO: ("pipe", None),
    Transport.SSE: ("tcp", "http"),
    Transport.STREAMABLE_HTTP: ("tcp", "http"),
    Transport.WEBSOCKET: ("tcp", "websocket"),
    Transport.IN_MEMORY: (None, None),
    Transport.OTHER: (None, None),
}
"""``network.transport`` and ``network.protocol.name`` of the conventions."""


@dataclass(frozen=True)
class Address:
    """Where a client's peer is: ``server.address`` and ``server.port``."""

    host: str
    port: int | None


@dataclass(frozen=True)
class _Identity:
    """What all requests of a connection have in common; equal identities share their cells."""

    role: Role
    transport: Transport
    server_name: str | None
    protocol_version: str | None
    address: Address | None
    crash_code: str


class _Series:
    """The cells of one identity."""

    def __init__(self, identity: _Identity, recorder: Recorder) -> None:
        self.identity = identity
        self._recorder = recorder
        network_transport, network_protocol = _NETWORK[identity.transport]
        address = identity.address
        self._common: dict[str, str | int | None] = {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.SERVER_NAME: identity.server_name,
            catalogue.PROTOCOL_VERSION: identity.protocol_version,
            catalogue.NETWORK_TRANSPORT: network_transport,
            catalogue.NETWORK_PROTOCOL: network_protocol,
            catalogue.SERVER_ADDRESS: address.host if address else None,
            catalogue.SERVER_PORT: address.port if address else None,
        }
        self._active: dict[tuple[Direction, str], Cell] = {}
        self._requests: dict[tuple[Direction, str, str | None, Outcome], Cell] = {}
        self._notifications: dict[tuple[Direction, str], Cell] = {}
        self._sizes: dict[tuple[Metric, Direction, str, str | None], Cell] = {}
        self._zeroed: set[tuple[Target, str]] = set()
        self.registered: dict[Target, tuple[str, ...]] = {}
        """The names a server had registered when a connection last looked."""

    def active(self, direction: Direction, method: str) -> Cell:
        """Steps of ``mcp.requests.active``."""
        key = (direction, method)
        cell = self._active.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            cell = self._active.setdefault(key, self._recorder.cell((catalogue.REQUESTS_ACTIVE, values)))
        return cell

    def requests(self, direction: Direction, method: str, target: str | None, outcome: Outcome) -> Cell:
        """Durations in seconds of finished requests; ``target`` is the bounded tool or prompt name."""
        key = (direction, method, target, outcome)
        cell = self._requests.get(key)
        if cell is None:
            if not self._recorder.room_for_a_request_cell():
                key = (direction, OTHER, None, outcome)
                cell = self._requests.get(key)
                if cell is not None:
                    return cell
                method, target = OTHER, None
            cell = self._requests.setdefault(key, self._request_cell(direction, method, target, outcome))
        return cell

    def notifications(self, direction: Direction, method: str) -> Cell:
        """Durations in seconds of notifications handled or sent."""
        key = (direction, method)
        cell = self._notifications.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            cell = self._recorder.cell((catalogue.NOTIFICATIONS_TOTAL, values), (_operation(direction), values))
            cell = self._notifications.setdefault(key, cell)
        return cell

    def sizes(self, metric: Metric, direction: Direction, method: str, target: str | None) -> Cell:
        """Bytes of requests or of responses, by ``metric``."""
        key = (metric, direction, method, target)
        cell = self._sizes.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            if target is not None:
                values[TARGETS[method].value] = target
            cell = self._sizes.setdefault(key, self._recorder.cell((metric, values)))
        return cell

    def zero(self, direction: Direction, target: Target, name: str) -> None:
        """Let the counters of a registered name begin at 0: its successes, its tool errors, its crashes."""
        if (target, name) in self._zeroed:
            return
        self._zeroed.add((target, name))
        method = "tools/call" if target is Target.TOOL else "prompts/get"
        crash = error_reply(int(self.identity.crash_code))
        for outcome in (OK, TOOL_ERROR, crash) if target is Target.TOOL else (OK, crash):
            self.requests(direction, method, name, outcome).touch()

    def _request_cell(self, direction: Direction, method: str, target: str | None, outcome: Outcome) -> Cell:
        values = {
            **self._common,
            catalogue.DIRECTION: direction.value,
            catalogue.METHOD: method,
            catalogue.STATUS: outcome.status,
        }
        if target is not None:
            values[TARGETS[method].value] = target
        # On the request counter error.type tells apart what one status lumps together; elsewhere it would repeat it.
        counted = {
            **values,
            catalogue.ERROR_TYPE: outcome.error_type if outcome.status in ("client_error", "server_error") else None,
        }
        if method in OPEN_ENDED:
            return self._recorder.cell((catalogue.REQUESTS_TOTAL, counted))
        blameless = direction is Direction.INBOUND and outcome.caller_fault
        operation = {
            **values,
            catalogue.ERROR_TYPE: None if blameless else outcome.error_type,
            catalogue.RPC_STATUS_CODE: outcome.code,
            catalogue.OPERATION: "execute_tool" if method == "tools/call" else None,
        }
        return self._recorder.cell(
            (catalogue.REQUESTS_TOTAL, counted),
            (catalogue.REQUEST_DURATION, values),
            (_operation(direction), operation),
        )

    def session(self, metric: Metric, values: dict[str, str | int | None] | None = None) -> Cell:
        """The cell of a session metric, with ``values`` beside what the identity says."""
        return self._recorder.shared_cell(metric, {**self._common, **(values or {})})


def _operation(direction: Direction) -> Metric:
    """The conventions' histogram: who sends is the client of the operation, who receives its server."""
    if direction is Direction.INBOUND:
        return catalogue.SERVER_OPERATION_DURATION
    return catalogue.CLIENT_OPERATION_DURATION


class Request:
    """One JSON-RPC request from its first sight to its end.

    ``end`` may be called more than once, by hooks that see the same end from different places: the first one, the most
    specific, counts.
    """

    __slots__ = (
        "_active",
        "_connection",
        "_direction",
        "_ended",
        "_method",
        "_name",
        "_request_bytes",
        "_response_bytes",
        "_start",
        "_target",
        "answered",
        "hint",
        "id",
        "shadowed",
    )

    def __init__(
        self, connection: Connection, direction: Direction, method: str, name: object, started: float | None
    ) -> None:
        self._connection = connection
        self._direction = direction
        self._method = method
        self._name = name if isinstance(name, str) else None
        self._ended = False
        self._target: str | None = None
        self._request_bytes = -1
        self._response_bytes = -1
        self.hint: Any = None
        """Whatever an adapter wants to remember about the request; the recorder does not look at it."""
        self.id: Any = None
        """Its JSON-RPC id, for adapters that only learn it later."""
        self.answered = False
        """Whether a reply has come, for adapters whose callers cannot tell a reply from the SDK's own error."""
        self.shadowed: Request | None = None
        """An open request with the same id, for adapters that find requests by their id."""
        self._active = connection.series.active(direction, method)
        self._active.add(1)
        self._start = perf_counter() if started is None else started

    @property
    def method(self) -> str:
        """The bounded method name; the protocol's own methods are always themselves."""
        return self._method

    @property
    def ended(self) -> bool:
        """Whether the end was recorded."""
        return self._ended

    @contained
    def end(self, outcome: Outcome) -> None:
        """Record how the request ended, now."""
        if self._ended:
            return
        self._ended = True
        elapsed = perf_counter() - self._start
        self._active.add(-1)
        connection, direction, method = self._connection, self._direction, self._method
        self._target = target = connection.target(direction, method, self._name, outcome)
        connection.series.requests(direction, method, target, outcome).add(elapsed)
        if outcome is CONNECTION_LOST:
            connection.lost_requests += 1
        if method == "ping":
            connection.pinged(direction, outcome)
        if self._request_bytes >= 0:
            connection.series.sizes(catalogue.REQUEST_SIZE, direction, method, target).add(self._request_bytes)
        if self._response_bytes >= 0:
            connection.series.sizes(catalogue.RESPONSE_SIZE, direction, method, target).add(self._response_bytes)

    @contained
    def sent(self) -> None:
        """The request goes out: a ping is a check of life from now on, answered or not."""
        if self._method == "ping" and not self._connection.closed:
            self._connection.heartbeat(self._direction, Heartbeat.PING)

    @contained
    def measured(self, size: int, *, response: bool) -> None:
        """The request, or its response, took ``size`` bytes on the wire. A second measure of the same is a replay.

        Sizes carry the tool's name, which is only settled at the end; what is known before waits for it.
        """
        if (self._response_bytes if response else self._request_bytes) >= 0:
            return
        if response:
            self._response_bytes = size
        else:
            self._request_bytes = size
        if self._ended:
            metric = catalogue.RESPONSE_SIZE if response else catalogue.REQUEST_SIZE
            self._connection.series.sizes(metric, self._direction, self._method, self._target).add(size)

    @contained
    def abandon(self) -> None:
        """The request was refused before anything was sent: it never was one."""
        if not self._ended:
            self._ended = True
            self._active.add(-1)


class Connection:
    """A served or held stream pair, or one stateless HTTP exchange, from opening to end."""

    __slots__ = (
        "__weakref__",
        "_active",
        "_dead",
        "_mode",
        "_opened",
        "_recorder",
        "_session",
        "_silence",
        "closed",
        "is_closing",
        "lost_requests",
        "registry",
        "series",
    )

    def __init__(self, recorder: Recorder, series: _Series, mode: Mode, registry: Registry | None) -> None:
        self._recorder = recorder
        self._mode = mode
        self.registry = registry
        self.series = series
        self.closed = False
        self._dead = False
        self._silence = Death.PEER_CLOSED
        self.is_closing = False
        """Whether its message loop is over, so that what is lost from now on is lost with it."""
        self.lost_requests = 0
        """How many requests ended because no reply could come any more."""
        self._session: tuple[float, _Series] | None = None
        self._opened = perf_counter()
        recorder.shared_cell(catalogue.CONNECTIONS_TOTAL, self._attributes()).add(1)
        self._active = recorder.shared_cell(catalogue.CONNECTIONS_ACTIVE, self._attributes())
        self._active.add(1)

    @property
    def mode(self) -> Mode:
        """Whether this is a stateless exchange."""
        return self._mode

    @property
    def protocol_version(self) -> str | None:
        """The protocol revision, bounded; None until it is known."""
        return self.series.identity.protocol_version

    @property
    def crash_code(self) -> int:
        """The JSON-RPC code the SDK answers with when a handler of this connection raises."""
        return int(self.series.identity.crash_code)

    @property
    def has_session(self) -> bool:
        """Whether a session was established on the connection."""
        return self._session is not None

    def _attributes(self) -> dict[str, str | int | None]:
        identity = self.series.identity
        return {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.SESSION_MODE: self._mode.value,
        }

    @contained
    def begin(
        self, direction: Direction, method: str, params: object = None, *, started: float | None = None
    ) -> Request:
        """A request came in or goes out.

        Args:
            direction: Which way.
            method: Its JSON-RPC method as on the wire.
            params: Its ``params`` as on the wire; only ``name`` is looked at, and only where it is a target.
            started: When it was first seen (``perf_counter`` seconds), if that was earlier.
        """
        name = fields(params).get("name") if method in TARGETS else None
        return Request(self, direction, self._recorder.method(method, self.registry), name, started)

    @contained
    def notified(self, direction: Direction, method: str, seconds: float = 0.0) -> None:
        """A notification was handled (inbound) or sent (outbound), and took that long."""
        self.series.notifications(direction, self._recorder.method(method, self.registry)).add(seconds)

    @contained
    def heartbeat(self, direction: Direction, kind: Heartbeat) -> None:
        """Life was checked: a ping sent or answered, a keep-alive frame sent."""
        self._recorder.heartbeats(self.series.identity, direction, kind).add(1)

    def pinged(self, direction: Direction, outcome: Outcome) -> None:
        """A ping is over. An error reply is a sign of life like any other; only silence is not."""
        if direction is Direction.INBOUND:
            if outcome is OK:
                self.heartbeat(direction, Heartbeat.PING)
            return
        if outcome is CONNECTION_LOST and self.is_closing:
            # Whose doing that is, the end will tell.
            self._silence = Death.PING_FAILED
        elif outcome is TIMEOUT or outcome is CONNECTION_LOST:
            self.dead(Death.PING_FAILED)

    @contained
    def dead(self, reason: Death) -> None:
        """The peer was found dead; only the first way it was found counts, and none after the end."""
        if self._dead or self.closed:
            return
        self._dead = True
        self._recorder.deaths(self.series.identity, reason).add(1)

    @contained
    def identify(self, server_name: object = None, protocol_version: object = None) -> None:
        """The server's name or the protocol revision became known; what is None stays as it was."""
        self.series = self._recorder.identified(self.series.identity, server_name, protocol_version)

    @contained
    def establish(self, server_name: object = None, protocol_version: object = None) -> None:
        """A session was established: counted once per connection, never on a stateless exchange."""
        if self._mode is Mode.STATELESS or self.closed:
            return
        if self._session is None:
            self.series = self._recorder.identified(self.series.identity, server_name, protocol_version)
            self._session = (perf_counter(), self.series)
            self.series.session(catalogue.SESSIONS_CREATED).add(1)
            self.series.session(catalogue.SESSIONS_ACTIVE).add(1)

    @contained
    def listed(self, direction: Direction, method: str, result: object) -> None:
        """A tools/list or prompts/list answer passed by: its names are registered from now on."""
        target, key = LISTINGS[method]
        names = [fields(entry).get("name") for entry in items(fields(result).get(key))]
        self._recorder.mark_listed(self.series.identity, target)
        self.register(direction, target, (name for name in names if isinstance(name, str)))

    @contained
    def register(self, direction: Direction, target: Target, names: Iterable[str]) -> None:
        """Names of tools or prompts are known to exist: admit them and let their counters begin at 0."""
        for name in names:
            if self._recorder.names.register(target, name):
                self.series.zero(direction, target, name)

    def target(self, direction: Direction, method: str, name: str | None, outcome: Outcome) -> str | None:
        """The bounded tool or prompt name for a request that ends so; None where the method has none."""
        target = TARGETS.get(method)
        if target is None or name is None:
            return None
        names = self._recorder.names
        if names.has(target, name):
            return name
        registry = self.registry if direction is Direction.INBOUND else None
        if registry is not None and _knows(registry, target, name):
            if not names.register(target, name):
                return OTHER
            self.series.zero(direction, target, name)
            return name
        listed = self._recorder.is_listed(self.series.identity, target)
        if listed or (registry is not None and _lists(registry, target)):
            return OTHER
        return name if outcome is OK and names.prove(target, name) else OTHER

    @contained
    def close(self, end: End, error_type: str | None = None) -> None:
        """The connection ended, and its session with it. Only the first call counts.

        Args:
            end: How.
            error_type: The exception's class name; used with :attr:`End.ERROR`.
        """
        if self.closed:
            return
        if end is End.PEER_LOST:
            self.dead(self._silence)
        elif end is End.CLOSED and self._dead:
            end = End.PEER_LOST
        self.closed = True
        now = perf_counter()
        self._active.add(-1)
        values = self._attributes()
        values[catalogue.STATUS] = end.value
        error = self._recorder.exception_name(error_type) if end is End.ERROR else None
        values[catalogue.ERROR_TYPE] = error
        self._recorder.shared_cell(catalogue.CONNECTION_DURATION, values).add(now - self._opened)
        if self._session is not None:
            self._close_session(end, error, now)

    def _close_session(self, end: End, error: str | None, now: float) -> None:
        if self._session is None:
            return
        since, series = self._session
        series.session(catalogue.SESSIONS_ACTIVE).add(-1)
        series.session(catalogue.SESSION_DURATION, {catalogue.STATUS: end.value}).add(now - since)
        if end is End.EVICTED:
            self._recorder.evictions(series.identity.transport).add(1)
        server = series.identity.role is Role.SERVER
        convention = catalogue.SERVER_SESSION_DURATION if server else catalogue.CLIENT_SESSION_DURATION
        if end is End.PEER_LOST:
            error = CONNECTION_LOST.error_type
        series.session(convention, {catalogue.ERROR_TYPE: error}).add(now - since)


@contained
def _knows(registry: Registry, target: Target, name: str) -> bool:
    return registry.knows(target, name)


@contained
def _lists(registry: Registry, target: Target) -> bool:
    return registry.lists(target)


class Recorder:
    """Everything one ``instrument()`` records; what it kept is flushed by :meth:`retire`.

    Args:
        meter_provider: Where the instruments are created; None is the global provider, which may be set later.
        limits: The limits of the tables; None reads the environment.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, limits: Limits | None = None) -> None:
        limits = limits or Limits.from_environment()
        meter = get_meter(SCOPE_NAME, __version__, meter_provider)
        self.names = Names(limits.names)
        self._methods = Table(limits.methods)
        self._servers = Table(limits.servers)
        self._exceptions = Table(limits.exceptions)
        self._addresses = Table(limits.addresses)
        self._interceptors = Table(limits.interceptors)
        self._pools = Table(limits.pools)
        self.idle_connections: Callable[[], Mapping[str, int]] = dict
        """Counts the idle connections of the HTTP pools by pool; set by the adapter that knows them."""
        self._ledger = Ledger()
        self._instruments = Instruments(meter, limits.attribute_sets)
        self._series: dict[_Identity, _Series] = {}
        self._shared: dict[tuple[str, tuple[tuple[str, str | int | None], ...]], Cell] = {}
        self._listed: set[tuple[Role, str | None, Target]] = set()
        self._request_cells = 0
        self.provider = meter_provider
        memory = catalogue.MEMORY_USAGE
        meter.create_observable_up_down_counter(
            memory.name, [partial(_collect, meter_provider)], memory.unit, memory.description
        )
        idle = catalogue.POOL_IDLE
        self._idle_bound = Bound(idle, limits.attribute_sets)
        meter.create_observable_up_down_counter(
            idle.name, [partial(_idle_connections, meter_provider)], idle.unit, idle.description
        )
        _live.add(self)

    @contained
    def open(
        self,
        role: Role,
        transport: Transport,
        mode: Mode = Mode.STATEFUL,
        *,
        server_name: object = None,
        protocol_version: object = None,
        address: Address | None = None,
        registry: Registry | None = None,
        session_versions: Iterable[str] = (),
        crash_code: str = "0",
    ) -> Connection:
        """A connection opened.

        Args:
            role: What this process is in it.
            transport: How the peer is reached.
            mode: Stateless for one server-side HTTP exchange.
            server_name: The server's name, if it is known yet.
            protocol_version: The protocol revision, if it is known yet.
            address: Where a client's peer is.
            registry: What a server has registered.
            session_versions: The revisions a session on this connection may have; their counters begin at 0.
            crash_code: The JSON-RPC code the SDK answers with when a handler raises.
        """
        identity = _Identity(
            role,
            transport,
            self._servers.admit(server_name) if isinstance(server_name, str) else None,
            _version(protocol_version),
            self._address(address),
            crash_code,
        )
        series = self._series_of(identity)
        connection = Connection(self, series, mode, registry)
        self._zero(identity, mode)
        if mode is Mode.STATEFUL:
            for version in session_versions:
                values: dict[str, str | int | None] = {catalogue.PROTOCOL_VERSION: _version(version)}
                series.session(catalogue.SESSIONS_CREATED, values).touch()
        if role is Role.SERVER and mode is Mode.STATEFUL and transport is Transport.STREAMABLE_HTTP:
            self.evictions(transport).touch()
        if role is Role.SERVER and registry is not None:
            self._register(connection, series, registry)
        return connection

    @contained
    def _register(self, connection: Connection, series: _Series, registry: Registry) -> None:
        # Apart from open(): whatever a server object does, its connection is open and has to be closed.
        for target in Target:
            names = tuple(map(str, registry.names(target)))
            # Stateless exchanges open by the thousand: what did not change was registered by an earlier one.
            if series.registered.get(target) != names:
                series.registered[target] = names
                connection.register(Direction.INBOUND, target, names)

    @contained
    def connection_error(self, role: Role, transport: Transport, error: str) -> None:
        """A transport failed, or refused something before it was a request.

        Args:
            role: What this process is.
            transport: The transport.
            error: A JSON-RPC code or an HTTP status where there was an answer, else an exception's class name.
        """
        # Codes and statuses are bounded where they come from.
        name = error if error.lstrip("-").isdigit() else self._exceptions.admit(error)
        values = {catalogue.ROLE: role.value, catalogue.TRANSPORT: transport.value, catalogue.ERROR_TYPE: name}
        self.shared_cell(catalogue.CONNECTION_ERRORS, {**values}).add(1)

    @contained
    def keepalive(self, transport: Transport) -> None:
        """A server sent an SSE keep-alive frame."""
        identity = _Identity(Role.SERVER, transport, None, None, None, "0")
        self.heartbeats(identity, Direction.OUTBOUND, Heartbeat.SSE_KEEPALIVE).add(1)

    @contained
    def task_spawned(self, role: Role) -> None:
        """The SDK started a task for a message."""
        self.shared_cell(catalogue.TASK_SPAWNS, {catalogue.ROLE: role.value}).add(1)

    @contained
    def intercepted(self, interceptor: str, action: Action, error: str | None = None) -> None:
        """An interceptor dealt with a message.

        Args:
            interceptor: Its class or function name.
            action: What it did.
            error: With :attr:`Action.ERROR`, the class name of the exception it raised.
        """
        name = self._interceptors.admit(interceptor)
        self.shared_cell(
            catalogue.INTERCEPTOR_ACTIONS, {catalogue.INTERCEPTOR: name, catalogue.ACTION: action.value}
        ).add(1)
        if action is Action.ERROR:
            values = {catalogue.INTERCEPTOR: name, catalogue.ERROR_TYPE: self._exceptions.admit(error)}
            self.shared_cell(catalogue.INTERCEPTOR_ERRORS, {**values}).add(1)

    @contained
    def intercepting(self, interceptor: str, phase: Phase, seconds: float) -> None:
        """An interceptor took that long, by itself, before (request) or after (response) what it wraps."""
        name = self._interceptors.admit(interceptor)
        values = {catalogue.INTERCEPTOR: name, catalogue.PHASE: phase.value}
        self.shared_cell(catalogue.INTERCEPTOR_DURATION, {**values}).add(seconds)

    @contained
    def pooled(self, pool: str, *, created: bool, waited: float) -> None:
        """The client's HTTP pool assigned a connection to an MCP request.

        Args:
            pool: ``scheme://host:port`` of the endpoint.
            created: Whether it had to be opened.
            waited: Seconds from asking the pool to the assignment.
        """
        values: dict[str, str | int | None] = {catalogue.POOL: self._pools.admit(pool)}
        self.shared_cell(catalogue.POOL_CREATED if created else catalogue.POOL_REUSED, values).add(1)
        self.shared_cell(catalogue.POOL_WAIT_DURATION, values).add(waited)

    def retire(self) -> None:
        """Hand over what is left and stop observing; called by ``uninstrument()``."""
        _live.discard(self)
        self._ledger.pass_through()

    # What connections and series share. Not for adapters.

    def cell(self, *sinks: tuple[Metric, dict[str, str | int | None]]) -> Cell:
        """A new cell that feeds these metrics with these attributes."""
        return self._ledger.cell(*(self._instruments.sink(metric, values) for metric, values in sinks))

    def shared_cell(self, metric: Metric, values: dict[str, str | int | None]) -> Cell:
        """The one cell of a metric and an attribute set."""
        key = (metric.name, tuple((key, values.get(key)) for key in metric.attributes))
        cell = self._shared.get(key)
        if cell is None:
            cell = self._shared.setdefault(key, self.cell((metric, values)))
        return cell

    def heartbeats(self, identity: _Identity, direction: Direction, kind: Heartbeat) -> Cell:
        """The liveness checks of a role and transport."""
        values: dict[str, str | int | None] = {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.DIRECTION: direction.value,
            catalogue.KIND: kind.value,
        }
        return self.shared_cell(catalogue.HEARTBEAT_CHECKS, values)

    def deaths(self, identity: _Identity, reason: Death) -> Cell:
        """The peers of a role and transport found dead in one way."""
        values: dict[str, str | int | None] = {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.REASON: reason.value,
        }
        return self.shared_cell(catalogue.DEAD_DETECTED, values)

    def idle_by_pool(self) -> dict[str, int]:
        """Idle connections by bounded pool name."""
        idle: dict[str, int] = {}
        for pool, count in self.idle_connections().items():
            name = str(self._idle_bound.admit({catalogue.POOL: self._pools.admit(pool)})[catalogue.POOL])
            idle[name] = idle.get(name, 0) + count
        return idle

    def _zero(self, identity: _Identity, mode: Mode) -> None:
        """Let the liveness counters of a new connection begin at 0, as far as they can move on it."""
        role, transport = identity.role, identity.transport
        if mode is Mode.STATEFUL:
            for direction in Direction:
                self.heartbeats(identity, direction, Heartbeat.PING).touch()
            self.deaths(identity, Death.PING_FAILED).touch()
        http = transport in (Transport.SSE, Transport.STREAMABLE_HTTP)
        if http and role is Role.SERVER:
            self.heartbeats(identity, Direction.OUTBOUND, Heartbeat.SSE_KEEPALIVE).touch()
        self.deaths(identity, Death.PEER_CLOSED).touch()
        self.deaths(identity, Death.WRITE_FAILED).touch()
        if transport is Transport.STREAMABLE_HTTP and role is Role.CLIENT:
            self.deaths(identity, Death.SESSION_NOT_FOUND).touch()

    def evictions(self, transport: Transport) -> Cell:
        """The evicted sessions of a transport; the SDK knows one reason."""
        values: dict[str, str | int | None] = {
            catalogue.TRANSPORT: transport.value,
            catalogue.REASON: "idle_timeout",
        }
        return self.shared_cell(catalogue.SESSIONS_EVICTED, values)

    def room_for_a_request_cell(self) -> bool:
        """Whether one more request cell may be kept apart; asking takes the place."""
        self._request_cells += 1
        return self._request_cells <= _MOST_CELLS

    def method(self, method: str, registry: Registry | None) -> str:
        """The bounded method name: the protocol's own, or one the server registered."""
        if method in METHODS:
            return method
        if registry is not None and registry.serves(method):
            return self._methods.admit(method)
        return OTHER

    def identified(self, identity: _Identity, server_name: object, protocol_version: object) -> _Series:
        """The series of an identity about which more is known now."""
        name = self._servers.admit(server_name) if isinstance(server_name, str) else identity.server_name
        version = _version(protocol_version) or identity.protocol_version
        if name == identity.server_name and version == identity.protocol_version:
            return self._series_of(identity)
        known = _Identity(identity.role, identity.transport, name, version, identity.address, identity.crash_code)
        return self._series_of(known)

    def mark_listed(self, identity: _Identity, target: Target) -> None:
        """A listing of this server passed by: its unlisted names are not registered."""
        self._listed.add((identity.role, identity.server_name, target))

    def is_listed(self, identity: _Identity, target: Target) -> bool:
        """Whether a listing of this server ever passed by."""
        return (identity.role, identity.server_name, target) in self._listed

    def exception_name(self, name: str | None) -> str:
        """The bounded class name of an exception; an HTTP status, which is bounded already, is itself."""
        return name if name is not None and name.isdigit() else self._exceptions.admit(name)

    def drain(self) -> None:
        """Hand over what every cell holds."""
        self._ledger.drain()

    def _address(self, address: Address | None) -> Address | None:
        if address is None:
            return None
        if self._addresses.admit(f"{address.host}:{address.port}") is OTHER:
            return Address(OTHER, None)
        return address

    def _series_of(self, identity: _Identity) -> _Series:
        series = self._series.get(identity)
        if series is None:
            series = self._series.setdefault(identity, _Series(identity, self))
        return series


def _version(version: object) -> str | None:
    if not isinstance(version, str):
        return None
    return version if version in PROTOCOL_VERSIONS else OTHER


_live: set[Recorder] = set()
"""Recorders between their creation and :meth:`Recorder.retire`; usually one."""


def _collect(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    """What happens when a reader of ``provider`` collects: cells are drained, memory is observed.

    It runs before the synchronous instruments of the same collection are read (``MeasurementConsumer.collect``), which
    is what makes a scrape exact. The SDK keeps the first callback an instrument was ever given, so it cannot belong to
    a recorder: it asks which ones are at work on its provider now.
    """
    observations: list[Observation] = []
    for recorder in tuple(_live):
        if _resolved(recorder.provider) is _resolved(provider):
            _drain(recorder)
            observations = _resident_memory() or []
    return observations


def _idle_connections(provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    observations: list[Observation] = []
    for recorder in tuple(_live):
        if _resolved(recorder.provider) is _resolved(provider):
            observations += _observe_idle(recorder) or []
    return observations


@contained
def _observe_idle(recorder: Recorder) -> list[Observation]:
    return [Observation(count, {catalogue.POOL: pool}) for pool, count in recorder.idle_by_pool().items()]


def _resolved(provider: MeterProvider | None) -> MeterProvider:
    return get_meter_provider() if provider is None else provider


@contained
def _drain(recorder: Recorder) -> None:
    recorder.drain()


@contained
def _resident_memory() -> list[Observation]:
    # A new handle each time: one that was kept would be the parent's after a fork.
    return [Observation(psutil.Process().memory_info().rss)]
