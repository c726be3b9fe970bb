"""Connections and requests: from opening to end, and which metrics each of their events moves."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from ...core.fail_open import contained, report
from ...core.json_shapes import fields
from .. import catalogue
from ..labels import Registry
from ..outcome import CONNECTION_LOST, OK, TIMEOUT, End, Outcome
from ..vocabulary import Death, Direction, Heartbeat, Mode, Role
from . import targets
from .event_loops import EndsWithLoop
from .method_metrics import IdentityMetrics, MethodMetrics, TargetMetrics
from .shared import Shared

_REGISTRY_SECONDS: Final = 1.0
"""How long what a stateless server has registered counts as known; a name that is called is looked up at once."""


class Request:
    """One JSON-RPC request from its first sight to its end.

    ``end`` may be called more than once, by hooks that see the same end from different places: the first one, the most
    specific, counts.
    """

    # No __init__: the call of one costs as much as all it would do. Connection.begin_counted() sets every slot.
    __slots__ = (
        "answered",
        "calls",
        "connection",
        "ended",
        "hint",
        "id",
        "is_ping",
        "name",
        "request_bytes",
        "response_bytes",
        "route",
        "shadowed",
        "span",
        "started",
    )

    connection: Connection
    route: MethodMetrics
    started: float
    """When it was first seen (``perf_counter`` seconds)."""
    name: str | None
    """The tool or prompt it names, as on the wire."""
    is_ping: bool
    """Whether it is a check of life."""
    ended: bool
    """Whether the end was recorded."""
    calls: TargetMetrics | None
    """Those it belongs to; settled at its end."""
    request_bytes: int
    """Its bytes on the wire, if they are known before its end, else -1 (see :meth:`measured`)."""
    response_bytes: int
    """The bytes of its response, likewise."""
    hint: Any
    """Whatever an adapter wants to remember about the request; the recorder does not look at it."""
    id: Any
    """Its JSON-RPC id, as far as an adapter knows it yet."""
    answered: bool
    """Whether a reply has come, for adapters whose callers cannot tell a reply from the SDK's own error."""
    span: Any
    """What an adapter makes spans with; the recorder does not look at it."""
    shadowed: Request | None
    """An open request with the same id, for adapters that find requests by their id."""

    @property
    def method(self) -> str:
        """The bounded method name; the protocol's own methods are always themselves."""
        return self.route.method

    @property
    def direction(self) -> Direction:
        """Which way it goes."""
        return self.route.direction

    @property
    def is_tool_call(self) -> bool:
        """Whether it calls a tool."""
        return self.route.is_tool_call

    @property
    def describes_server(self) -> bool:
        """Whether its results have to be looked at for what they say about the server."""
        return self.route.describes_server

    def end(self, outcome: Outcome) -> None:
        """Record how the request ended, now."""
        if self.ended:
            return
        self.ended = True
        elapsed = perf_counter() - self.started
        try:
            route = self.route
            route.active.add(-1)
            if route.series is not self.connection.series:
                # The connection has learnt its server's name or its protocol revision meanwhile.
                self.route = route = self.connection.series.route(route.direction, route.method)
            calls = route.by_name.get(self.name)
            if calls is None:
                calls = route.calls(self.connection.admitted(route.direction, route.method, self.name, outcome))
            self.calls = calls
            buffer = calls.succeeded if outcome is OK else calls.by_outcome.get(outcome)
            if buffer is None:
                buffer = calls.ended(outcome)
            buffer.add(elapsed)
            if self.request_bytes >= 0:
                (calls.request_sizes or calls.sized(response=False)).add(self.request_bytes)
            if self.response_bytes >= 0:
                (calls.response_sizes or calls.sized(response=True)).add(self.response_bytes)
            if outcome is not OK or route.is_ping:
                self._update_liveness(outcome)
        except Exception as error:
            report("Request.end", error)

    def _update_liveness(self, outcome: Outcome) -> None:
        """What the end says about the connection."""
        if outcome is CONNECTION_LOST:
            self.connection.lost_requests += 1
        if self.route.is_ping:
            self.connection.pinged(self.route.direction, outcome)

    @contained
    def sent(self) -> None:
        """The request goes out: a ping is a check of life from now on, answered or not."""
        if self.route.is_ping and not self.connection.closed:
            self.connection.heartbeat(self.route.direction, Heartbeat.PING)

    def measured(self, size: int, *, response: bool) -> None:
        """The request, or its response, took ``size`` bytes on the wire. A second measure of the same is a replay.

        Sizes carry the tool's name, which is only settled at the end; what is known before waits for it.
        """
        calls = self.calls
        if response:
            if self.response_bytes < 0:
                self.response_bytes = size
                if calls is not None:
                    calls.measure_response(size)
        elif self.request_bytes < 0:
            self.request_bytes = size
            if calls is not None:
                calls.measure_request(size)

    @contained
    def abandon(self) -> None:
        """The request was refused before anything was sent: it never was one."""
        if not self.ended:
            self.ended = True
            self.route.active.add(-1)


