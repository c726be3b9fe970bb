"""The one door for the adapters: verbs in which they report what happened.

Adapters open a :class:`~.store.connection.Connection`, begin and end requests on it, and close it; what belongs to no
connection they report to the :class:`Recorder` itself. The vocabulary is the protocol's, nothing here knows an SDK. The
way of a value is: event, meaning (labels, outcome), store (attribute sets, bounds), buffer. Buffers are handed over to
the instruments when a reader collects (:mod:`.buffers`). None of them leaves this door.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.metrics import MeterProvider, get_meter

from ..core.fail_open import contained, report
from ..version import __version__
from . import catalogue
from .buffers import collection
from .labels import Registry, bounded_version
from .limits import Limits
from .outcome import number_name
from .store.connection import Connection, Request
from .store.inbound_requests import Answered, InboundRequests, as_known
from .store.interceptors import Interceptor, Interceptors, InterceptorSequence
from .store.method_metrics import heartbeats
from .store.pools import Pools
from .store.shared import Shared
from .vocabulary import Address, Direction, Heartbeat, Mode, Role, Transport

__all__ = [
    "Answered",
    "Connection",
    "InboundRequests",
    "Interceptor",
    "InterceptorSequence",
    "Recorder",
    "Request",
    "as_known",
]

SCOPE_NAME: Final = "opentelemetry_instrumentation_mcp"


class Recorder:
    """Everything one ``instrument()`` records; what it kept is flushed by :meth:`retire`.

    Args:
        meter_provider: Where the instruments are created; None is the global provider, which may be set later.
        limits: The limits of the tables; None reads the environment.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, limits: Limits | None = None) -> None:
        self._limits = limits = limits or Limits.from_environment()
        meter = get_meter(SCOPE_NAME, __version__, meter_provider)
        self.idle_connections: Callable[[], Mapping[str, int]] = dict
        """Counts the idle connections of the HTTP pools by pool; set by the adapter that knows them."""
        self.provider = meter_provider
        self._shared = Shared(meter, limits)
        self._interceptors = Interceptors(self._shared, limits.interceptors)
        self._pools = Pools(self._shared.buffers, limits)
        self._add_task: dict[Role, Callable[[float], None]] = {}
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
            series = self._shared.identities.opened((role, transport, name, version, address, crash_code))
            connection = Connection(self._shared, series, mode, registry)
            if mode not in series.opened:
                series.opened.add(mode)
                series.begin_liveness_at_zero(mode)
            if mode is Mode.STATEFUL:
                for version in session_versions:
                    values: dict[str, str | int | None] = {catalogue.PROTOCOL_VERSION: bounded_version(version)}
                    series.session(catalogue.SESSIONS_CREATED, values).begin_at_zero()
                connection.register_served(connection.opened)
            return connection
        except Exception as error:
            report("Recorder.open", error)
            return None

    def has_opened(self, connection: Connection) -> bool:
        """Whether it was this recorder that a connection was opened with."""
        return connection.belongs_to(self._shared)

    @contained
    def serving(self, transport: Transport, mode: Mode = Mode.STATEFUL) -> None:
        """A server is ready for connections: those it may get begin at 0.

        Args:
            transport: How clients reach it.
            mode: Stateless if every HTTP exchange is a connection.
        """
        attributes = (Role.SERVER.value, transport.value, mode.value)
        self._shared.buffers.shared_buffer(catalogue.CONNECTIONS_TOTAL, *attributes).begin_at_zero()
        self._shared.buffers.shared_buffer(catalogue.CONNECTIONS_ACTIVE, *attributes).begin_at_zero()

    @contained
    def connection_error(self, role: Role, transport: Transport, error: str | int) -> None:
        """A transport failed, or refused something before it was a request.

        Args:
            role: What this process is.
            transport: The transport.
            error: A JSON-RPC code or an HTTP status where there was an answer, else an exception's class name.
        """
        # JSON-RPC codes, which are negative, are bounded where they come from.
        exception_name = self._shared.bounds.exception_name
        name = number_name(error) if isinstance(error, int) and error < 0 else exception_name(error)
        self._shared.buffers.shared_buffer(catalogue.CONNECTION_ERRORS, role.value, transport.value, name).add(1)

    @contained
    def keepalive(self, transport: Transport) -> None:
        """A server sent an SSE keep-alive frame."""
        kind = Heartbeat.SSE_KEEPALIVE
        heartbeats(self._shared.buffers, Role.SERVER, transport, Direction.OUTBOUND, kind).add(1)

    def task_started(self, role: Role) -> None:
        """The SDK started a task for a message. Where its connection is at hand, it is told that instead."""
        try:
            # For every message of 1.x.
            add = self._add_task.get(role)
            if add is None:
                buffer = self._shared.buffers.shared_buffer(catalogue.TASK_SPAWNS, role.value)
                add = self._add_task.setdefault(role, buffer.add)
            add(1)
        except Exception as error:
            report("Recorder.task_started", error)

    def interceptor(self, name: str) -> Interceptor:
        """The interceptor of a class or function name."""
        return self._interceptors.named(name)

    def interceptor_sequence(self, interceptors: Sequence[Interceptor]) -> InterceptorSequence | None:
        """Messages that go straight through these interceptors; None where too many sequences are told apart."""
        return self._interceptors.interceptor_sequence(interceptors)

    def pooled(self, pool: str, *, created: bool, waited: float) -> None:
        """The client's HTTP pool assigned a connection to an MCP request.

        Args:
            pool: ``scheme://host:port`` of the endpoint.
            created: Whether it had to be opened.
            waited: Seconds from asking the pool to the assignment.
        """
        try:
            self._pools.assigned(pool, created, waited)
        except Exception as error:
            report("Recorder.pooled", error)

    def successor(self) -> Recorder:
        """A recorder in this one's place, for a forked child; what this one holds is told by the parent."""
        collection.end(self)
        self._shared.buffers.abandon()
        successor = Recorder(self.provider, self._limits)
        successor.idle_connections = self.idle_connections
        return successor

    def retire(self) -> None:
        """Hand over what is left and stop observing; called by ``uninstrument()``."""
        collection.end(self)
        self._shared.loops.settle()
        self._shared.buffers.keep_nothing()

    # For collections, not for adapters.

    def drain(self) -> None:
        """Hand over what every buffer holds, the ends of what was open on closed event loops included."""
        self._shared.loops.settle()
        self._shared.buffers.drain()

    def idle_by_pool(self) -> Mapping[str, int]:
        """Idle connections by bounded pool name."""
        return self._pools.by_name(self.idle_connections())
