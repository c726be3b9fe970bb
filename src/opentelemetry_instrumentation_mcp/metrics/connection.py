"""Connections and requests: from opening to end, and which metrics each of their events moves."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..safety import contained, report
from ..wire import fields, items
from . import catalogue
from .labels import LISTINGS, OTHER, TARGETS, Registry, Target
from .outcome import CONNECTION_LOST, OK, TIMEOUT, End, Outcome
from .series import Calls, Route, Series
from .vocabulary import Death, Direction, Heartbeat, Mode, Role

if TYPE_CHECKING:
    from .recorder import Recorder


class Request:
    """One JSON-RPC request from its first sight to its end.

    ``end`` may be called more than once, by hooks that see the same end from different places: the first one, the most
    specific, counts.
    """

    # Defaults of the class: a request sets only what it has, and most never get the rest.
    _ended = False
    _calls: Calls | None = None
    _request_bytes = -1
    _response_bytes = -1
    hint: Any = None
    """Whatever an adapter wants to remember about the request; the recorder does not look at it."""
    id: Any = None
    """Its JSON-RPC id, for adapters that only learn it later."""
    answered = False
    """Whether a reply has come, for adapters whose callers cannot tell a reply from the SDK's own error."""
    shadowed: Request | None = None
    """An open request with the same id, for adapters that find requests by their id."""

    def __init__(self, connection: Connection, route: Route, name: str | None, started: float) -> None:
        self._connection = connection
        self._route = route
        self._name = name
        self._start = started
        self._active = route.active
        self._active.add(1)

    @property
    def method(self) -> str:
        """The bounded method name; the protocol's own methods are always themselves."""
        return self._route.method

    @property
    def ended(self) -> bool:
        """Whether the end was recorded."""
        return self._ended

    def end(self, outcome: Outcome) -> None:
        """Record how the request ended, now."""
        if self._ended:
            return
        self._ended = True
        elapsed = perf_counter() - self._start
        try:
            self._active.add(-1)
            connection, route, name = self._connection, self._route, self._name
            if route.series is not connection.series:
                # The connection has learnt its server's name or its protocol revision meanwhile.
                self._route = route = connection.series.route(route.direction, route.method)
            calls = route.by_name.get(name)
            if calls is None:
                calls = route.calls(connection.target(route.direction, route.method, name, outcome))
            self._calls = calls
            (calls.by_outcome.get(outcome) or calls.ended(outcome)).add(elapsed)
            if outcome is CONNECTION_LOST:
                connection.lost_requests += 1
            if route.method == "ping":
                connection.pinged(route.direction, outcome)
            if self._request_bytes >= 0:
                calls.request_sizes.add(self._request_bytes)
            if self._response_bytes >= 0:
                calls.response_sizes.add(self._response_bytes)
        except Exception as error:
            report("Request.end", error)

    @contained
    def sent(self) -> None:
        """The request goes out: a ping is a check of life from now on, answered or not."""
        if self._route.method == "ping" and not self._connection.closed:
            self._connection.heartbeat(self._route.direction, Heartbeat.PING)

    def measured(self, size: int, *, response: bool) -> None:
        """The request, or its response, took ``size`` bytes on the wire. A second measure of the same is a replay.

        Sizes carry the tool's name, which is only settled at the end; what is known before waits for it.
        """
        if response:
            if self._response_bytes < 0:
                self._response_bytes = size
                if self._calls is not None:
                    self._calls.response_sizes.add(size)
        elif self._request_bytes < 0:
            self._request_bytes = size
            if self._calls is not None:
                self._calls.request_sizes.add(size)

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
        "_dead",
        "_lines",
        "_mode",
        "_recorder",
        "_session",
        "_silence",
        "closed",
        "is_closing",
        "lost_requests",
        "opened",
        "registry",
        "series",
    )

    def __init__(self, recorder: Recorder, series: Series, mode: Mode, registry: Registry | None) -> None:
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
        self._session: tuple[float, Series] | None = None
        self.opened = perf_counter()
        """When it was (``perf_counter`` seconds)."""
        self._lines = series.lines(mode)
        self._lines.total.add(1)
        self._lines.active.add(1)

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
                route = series.route(direction, self._recorder.method(method, self.registry))
            name = fields(params).get("name") if method in TARGETS else None
            if not isinstance(name, str):
                name = None
            return Request(self, route, name, perf_counter() if started is None else started)
        except Exception as error:
            report("Connection.begin", error)
            return None

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
        heard = direction is Direction.OUTBOUND
        for name in names:
            if self._recorder.names.register(target, name, heard=heard):
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

    def close(self, end: End, error_type: str | None = None) -> None:
        """The connection ended, and its session with it. Only the first call counts.

        Args:
            end: How.
            error_type: The exception's class name; used with :attr:`End.ERROR`.
        """
        if self.closed:
            return
        try:
            if end is End.PEER_LOST:
                self.dead(self._silence)
            elif end is End.CLOSED and self._dead:
                end = End.PEER_LOST
            self.closed = True
            now = perf_counter()
            self._lines.active.add(-1)
            exception = self._recorder.exception_name(error_type) if end is End.ERROR else None
            self._lines.ended(end, exception).add(now - self.opened)
            if self._session is not None:
                self._close_session(end, exception, now)
        except Exception as error:
            report("Connection.close", error)

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
