"""The recorder: the one door through which adapters tell what happened.

Adapters open a :class:`~.connection.Connection`, begin and end requests on it, and close it; what belongs to no
connection they tell the recorder itself. The vocabulary is the protocol's, nothing here knows an SDK. The way of the
data is: event, meaning (labels, outcome), cell. Cells are handed over to the instruments when a reader collects
(:mod:`.collection`, :mod:`.handover`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from opentelemetry.metrics import MeterProvider, get_meter

from ..core.fail_open import contained, report
from ..version import __version__
from . import catalogue, collection
from .catalogue import Metric
from .connection import Connection
from .handover import Cell, Ledger, Part, Rows
from .instruments import Bound, Instruments
from .interceptor import Interceptor, Passages
from .labels import METHODS, OTHER, Names, Registry, Table, Target, bounded_version
from .limits import Limits
from .loops import Loops
from .outcome import number_name, status_name
from .series import Identity, Series
from .transports import TRANSPORTS
from .vocabulary import Address, Death, Direction, Heartbeat, Mode, Role, Transport

SCOPE_NAME: Final = "opentelemetry_instrumentation_mcp"

_MOST_CELLS: Final = 5_000
"""Request cells one recorder keeps apart. Closed sets bound their number, generously; this is the backstop."""

_MOST_SERIES: Final = 256
"""Identities it keeps apart. A server chooses its name and revision anew for each client that connects."""

_MOST_PASSAGES: Final = 50
"""Sequences of interceptors that messages can pass: as many as servers are told apart."""

_Known = tuple[Role, Transport, str | None, str | None, Address | None, str]
"""What is known about a connection when it opens."""


class Recorder:
    """Everything one ``instrument()`` records; what it kept is flushed by :meth:`retire`.

    Args:
        meter_provider: Where the instruments are created; None is the global provider, which may be set later.
        limits: The limits of the tables; None reads the environment.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, limits: Limits | None = None) -> None:
        self._limits = limits = limits or Limits.from_environment()
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
        self.loops = Loops()
        self._ledger = Ledger()
        self._instruments = Instruments(meter, limits.attribute_sets)
        self._series: dict[Identity, Series] = {}
        self._openings: dict[_Known, Series] = {}
        self._tasks: dict[Role, Cell] = {}
        self._known_interceptors: dict[str, Interceptor] = {}
        self._known_passages: dict[tuple[str, ...], Passages] = {}
        self._pool_cells: dict[tuple[str, bool], Cell] = {}
        self._shared: dict[tuple[str, tuple[str | int | None, ...]], Cell] = {}
        self._listed: set[tuple[Role, str | None, Target]] = set()
        self._request_cells = 0
        self.provider = meter_provider
        self._idle_bound = Bound(catalogue.POOL_IDLE, limits.attribute_sets)
        collection.begin(self, meter)

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
    ) -> Connection | None:
        """A connection opened.

        Args:
            role: What this process is in it.
            transport: How the peer is reached.
            mode: Stateless for a server-side HTTP exchange, or all that are like it.
            server_name: The server's name, if it is known yet.
            protocol_version: The protocol revision, if it is known yet.
            address: Where a client's peer is.
            registry: What a server has registered.
            session_versions: The revisions a session on this connection may have; their counters begin at 0.
            crash_code: The JSON-RPC code the SDK answers with when a handler raises.
        """
        try:
            name = server_name if isinstance(server_name, str) else None
            version = protocol_version if isinstance(protocol_version, str) else None
            known = (role, transport, name, version, address, crash_code)
            series = self._openings.get(known)
            if series is None:
                series = self._series_for(known)
            connection = Connection(self, series, mode, registry)
            if mode not in series.opened:
                series.opened.add(mode)
                self._zero(series.identity, mode)
            if mode is Mode.STATEFUL:
                for version in session_versions:
                    values: dict[str, str | int | None] = {catalogue.PROTOCOL_VERSION: bounded_version(version)}
                    series.session(catalogue.SESSIONS_CREATED, values).touch()
            if mode is Mode.STATEFUL:
                self.look(connection, connection.opened)
            return connection
        except Exception as error:
            report("Recorder.open", error)
            return None

    def _series_for(self, known: _Known) -> Series:
        role, transport, server_name, protocol_version, address, crash_code = known
        identity = Identity(
            role,
            transport,
            self._servers.admit(server_name) if server_name is not None else None,
            bounded_version(protocol_version),
            self._address(address),
            crash_code,
        )
        series = self._series_of(identity)
        identity = series.identity
        if (server_name, protocol_version, address) == (
            identity.server_name,
            identity.protocol_version,
            identity.address,
        ):
            # Only what is bounded is remembered.
            self._openings[known] = series
        return series

    @contained
    def look(self, connection: Connection, now: float) -> None:
        """See what the server of a connection has registered by ``now`` (``perf_counter`` seconds)."""
        # Apart from what opens it: whatever a server object does, its connection is open and has to be closed.
        registry, series = connection.registry, connection.series
        series.looked = now
        if registry is None:
            return
        for target in Target:
            names = tuple(map(str, registry.names(target)))
            if series.registered.get(target) != names:
                series.registered[target] = names
                connection.register(Direction.INBOUND, target, names)

    @contained
    def serving(self, transport: Transport, mode: Mode = Mode.STATEFUL) -> None:
        """A server is ready for connections: those it may get begin at 0.

        Args:
            transport: How clients reach it.
            mode: Stateless if every HTTP exchange is a connection.
        """
        attributes = (Role.SERVER.value, transport.value, mode.value)
        self.shared_cell(catalogue.CONNECTIONS_TOTAL, *attributes).touch()
        self.shared_cell(catalogue.CONNECTIONS_ACTIVE, *attributes).touch()

    @contained
    def connection_error(self, role: Role, transport: Transport, error: str | int) -> None:
        """A transport failed, or refused something before it was a request.

        Args:
            role: What this process is.
            transport: The transport.
            error: A JSON-RPC code or an HTTP status where there was an answer, else an exception's class name.
        """
        # JSON-RPC codes, which are negative, are bounded where they come from.
        name = number_name(error) if isinstance(error, int) and error < 0 else self.exception_name(error)
        self.shared_cell(catalogue.CONNECTION_ERRORS, role.value, transport.value, name).add(1)

    @contained
    def keepalive(self, transport: Transport) -> None:
        """A server sent an SSE keep-alive frame."""
        identity = Identity(Role.SERVER, transport, None, None, None, "0")
        self.heartbeats(identity, Direction.OUTBOUND, Heartbeat.SSE_KEEPALIVE).add(1)

    def tasks(self, role: Role) -> Cell:
        """Tasks the SDK started for messages, for who sees every message; a 1 is one of them."""
        return self._tasks.get(role) or self._tasks.setdefault(
            role, self.shared_cell(catalogue.TASK_SPAWNS, role.value)
        )

    def interceptor(self, name: str) -> Interceptor:
        """The interceptor of a class or function name."""
        known = self._known_interceptors.get(name)
        if known is None:
            name = self._interceptors.admit(name)
            known = self._known_interceptors.setdefault(name, Interceptor(self, name))
        return known

    def passages(self, interceptors: Sequence[Interceptor]) -> Passages | None:
        """Messages that go straight through these interceptors; None where too many sequences are told apart."""
        names = tuple(each.name for each in interceptors)
        known = self._known_passages.get(names)
        if known is None and len(self._known_passages) < _MOST_PASSAGES:
            known = self._known_passages.setdefault(names, Passages(self, names))
        return known

    def pooled(self, pool: str, *, created: bool, waited: float) -> None:
        """The client's HTTP pool assigned a connection to an MCP request.

        Args:
            pool: ``scheme://host:port`` of the endpoint.
            created: Whether it had to be opened.
            waited: Seconds from asking the pool to the assignment.
        """
        try:
            cell = self._pool_cells.get((pool, created)) or self._cell_of_pool(pool, created)
            # In place of Cell.add(): every HTTP request comes here.
            cell.values.append(waited)
            if len(cell.values) >= cell.due:
                cell.look_after(waited)
        except Exception as error:
            report("Recorder.pooled", error)

    def _cell_of_pool(self, pool: str, created: bool) -> Cell:
        name = self._pools.admit(pool)
        cell = self._pool_cells.get((name, created))
        if cell is None:
            values: dict[str, str | int | None] = {catalogue.POOL: name}
            counter = catalogue.POOL_CREATED if created else catalogue.POOL_REUSED
            cell = self.cell((counter, values), (catalogue.POOL_WAIT_DURATION, values))
            cell = self._pool_cells.setdefault((name, created), cell)
        return cell

    def successor(self) -> Recorder:
        """A recorder in this one's place, for a forked child; what this one holds is told by the parent."""
        collection.end(self)
        self._ledger.abandon()
        successor = Recorder(self.provider, self._limits)
        successor.idle_connections = self.idle_connections
        return successor

    def retire(self) -> None:
        """Hand over what is left and stop observing; called by ``uninstrument()``."""
        collection.end(self)
        self.loops.settle()
        self._ledger.pass_through()

    # What connections and series share. Not for adapters.

    def cell(self, *sinks: tuple[Metric, dict[str, str | int | None]]) -> Cell:
        """A new cell that feeds these metrics with these attributes."""
        return self._ledger.cell(*(self._instruments.sink(metric, values) for metric, values in sinks))

    def rows(self, width: int, *parts: tuple[Part, Metric, dict[str, str | int | None]]) -> Rows:
        """A new cell for rows of ``width`` numbers: what each part makes of them feeds its metric."""
        sink = self._instruments.sink
        return self._ledger.rows(width, [(part, sink(metric, values)) for part, metric, values in parts])

    def shared_cell(self, metric: Metric, *values: str | int | None) -> Cell:
        """The one cell of a metric and an attribute set.

        Args:
            metric: The metric.
            values: One for each of its attributes, in the catalogue's order; None where it has none.
        """
        key = (metric.name, values)
        cell = self._shared.get(key)
        if cell is None:
            cell = self._shared.setdefault(key, self.cell((metric, dict(zip(metric.attributes, values, strict=True)))))
        return cell

    def heartbeats(self, identity: Identity, direction: Direction, kind: Heartbeat) -> Cell:
        """The liveness checks of a role and transport."""
        role, transport = identity.role.value, identity.transport.value
        return self.shared_cell(catalogue.HEARTBEAT_CHECKS, role, transport, direction.value, kind.value)

    def deaths(self, identity: Identity, reason: Death) -> Cell:
        """The peers of a role and transport found dead in one way."""
        return self.shared_cell(catalogue.DEAD_DETECTED, identity.role.value, identity.transport.value, reason.value)

    def idle_by_pool(self) -> dict[str, int]:
        """Idle connections by bounded pool name."""
        idle: dict[str, int] = {}
        for pool, count in self.idle_connections().items():
            name = str(self._idle_bound.admit({catalogue.POOL: self._pools.admit(pool)})[catalogue.POOL])
            idle[name] = idle.get(name, 0) + count
        return idle

    def _zero(self, identity: Identity, mode: Mode) -> None:
        """Let the liveness counters of a new connection begin at 0, as far as they can move on it."""
        role, transport = identity.role, TRANSPORTS[identity.transport]
        if mode is Mode.STATEFUL:
            for direction in Direction:
                self.heartbeats(identity, direction, Heartbeat.PING).touch()
            self.deaths(identity, Death.PING_FAILED).touch()
        if transport.is_http and role is Role.SERVER:
            self.heartbeats(identity, Direction.OUTBOUND, Heartbeat.SSE_KEEPALIVE).touch()
        self.deaths(identity, Death.PEER_CLOSED).touch()
        self.deaths(identity, Death.WRITE_FAILED).touch()
        if transport.has_session_ids and role is Role.CLIENT:
            self.deaths(identity, Death.SESSION_NOT_FOUND).touch()
        if transport.has_session_ids and role is Role.SERVER and mode is Mode.STATEFUL:
            self.evictions(identity.transport).touch()

    def evictions(self, transport: Transport) -> Cell:
        """The evicted sessions of a transport; the SDK knows one reason."""
        return self.shared_cell(catalogue.SESSIONS_EVICTED, transport.value, "idle_timeout")

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

    def identified(self, identity: Identity, server_name: object, protocol_version: object) -> Series:
        """The series of an identity about which more is known now."""
        name = self._servers.admit(server_name) if isinstance(server_name, str) else identity.server_name
        version = bounded_version(protocol_version) or identity.protocol_version
        if name == identity.server_name and version == identity.protocol_version:
            return self._series_of(identity)
        known = Identity(identity.role, identity.transport, name, version, identity.address, identity.crash_code)
        return self._series_of(known)

    def mark_listed(self, identity: Identity, target: Target) -> None:
        """A listing of this server passed by: its unlisted names are not registered."""
        self._listed.add((identity.role, identity.server_name, target))

    def is_listed(self, identity: Identity, target: Target) -> bool:
        """Whether a listing of this server ever passed by."""
        return (identity.role, identity.server_name, target) in self._listed

    def exception_name(self, name: str | int | None) -> str:
        """The bounded class name of an exception, or the HTTP status that is in its place."""
        return status_name(name) if isinstance(name, int) else self._exceptions.admit(name)

    def drain(self) -> None:
        """Hand over what every cell holds, the ends of what was open on closed event loops included."""
        self.loops.settle()
        self._ledger.drain()

    def _address(self, address: Address | None) -> Address | None:
        if address is None:
            return None
        if self._addresses.admit(f"{address.host}:{address.port}") is OTHER:
            return Address(OTHER, None)
        return address

    def _series_of(self, identity: Identity) -> Series:
        series = self._series.get(identity)
        if series is None:
            if len(self._series) >= _MOST_SERIES:
                name, address = identity.server_name, identity.address
                folded_name, folded_address = name and OTHER, address and Address(OTHER, None)
                if (name, address) != (folded_name, folded_address):
                    return self._series_of(replace(identity, server_name=folded_name, address=folded_address))
            series = self._series.setdefault(identity, Series(identity, self))
        return series
