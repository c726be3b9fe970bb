"""The buffers of what connections have in common: one :class:`IdentityMetrics` for each identity.

A request costs three appends: ``mcp.requests.active`` up and down, and one duration, whose buffer feeds
``mcp.requests.total`` (its length), ``mcp.request.duration`` and the operation histogram of the conventions. To get
to them it looks up its :class:`MethodMetrics` by its method, its :class:`TargetMetrics` by the name of its tool
or prompt, and the buffer by its outcome. Attribute sets are built when a buffer is, never by a request.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import catalogue
from ..buffers.value_buffer import ValueBuffer
from ..catalogue import Metric
from ..labels import DESCRIBING, OPEN_ENDED, OTHER, TARGETS, Target
from ..outcome import OK, TOOL_ERROR, End, Outcome, error_reply
from ..transports import TRANSPORTS
from ..vocabulary import Address, Death, Direction, Heartbeat, Mode, Role, Transport
from .metric_buffers import MetricBuffers, Values


@dataclass(frozen=True)
class Identity:
    """What all requests of a connection have in common; equal identities share their buffers."""

    role: Role
    transport: Transport
    server_name: str | None
    protocol_version: str | None
    address: Address | None
    crash_code: str


class IdentityMetrics:
    """The buffers of one identity."""

    def __init__(self, identity: Identity, buffers: MetricBuffers) -> None:
        self.identity = identity
        self.protocol_version = identity.protocol_version
        self.buffers = buffers
        transport, address = TRANSPORTS[identity.transport], identity.address
        self.common: Values = {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.SERVER_NAME: identity.server_name,
            catalogue.PROTOCOL_VERSION: identity.protocol_version,
            catalogue.NETWORK_TRANSPORT: transport.network_transport,
            catalogue.NETWORK_PROTOCOL: transport.network_protocol,
            catalogue.SERVER_ADDRESS: address.host if address else None,
            catalogue.SERVER_PORT: address.port if address else None,
        }
        self.inbound: dict[str, MethodMetrics] = {}
        """The routes of requests this process answers, by bounded method name."""
        self.outbound: dict[str, MethodMetrics] = {}
        """Those of requests it sends."""
        self._notifications: dict[tuple[Direction, str], ValueBuffer] = {}
        self._metrics: dict[Mode, ConnectionMetrics] = {}
        self._zeroed: set[tuple[Target, str]] = set()
        self.opened: set[Mode] = set()
        """The modes in which a connection was opened, so that the counters that can move on it have begun at 0."""
        self.registered: dict[Target, tuple[str, ...]] = {}
        """The names a server had registered when a connection last looked."""
        self.registry_read = float("-inf")
        """When that was (``perf_counter`` seconds)."""

    def route(self, direction: Direction, method: str) -> MethodMetrics:
        """The requests of a bounded method name."""
        routes = self.inbound if direction is Direction.INBOUND else self.outbound
        route = routes.get(method)
        if route is None:
            route = routes.setdefault(method, MethodMetrics(self, direction, method))
        return route

    def connection_metrics(self, mode: Mode) -> ConnectionMetrics:
        """The connections of a mode."""
        metrics = self._metrics.get(mode)
        if metrics is None:
            metrics = self._metrics.setdefault(mode, ConnectionMetrics(self, mode))
        return metrics

    def notifications(self, direction: Direction, method: str) -> ValueBuffer:
        """Durations in seconds of notifications handled or sent."""
        key = (direction, method)
        buffer = self._notifications.get(key)
        if buffer is None:
            values = {**self.common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            buffer = self.buffers.buffer((catalogue.NOTIFICATIONS_TOTAL, values), (operation_of(direction), values))
            buffer = self._notifications.setdefault(key, buffer)
        return buffer

    def zero(self, direction: Direction, target: Target, name: str) -> None:
        """Let the counters of a registered name begin at 0: its successes, its tool errors, its crashes."""
        if (target, name) in self._zeroed:
            return
        self._zeroed.add((target, name))
        calls = self.route(direction, "tools/call" if target is Target.TOOL else "prompts/get").calls(name)
        crash = error_reply(int(self.identity.crash_code))
        for outcome in (OK, TOOL_ERROR, crash) if target is Target.TOOL else (OK, crash):
            calls.ended(outcome).begin_at_zero()

    def session(self, metric: Metric, values: Values | None = None) -> ValueBuffer:
        """The buffer of a session metric, with ``values`` beside what the identity says."""
        known = {**self.common, **(values or {})}
        return self.buffers.shared_buffer(metric, *(known.get(key) for key in metric.attributes))

    def heartbeats(self, direction: Direction, kind: Heartbeat) -> ValueBuffer:
        """The liveness checks of its role and transport."""
        return heartbeats(self.buffers, self.identity.role, self.identity.transport, direction, kind)

    def deaths(self, reason: Death) -> ValueBuffer:
        """The peers of its role and transport found dead in one way."""
        role, transport = self.identity.role.value, self.identity.transport.value
        return self.buffers.shared_buffer(catalogue.DEAD_DETECTED, role, transport, reason.value)

    def evictions(self) -> ValueBuffer:
        """The evicted sessions of its transport; the SDK knows one reason."""
        return self.buffers.shared_buffer(catalogue.SESSIONS_EVICTED, self.identity.transport.value, "idle_timeout")

    def begin_liveness_at_zero(self, mode: Mode) -> None:
        """Let the liveness counters of a new connection begin at 0, as far as they can move on it."""
        role, transport = self.identity.role, TRANSPORTS[self.identity.transport]
        if mode is Mode.STATEFUL:
            for direction in Direction:
                self.heartbeats(direction, Heartbeat.PING).begin_at_zero()
            self.deaths(Death.PING_FAILED).begin_at_zero()
        if transport.is_http and role is Role.SERVER:
            self.heartbeats(Direction.OUTBOUND, Heartbeat.SSE_KEEPALIVE).begin_at_zero()
        self.deaths(Death.PEER_CLOSED).begin_at_zero()
        self.deaths(Death.WRITE_FAILED).begin_at_zero()
        if transport.has_session_ids and role is Role.CLIENT:
            self.deaths(Death.SESSION_NOT_FOUND).begin_at_zero()
        if transport.has_session_ids and role is Role.SERVER and mode is Mode.STATEFUL:
            self.evictions().begin_at_zero()


class ConnectionMetrics:
    """The buffers of an identity's connections of one mode."""

    __slots__ = ("_attributes", "_buffers", "active", "durations", "tasks", "total")

    def __init__(self, series: IdentityMetrics, mode: Mode) -> None:
        identity = series.identity
        self._buffers = buffers = series.buffers
        self._attributes = (identity.role.value, identity.transport.value, mode.value)
        self.total = buffers.shared_buffer(catalogue.CONNECTIONS_TOTAL, *self._attributes)
        self.active = buffers.shared_buffer(catalogue.CONNECTIONS_ACTIVE, *self._attributes)
        self.tasks = buffers.shared_buffer(catalogue.TASK_SPAWNS, identity.role.value)
        """Tasks the SDK started for messages; a 1 is one of them."""
        self.durations: dict[tuple[End, str | None], ValueBuffer] = {}
        """What was needed so far of :meth:`ended`."""

    def ended(self, end: End, error: str | None) -> ValueBuffer:
        """Durations in seconds of connections that ended so; ``error`` is a bounded exception name."""
        buffer = self._buffers.shared_buffer(catalogue.CONNECTION_DURATION, *self._attributes, end.value, error)
        self.durations[end, error] = buffer
        return buffer


