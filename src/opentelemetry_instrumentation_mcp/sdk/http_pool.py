"""The HTTP connection pool under a client, in both generations: httpx and httpcore, httpx2 and httpcore2.

Three seams. The methods in which the SDK's HTTP transports use their client say, in a context variable, for which
endpoint they do (those that post in :mod:`.http_client`). The pool of httpcore looks there: a request that reaches a
pool in such a method and goes to the endpoint's own origin is an MCP request, retries, redirects and authentication
inside that origin included: each of them asks the pool. Everything else that uses the same pool, the application's own
requests and OAuth servers elsewhere, is not. The application's clients, their event hooks and their requests are left
as they are.

A connection that the pool makes tells of the first request it gets, which ends the wait of that; the connection of HTTP
in it tells when a request goes out. So a connection counts as created when a request goes out on it for the first time:
one that was refused, timed out or failed in TLS or at a proxy was not created, and its request is in neither counter
and has no wait. All others reuse one. A stream multiplexed on an HTTP/2 connection is a reuse, and its wait includes
that for the connection to be ready and for a free stream; so does that of a request which waited for another to
connect, and had to do it itself since the other was given up.

Idle connections are counted when somebody collects, by asking the pools (which are held weakly), so the number cannot
drift. A connection that the server has closed is idle until the pool notices, which it does at its next request.

What is not seen: transports that do not use httpcore (``ASGITransport``, mocks, the application's own), and requests
that gave up waiting (``PoolTimeout``). Where a pool of the application's own class makes connections without asking
httpcore's, what it takes to connect is part of the wait.

An HTTP request pays for a context variable, one copy of its extensions and two calls, two more where a connection is
opened. The ``trace`` extension of httpcore tells the same in ten to twelve coroutines.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ..core.fail_open import contained, report
from ..metrics.transports import TRANSPORTS
from ..metrics.vocabulary import Transport
from ..patching.arguments import Parameter
from .outbound import USE, Use, reset
from .state import ModulePatch, State

_MOST_NAMES: Final = 1000
"""Endpoints whose idle connections are told apart; the recorder folds them to one long before."""


_PORTS: Final = TRANSPORTS[Transport.STREAMABLE_HTTP].default_ports
"""Those of SSE too: both are HTTP."""


class Endpoint(NamedTuple):
    """Where a server is, as httpcore says it."""

    pool: str
    scheme: bytes
    host: bytes
    port: int
    default_port: int | None


def patches(state: State) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.client.streamable_http", functools.partial(_patch_streamable_http, state)),
        ("mcp.client.sse", functools.partial(_patch_sse, state)),
        ("httpcore", functools.partial(_patch_pool, state)),
        ("httpcore2", functools.partial(_patch_pool, state)),
    )


# Where the SDK uses its client.


@functools.lru_cache(maxsize=256)
def endpoint_of(url: str) -> Endpoint | None:
    """The endpoint of a URL; None if it is none, or only a path."""
    try:
        parts = urlsplit(url)
        default_port = _PORTS.get(parts.scheme)
        port = parts.port or default_port
        if not parts.hostname or port is None:
            return None
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    except ValueError:
        return None
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(f"{parts.scheme}://{shown}:{port}", parts.scheme.encode(), host.encode(), port, default_port)


@contained
def endpoint_at(url: object, client: Any) -> Endpoint | None:
    """The endpoint of a URL that may be a path: then the application's client has a base URL."""
    return endpoint_of(str(url)) or endpoint_of(str(client.base_url.join(str(url))))


@contained
def _use(url: object, client: Any = None) -> Use:
    return Use(endpoint_of(str(url)) if client is None else endpoint_at(url, client))


def _method(state: State, original: Any) -> Any:
    """Wrap a method of ``StreamableHTTPTransport`` whose first argument is the client."""

    client = Parameter(original, "client", 0)

    @functools.wraps(original)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is None:
            return await original(self, *args, **kwargs)
        token = USE.set(_use(getattr(self, "url", None), client.of(args, kwargs)))
        try:
            return await original(self, *args, **kwargs)
        finally:
            reset(USE, token)

    return method