class Connection:
    """A served or held stream pair, from opening to end; or stateless HTTP exchanges that have everything in common.

    These open and end by the thousand: one object stands for all of them. See :meth:`open_exchange` and
    :meth:`close_exchange`.
    """

    __slots__ = (
        "__weakref__",
        "_dead",
        "_metrics",
        "_mode",
        "_session",
        "_shared",
        "_silence",
        "closed",
        "in_flight",
        "is_closing",
        "is_left",
        "lost_requests",
        "on_same_loop",
        "opened",
        "registry",
        "series",
    )

    def __init__(self, shared: Shared, series: IdentityMetrics, mode: Mode, registry: Registry | None) -> None:
        self._shared = shared
        self._mode = mode
        self.registry = registry
        self.series = series
        self.closed = False
        self._dead = False
        self._silence = Death.PEER_CLOSED
        self.is_closing = False
        """Whether its message loop is over, so that what is lost from now on is lost with it."""
        self.is_left = False
        """Whether this process has given up the transport, so that what fails from now on is its own doing."""
        self.in_flight: Callable[[], None] | None = None
        """Ends the requests that are open on it, where its event loop is closed. It holds neither session nor task."""
        self.on_same_loop: set[EndsWithLoop] | None = None
        """The open connections of its event loop, as long as it is one of them (:mod:`.event_loops`)."""
        self.lost_requests = 0
        """How many requests ended because no reply could come any more."""
        self._session: tuple[float, IdentityMetrics] | None = None
        self._metrics = series.connection_metrics(mode)
        self.opened = self.open_exchange()
        """When it was, or the first one that it stands for (``perf_counter`` seconds)."""

    def open_exchange(self) -> float:
        """It opens, or another exchange that it stands for; then the server is asked now and then what it offers.

        Returns:
            When (``perf_counter`` seconds).
        """
        metrics = self._metrics
        metrics.total.add(1)
        metrics.active.add(1)
        opened = perf_counter()
        if opened - self.series.registry_read > _REGISTRY_SECONDS and self._mode is Mode.STATELESS:
            self.register_served(opened)
        return opened

    @contained
    def register_served(self, now: float) -> None:
        """See what its server has registered by ``now`` (``perf_counter`` seconds)."""
        targets.register_served(self._shared, self.series, self.registry, now)

    def belongs_to(self, shared: Shared) -> bool:
        """Whether it is one of the connections that share this."""
        return self._shared is shared

    def task_started(self) -> None:
        """The SDK started a task for a message of this connection."""
        self._metrics.tasks.add(1)

    @property
    def mode(self) -> Mode:
        """Stateless if it stands for HTTP exchanges."""
        return self._mode

    @property
    def role(self) -> Role:
        """What this process is in it."""
        return self.series.identity.role

    @property
    def protocol_version(self) -> str | None:
        """The protocol revision, bounded; None until it is known."""
        return self.series.protocol_version

    @property
    def is_identified(self) -> bool:
        """Whether the server's name and the protocol revision are known."""
        identity = self.series.identity
        return identity.protocol_version is not None and identity.server_name is not None

    @property
    def crash_code(self) -> int:
        """The JSON-RPC code the SDK answers with when a handler of this connection raises."""
        return int(self.series.identity.crash_code)

    @property
    def has_session(self) -> bool:
        """Whether a session was established on the connection."""
        return self._session is not None

    def begin(
        self, direction: Direction, method: str, params: object = None, *, started: float | None = None
    ) -> Request | None:
        """A request came in or goes out.

        Args:
            direction: Which way.
            method: Its JSON-RPC method as on the wire.
            params: Its ``params`` as on the wire; only ``name`` is looked at, and only where it is a target.
            started: When it was first seen (``perf_counter`` seconds), if that was earlier.
        """
        try:
            series = self.series
            route = (series.inbound if direction is Direction.INBOUND else series.outbound).get(method)
            if route is None:
                route = series.route(direction, self._shared.bounds.method(method, self.registry))
            name: Any = None
            if route.names_target:
                # In place of fields(), for every request.
                given: Any = params
                name = (given if given.__class__ is dict else fields(given)).get("name")
            # Its step down looks after the buffer.
            route.active.append(1)
            return self.begin_counted(route, name, perf_counter() if started is None else started)
        except Exception as error:
            report("Connection.begin", error)
            return None

    def begin_counted(self, route: MethodMetrics, name: object, started: float) -> Request:
        """A request whose step up was already counted on its route.

        Args:
            route: What it is.
            name: The tool or prompt it names, as on the wire.
            started: When it was first seen (``perf_counter`` seconds).
        """
        request = Request()
        request.connection = self
        request.route = route
        request.started = started
        request.is_ping = route.is_ping
        request.name = name if isinstance(name, str) else None
        request.ended = request.answered = False
        request.calls = request.hint = request.id = request.shadowed = request.span = None
        request.request_bytes = request.response_bytes = -1
        return request

    @contained
    def notified(self, direction: Direction, method: str, seconds: float = 0.0) -> None:
        """A notification was handled (inbound) or sent (outbound), and took that long."""
        self.series.notifications(direction, self._shared.bounds.method(method, self.registry)).add(seconds)

    @contained
    def heartbeat(self, direction: Direction, kind: Heartbeat) -> None:
        """Life was checked: a ping sent or answered, a keep-alive frame sent."""
        self.series.heartbeats(direction, kind).add(1)

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
        """The peer was found dead; only the first way it was found counts, and none after the end of the transport."""
        if self._dead or self.closed or self.is_left:
            return
        self._dead = True
        self.series.deaths(reason).add(1)

    @contained
    def identify(self, server_name: object = None, protocol_version: object = None) -> None:
        """The server's name or the protocol revision became known; what is None stays as it was."""
        self.series = self._shared.identities.identified(self.series.identity, server_name, protocol_version)

    @contained
    def establish(self, server_name: object = None, protocol_version: object = None) -> None:
        """A session was established: counted once per connection, never on a stateless exchange."""
        if self._mode is Mode.STATELESS or self.closed:
            return
        if self._session is None:
            self.series = self._shared.identities.identified(self.series.identity, server_name, protocol_version)
            self._session = (perf_counter(), self.series)
            self.series.session(catalogue.SESSIONS_CREATED).add(1)
            self.series.session(catalogue.SESSIONS_ACTIVE).add(1)

    @contained
    def listed(self, direction: Direction, method: str, result: object) -> None:
        """A tools/list or prompts/list answer passed by: its names are registered from now on."""
        targets.listed(self._shared, self.series, direction, method, result)

    def admitted(self, direction: Direction, method: str, name: str | None, outcome: Outcome) -> str | None:
        """The bounded tool or prompt name for a request that ends so; None where the method has none."""
        return targets.admitted(self._shared, self.series, self.registry, direction, method, name, outcome)

    def close(self, end: End, error_type: str | int | None = None) -> None:
        """The connection ended, and its session with it. Only the first call counts.

        Args:
            end: How.
            error_type: The exception's class name, or an HTTP status; used with :attr:`End.ERROR`.
        """
        if self.closed:
            return
        try:
            if end is End.PEER_LOST:
                self.dead(self._silence)
            elif end is End.CLOSED and self._dead:
                end = End.PEER_LOST
            self.closed = True
            self.in_flight = None
            on_same_loop, self.on_same_loop = self.on_same_loop, None
            if on_same_loop is not None:
                on_same_loop.discard(self)
            error = self.close_exchange(self.opened, end, error_type)
            if self._session is not None:
                self._close_session(end, error, perf_counter())
        except Exception as error:
            report("Connection.close", error)

    def end_with_event_loop(self) -> None:
        """It lives on the event loop that runs now, and ends with it at the latest."""
        self.on_same_loop = self._shared.loops.enter(self)

    @contained
    def event_loop_closed(self) -> None:
        """Its event loop was closed under it: what is open on it ends as if this process had left it."""
        if self.closed:
            return
        self.is_closing = self.is_left = True
        if self.in_flight is not None:
            self.in_flight()
        is_client = self.series.identity.role is Role.CLIENT
        is_done = self._mode is Mode.STATELESS and not self.lost_requests
        self.close(End.CLOSED if is_client or is_done else End.SHUTDOWN)

    def close_exchange(self, opened: float, end: End, error_type: str | int | None = None) -> str | None:
        """It ended, or one of the exchanges that it stands for.

        Args:
            opened: When that was opened.
            end: How it ended.
            error_type: The exception's class name, or an HTTP status; used with :attr:`End.ERROR`.

        Returns:
            The bounded name of the exception.
        """
        try:
            metrics = self._metrics
            metrics.active.add(-1)
            exception = self._shared.bounds.exception_name(error_type) if end is End.ERROR else None
            buffer = metrics.durations.get((end, exception)) or metrics.ended(end, exception)
            buffer.add(perf_counter() - opened)
            return exception
        except Exception as error:
            report("Connection.close_exchange", error)
            return None

    @contained
    def exchange_lost(self) -> None:
        """The peer of one of the exchanges that it stands for was found gone."""
        self.series.deaths(Death.PEER_CLOSED).add(1)

    def _close_session(self, end: End, error: str | None, now: float) -> None:
        if self._session is None:
            return
        since, series = self._session
        series.session(catalogue.SESSIONS_ACTIVE).add(-1)
        series.session(catalogue.SESSION_DURATION, {catalogue.STATUS: end.value}).add(now - since)
        if end is End.EVICTED:
            series.evictions().add(1)
        server = series.identity.role is Role.SERVER
        convention = catalogue.SERVER_SESSION_DURATION if server else catalogue.CLIENT_SESSION_DURATION
        if end is End.PEER_LOST:
            error = CONNECTION_LOST.error_type
        series.session(convention, {catalogue.ERROR_TYPE: error}).add(now - since)