class MethodMetrics:
    """The requests of one method in one direction."""

    __slots__ = (
        "active",
        "by_name",
        "describes_server",
        "direction",
        "is_ping",
        "is_tool_call",
        "method",
        "names_target",
        "series",
        "values",
    )

    def __init__(self, series: IdentityMetrics, direction: Direction, method: str) -> None:
        self.series = series
        self.direction = direction
        self.method = method
        self.is_ping = method == "ping"
        self.is_tool_call = method == "tools/call"
        self.names_target = method in TARGETS
        self.describes_server = method in DESCRIBING or None in (
            series.identity.server_name,
            series.identity.protocol_version,
        )
        """Whether its results have to be looked at for what they say about the server."""
        self.values: Values = {**series.common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
        self.active = series.buffers.buffer((catalogue.REQUESTS_ACTIVE, self.values))
        """Steps of ``mcp.requests.active``."""
        self.by_name: dict[str | None, TargetMetrics] = {}
        """What was admitted so far, by the bounded tool or prompt name; under None what names none."""

    def calls(self, target: str | None) -> TargetMetrics:
        """The requests of a bounded tool or prompt name."""
        calls = self.by_name.get(target)
        if calls is None:
            calls = self.by_name.setdefault(target, TargetMetrics(self, target))
        return calls


class TargetMetrics:
    """The requests of one route that name the same tool or prompt, or none."""

    __slots__ = ("_route", "_values", "by_outcome", "request_sizes", "response_sizes", "succeeded")

    def __init__(self, route: MethodMetrics, target: str | None) -> None:
        self._route = route
        self._values = route.values
        if target is not None:
            self._values = {**route.values, TARGETS[route.method].value: target}
        self.by_outcome: dict[Outcome, ValueBuffer] = {}
        self.succeeded: ValueBuffer | None = None
        """That of :data:`~.outcome.OK`, as soon as there is one."""
        self.request_sizes: ValueBuffer | None = None
        """Bytes of requests; None as long as there was none to measure."""
        self.response_sizes: ValueBuffer | None = None
        """Bytes of responses."""

    def ended(self, outcome: Outcome) -> ValueBuffer:
        """Durations in seconds of requests that ended so."""
        buffer = self.by_outcome.get(outcome)
        if buffer is None:
            route = self._route
            if route.series.buffers.room_for_a_request_buffer() or self._is_last_resort():
                buffer = self._make(outcome)
            else:
                buffer = route.series.route(route.direction, OTHER).calls(None).ended(outcome)
            buffer = self.by_outcome.setdefault(outcome, buffer)
            if outcome is OK:
                self.succeeded = buffer
        return buffer

    def sized(self, *, response: bool) -> ValueBuffer:
        """The buffer of their bytes, or of those of their responses."""
        buffer = self._route.series.buffers.buffer
        if response:
            self.response_sizes = sizes = self.response_sizes or buffer((catalogue.RESPONSE_SIZE, self._values))
        else:
            self.request_sizes = sizes = self.request_sizes or buffer((catalogue.REQUEST_SIZE, self._values))
        return sizes

    def measure_request(self, size: int) -> None:
        """A request took ``size`` bytes."""
        (self.request_sizes or self.sized(response=False)).add(size)

    def measure_response(self, size: int) -> None:
        """A response took ``size`` bytes."""
        (self.response_sizes or self.sized(response=True)).add(size)

    def _is_last_resort(self) -> bool:
        return self._route.method == OTHER and self._values is self._route.values

    def _make(self, outcome: Outcome) -> ValueBuffer:
        route = self._route
        values = {**self._values, catalogue.STATUS: outcome.status}
        # On the request counter error.type tells apart what one status lumps together; elsewhere it would repeat it.
        counted = {
            **values,
            catalogue.ERROR_TYPE: outcome.error_type if outcome.status in ("client_error", "server_error") else None,
        }
        buffer = route.series.buffers.buffer
        if route.method in OPEN_ENDED:
            return buffer((catalogue.REQUESTS_TOTAL, counted))
        blameless = route.direction is Direction.INBOUND and outcome.caller_fault
        operation = {
            **values,
            catalogue.ERROR_TYPE: None if blameless else outcome.error_type,
            catalogue.RPC_STATUS_CODE: outcome.code,
            catalogue.OPERATION: "execute_tool" if route.method == "tools/call" else None,
        }
        return buffer(
            (catalogue.REQUESTS_TOTAL, counted),
            (catalogue.REQUEST_DURATION, values),
            (operation_of(route.direction), operation),
        )


def operation_of(direction: Direction) -> Metric:
    """The conventions' histogram: who sends is the client of the operation, who receives its server."""
    if direction is Direction.INBOUND:
        return catalogue.SERVER_OPERATION_DURATION
    return catalogue.CLIENT_OPERATION_DURATION


def heartbeats(
    buffers: MetricBuffers, role: Role, transport: Transport, direction: Direction, kind: Heartbeat
) -> ValueBuffer:
    """The liveness checks of a role and transport."""
    return buffers.shared_buffer(catalogue.HEARTBEAT_CHECKS, role.value, transport.value, direction.value, kind.value)