def _patch_streamable_http(state: State, module: ModuleType) -> None:
    transport = module.StreamableHTTPTransport
    for name in ("handle_get_stream", "terminate_session"):
        state.patches.replace(transport, name, lambda original: _method(state, original))


def _sse_client(state: State, original: Any) -> Any:
    opened, url = asynccontextmanager(original), Parameter(original, "url", 0)

    @functools.wraps(original)
    async def sse_client(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            if state.recorder is None:
                streams = await stack.enter_async_context(opened(*args, **kwargs))
            else:
                # Until it yields, no longer: the context is the caller's. Tasks started meanwhile have a copy of it,
                # among them the one that posts on 1.x.
                token = USE.set(_use(url.of(args, kwargs)))
                try:
                    streams = await stack.enter_async_context(opened(*args, **kwargs))
                finally:
                    reset(USE, token)
            yield streams

    return sse_client


def _sse_request(state: State, original: Any) -> Any:
    client, url = Parameter(original, "client", 0), Parameter(original, "url", 2)

    @functools.wraps(original)
    async def request_within_origin(*args: Any, **kwargs: Any) -> Any:
        if state.recorder is None:
            return await original(*args, **kwargs)
        token = USE.set(_use(url.of(args, kwargs), client.of(args, kwargs)))
        try:
            return await original(*args, **kwargs)
        finally:
            reset(USE, token)

    return request_within_origin


def _patch_sse(state: State, module: ModuleType) -> None:
    state.patches.replace_generator(module, "sse_client", lambda original: _sse_client(state, original))
    if hasattr(module, "request_within_origin"):
        # 2.x posts in the context of whoever sends.
        state.patches.replace(module, "request_within_origin", lambda original: _sse_request(state, original))


# Where httpcore assigns connections.


class _Pools:
    """The pools that were asked for MCP requests; counts their idle connections."""

    def __init__(self) -> None:
        self.classes: list[Any] = []
        """Those that are patched."""
        self.origins_of: dict[int, dict[str, Any]] = {}
        """By a pool's identity, as long as it is there, the origins of the endpoints it was asked for, by name."""
        self._names: dict[str, None] = {}
        self._pools: dict[int, weakref.ref[Any]] = {}

    def add(self, pool: Any, name: str, origin: Any) -> None:
        """Remember that ``pool`` was asked for a connection to the endpoint ``name``."""
        key = id(pool)
        origins = self.origins_of.get(key)
        if origins is None:
            self._pools[key] = weakref.ref(pool, functools.partial(self._forget, key))
            origins = self.origins_of.setdefault(key, {})
        if name not in origins and (name in self._names or len(self._names) < _MOST_NAMES):
            self._names[name] = None
            origins[name] = origin

    def __call__(self) -> dict[str, int]:
        """The idle connections now, by name; 0 where there are none any more.

        Event loops go on meanwhile, in other threads: what they change is copied in one step before it is walked.
        """
        idle = dict.fromkeys(self._names, 0)
        for key, reference in self._pools.copy().items():
            pool = reference()
            if pool is not None:
                _count_idle(pool, self.origins_of.get(key, {}).copy(), idle)
        return idle

    @contained
    def _forget(self, key: int, _: object) -> None:
        self._pools.pop(key, None)
        self.origins_of.pop(key, None)


@contained
def _count_idle(pool: Any, origins: dict[str, Any], idle: dict[str, int]) -> None:
    for connection in pool.connections:
        # One that failed to connect calls itself both idle and closed until it is thrown out.
        if connection.is_idle() and not connection.is_closed():
            for name, origin in origins.items():
                if connection.can_handle_request(origin):
                    idle[name] += 1


_ASK: Final = "opentelemetry_instrumentation_mcp"
"""The key in a request's extensions under which it has its :data:`_Ask`; they are handed on to every connection."""


_UNUSED: Final = "_otel_mcp_unused"
"""Attribute left on a connection of HTTP until a request has gone out on it."""

_Ask = tuple[str, float] | tuple[str, float, float]
"""An MCP request on its way through a pool: the pool's name, when it asked for a connection (``perf_counter`` seconds),
and how long it waited, where a connection was made for it."""


def _handle_request(state: State, pools: _Pools, original: Any) -> Any:
    origins_of = pools.origins_of

    @functools.wraps(original)
    def handle_async_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        use = USE.get()
        if use is not None and state.recorder is not None:
            try:
                request = args[0] if args else kwargs["request"]
                endpoint, url = use.endpoint, request.url
                if (
                    endpoint is not None
                    and url.host == endpoint.host
                    and url.scheme == endpoint.scheme
                    and (url.port or endpoint.default_port) == endpoint.port
                ):
                    origins = origins_of.get(id(self))
                    if origins is None or endpoint.pool not in origins:
                        pools.add(self, endpoint.pool, url.origin)
                    # A copy: the dictionary is the application's, and that of the requests that follow a redirect.
                    request.extensions = {**request.extensions, _ASK: (endpoint.pool, perf_counter())}
            except Exception as error:
                report("http_pool.asked", error)
        # Awaited by whoever called: a coroutine around it would be woken up with it.
        return original(self, *args, **kwargs)

    return handle_async_request


def _create_connection(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def create_connection(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = original(self, *args, **kwargs)
        if state.recorder is not None:
            _created(connection)
        return connection

    return create_connection


@contained
def _created(connection: Any) -> None:
    # No look at its __dict__: Python would make one, and be slower with all its attributes from then on.
    connection.handle_async_request = functools.partial(_handle_first, connection)


def _handle_first(connection: Any, *args: Any, **kwargs: Any) -> Any:
    """See the first request that a new connection gets; then the connection is as it was."""
    # A wrapper: it contains itself here, since whoever calls it waits for what it returns.
    try:
        del connection.handle_async_request
        request = args[0] if args else kwargs["request"]
        ask: _Ask | None = request.extensions.get(_ASK)
        if ask is not None:
            request.extensions[_ASK] = (ask[0], ask[1], perf_counter() - ask[1])
    except Exception as error:
        report("http_pool.assigned", error)
    return connection.__class__.handle_async_request(connection, *args, **kwargs)


def _init(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if state.recorder is not None:
            _made(self)

    return __init__


@contained
def _made(connection: Any) -> None:
    setattr(connection, _UNUSED, True)


def _send_request_headers(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def send_request_headers(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = state.recorder
        if recorder is not None:
            try:
                request = kwargs["request"] if "request" in kwargs else args[0]
                # A tunnel through a proxy is asked for by a request as well, which is part of connecting.
                if request.method != b"CONNECT":
                    created = getattr(self, _UNUSED, False)
                    if created:
                        delattr(self, _UNUSED)
                    # It is taken out: where the server sends it away (HTTP/2), the pool sends it again.
                    ask: _Ask | None = request.extensions.pop(_ASK, None)
                    if ask is not None:
                        waited = ask[2] if len(ask) == 3 else perf_counter() - ask[1]
                        recorder.pooled(ask[0], created=created, waited=waited)
            except Exception as error:
                report("http_pool.sent", error)
        return original(self, *args, **kwargs)

    return send_request_headers


def _patch_pool(state: State, module: ModuleType) -> None:
    recorder = state.recorder
    if recorder is None:
        return
    pools = recorder.idle_connections
    if not isinstance(pools, _Pools):
        pools = recorder.idle_connections = _Pools()
    known = pools
    pool: Any = module.AsyncConnectionPool
    # ``httpx2.alias_httpx()`` makes httpcore another name of httpcore2.
    if pool in known.classes:
        return
    known.classes.append(pool)
    state.patches.replace(pool, "handle_async_request", lambda original: _handle_request(state, known, original))
    # Those for proxies are pools that make their connections themselves. Where one cannot be used since a package is
    # missing, something stands there that raises.
    for each in (pool, module.AsyncHTTPProxy, module.AsyncSOCKSProxy):
        if each is pool or "create_connection" in vars(each):
            state.patches.replace(each, "create_connection", lambda original: _create_connection(state, original))
    for each in (module.AsyncHTTP11Connection, module.AsyncHTTP2Connection):
        if hasattr(each, "handle_async_request") and state.patches.expect(each, "_send_request_headers"):
            state.patches.replace(each, "__init__", lambda original: _init(state, original))
            state.patches.replace(
                each, "_send_request_headers", lambda original: _send_request_headers(state, original)
            )
