"""The HTTP connection pool under a client, in both generations: httpx and httpcore, httpx2 and httpcore2.

Two seams. The methods in which the SDK's HTTP transports use their client say, in a context variable, for which
endpoint they do (those that post in :mod:`.http_client`); the pool of httpcore looks there. A request that reaches a
pool in such a method and goes to the endpoint's own origin is an MCP request, retries, redirects and authentication
inside that origin included: each of them asks the pool. Everything else that uses the same pool, the application's own
requests and OAuth servers elsewhere, is not. The application's clients, their event hooks and their requests are left
as they are.

The pool tells what it does through the ``trace`` extension, a public hook of httpcore. The first event says that a
connection was assigned, which ends the wait; the sending of the request says whether events of connecting came before
it. So a connection counts as created when a request goes out on it for the first time: one that was refused, timed out
or failed in TLS or at a proxy was not created, and its request is in neither counter and has no wait. A stream
multiplexed on an HTTP/2 connection is a reuse, and its wait includes that for the connection to be ready and for a free
stream.

Idle connections are counted when somebody collects, by asking the pools (which are held weakly), so the number cannot
drift. A connection that the server has closed is idle until the pool notices, which it does at its next request.

What is not seen: transports that do not use httpcore (``ASGITransport``, mocks, the application's own), and requests
that gave up waiting (``PoolTimeout``).

An HTTP request pays for a context variable, one copy of its extensions and two callbacks, four to six where a
connection is opened; httpcore would make ten to twelve, but a callback that has heard enough takes itself out.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar, Token
from time import perf_counter
from types import ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..safety import contained, report
from .adapter import Adapter
from .outbound import leave

_MOST_NAMES: Final = 1000
"""Endpoints whose idle connections are told apart; the recorder folds them to one long before."""


class _Endpoint(NamedTuple):
    pool: str
    scheme: bytes
    host: bytes
    port: int


ENDPOINT: Final[ContextVar[_Endpoint | None]] = ContextVar("opentelemetry_instrumentation_mcp_endpoint", default=None)
"""For which endpoint an HTTP client is used in this context."""


@functools.lru_cache(maxsize=256)
def _endpoint(url: str) -> _Endpoint | None:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if not parts.hostname or port is None:
        return None
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    shown = f"[{host}]" if ":" in host else host
    return _Endpoint(f"{parts.scheme}://{shown}:{port}", parts.scheme.encode(), host.encode(), port)


# Where the SDK uses its client.


@contained
def _enter(url: object, client: Any = None) -> Token[_Endpoint | None] | None:
    endpoint = _endpoint(str(url))
    if endpoint is None and client is not None:
        # A path: the application's client has a base URL.
        endpoint = _endpoint(str(client.base_url.join(str(url))))
    return None if endpoint is None else ENDPOINT.set(endpoint)


@contained
def enter(transport: Any, user: Any) -> Token[_Endpoint | None] | None:
    """An HTTP client is used for an endpoint from now on, until :data:`ENDPOINT` is reset.

    Args:
        transport: The endpoint's ``StreamableHTTPTransport``.
        user: The client, or what has it as its ``client``.
    """
    return _enter(transport.url, getattr(user, "client", user))


def _method(adapter: Adapter, original: Any) -> Any:
    """Wrap a method of ``StreamableHTTPTransport`` whose first argument is the client."""

    @functools.wraps(original)
    async def method(self: Any, client: Any, *args: Any, **kwargs: Any) -> Any:
        if adapter.recorder is None:
            return await original(self, client, *args, **kwargs)
        token = enter(self, client)
        try:
            return await original(self, client, *args, **kwargs)
        finally:
            leave(ENDPOINT, token)

    return method


def _patch_streamable_http(adapter: Adapter, module: ModuleType) -> None:
    transport = module.StreamableHTTPTransport
    for name in ("handle_get_stream", "terminate_session"):
        adapter.patches.replace(transport, name, lambda original: _method(adapter, original))


def _sse_client(adapter: Adapter, original: Any) -> Any:
    opened = asynccontextmanager(original)

    @functools.wraps(original)
    async def sse_client(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            if adapter.recorder is None:
                streams = await stack.enter_async_context(opened(*args, **kwargs))
            else:
                # Until it yields, no longer: the context is the caller's. Tasks started meanwhile have a copy of it,
                # among them the one that posts on 1.x.
                token = _enter(args[0] if args else kwargs.get("url"))
                try:
                    streams = await stack.enter_async_context(opened(*args, **kwargs))
                finally:
                    leave(ENDPOINT, token)
            yield streams

    return sse_client


def _sse_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def request_within_origin(client: Any, method: str, url: Any, **kwargs: Any) -> Any:
        if adapter.recorder is None:
            return await original(client, method, url, **kwargs)
        token = _enter(url, client)
        try:
            return await original(client, method, url, **kwargs)
        finally:
            leave(ENDPOINT, token)

    return request_within_origin


def _patch_sse(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace_generator(module, "sse_client", lambda original: _sse_client(adapter, original))
    if hasattr(module, "request_within_origin"):
        # 2.x posts in the context of whoever sends.
        adapter.patches.replace(module, "request_within_origin", lambda original: _sse_request(adapter, original))


# Where httpcore assigns connections.


class _Pools:
    """The pools that were asked for MCP requests; counts their idle connections."""

    def __init__(self) -> None:
        self.classes: list[Any] = []
        self._names: dict[str, None] = {}
        # By pool, the origins of the endpoints it was asked for, by name.
        self._origins: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    def add(self, pool: Any, name: str, origin: Any) -> None:
        """Remember that ``pool`` was asked for a connection to the endpoint ``name``."""
        origins = self._origins.get(pool)
        if origins is None:
            origins = self._origins.setdefault(pool, {})
        if name not in origins and (name in self._names or len(self._names) < _MOST_NAMES):
            self._names[name] = None
            origins[name] = origin

    def __call__(self) -> dict[str, int]:
        """The idle connections now, by name; 0 where there are none any more.

        Event loops go on meanwhile, in other threads: what they change is copied in one step before it is walked.
        """
        idle = dict.fromkeys(self._names, 0)
        for reference in self._origins.keyrefs():
            pool = reference()
            if pool is not None:
                _count_idle(pool, self._origins.get(pool, {}).copy(), idle)
        return idle


@contained
def _count_idle(pool: Any, origins: dict[str, Any], idle: dict[str, int]) -> None:
    for connection in pool.connections:
        # One that failed to connect calls itself both idle and closed until it is thrown out.
        if connection.is_idle() and not connection.is_closed():
            for name, origin in origins.items():
                if connection.can_handle_request(origin):
                    idle[name] += 1


_PROTOCOLS: Final = ("http11.", "http2.")
_GOES_OUT: Final = tuple(f"{protocol}send_request_headers.started" for protocol in _PROTOCOLS)
"""The events of a request that is sent."""


class _Ask:
    """A request on its way through the pool: the ``trace`` callback of httpcore.

    Like every such callback it returns a coroutine, and httpcore awaits it.
    """

    __slots__ = ("adapter", "asked", "connecting", "extensions", "foreign", "pool", "waited")

    def __init__(self, adapter: Adapter, pool: str, extensions: dict[str, Any]) -> None:
        self.adapter = adapter
        self.pool = pool
        self.extensions = extensions
        self.foreign: Callable[[str, Any], Awaitable[None]] | None = extensions.get("trace")
        self.connecting = False
        self.waited: float | None = None
        self.asked = perf_counter()

    def __call__(self, name: str, info: Any) -> Awaitable[None]:
        try:
            if self.waited is None:
                self.waited = perf_counter() - self.asked
            if name in _GOES_OUT:
                self._goes_out(info["request"], self.waited)
            elif not name.startswith(_PROTOCOLS):
                # connection, proxy, socks: what has to be done before a connection can be used.
                self.connecting = True
        except Exception as error:
            report("http_pool.traced", error)
        return _nothing() if self.foreign is None else self.foreign(name, info)

    def _goes_out(self, request: Any, waited: float) -> None:
        # A tunnel through a proxy is asked for by a request as well, which is part of connecting.
        if request.method == b"CONNECT" or self.extensions.get("trace") is not self:
            return
        if self.foreign is None:
            del self.extensions["trace"]
        else:
            self.extensions["trace"] = self.foreign
        recorder = self.adapter.recorder
        if recorder is not None:
            recorder.pooled(self.pool, created=self.connecting, waited=waited)


async def _nothing() -> None:
    return


def _asked(adapter: Adapter, pools: _Pools, pool: Any, request: Any, endpoint: _Endpoint) -> None:
    origin = request.url.origin
    if (origin.host, origin.port, origin.scheme) != (endpoint.host, endpoint.port, endpoint.scheme):
        return
    pools.add(pool, endpoint.pool, origin)
    # A copy: the dictionary is the application's, and that of the requests that follow a redirect.
    extensions = dict(request.extensions)
    extensions["trace"] = _Ask(adapter, endpoint.pool, extensions)
    request.extensions = extensions


def _handle_request(adapter: Adapter, pools: _Pools, original: Any) -> Any:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        endpoint = ENDPOINT.get()
        if endpoint is not None and adapter.recorder is not None:
            try:
                _asked(adapter, pools, self, request, endpoint)
            except Exception as error:
                report("http_pool.asked", error)
        return await original(self, request)

    return handle_async_request


def _patch_pool(adapter: Adapter, module: ModuleType) -> None:
    recorder = adapter.recorder
    if recorder is None:
        return
    pools = recorder.idle_connections
    if not isinstance(pools, _Pools):
        pools = recorder.idle_connections = _Pools()
    known = pools
    pool = module.AsyncConnectionPool
    # ``httpx2.alias_httpx()`` makes httpcore another name of httpcore2.
    if pool not in known.classes:
        known.classes.append(pool)
        adapter.patches.replace(pool, "handle_async_request", lambda o: _handle_request(adapter, known, o))


PATCHES: Final = (
    ("mcp.client.streamable_http", _patch_streamable_http),
    ("mcp.client.sse", _patch_sse),
    ("httpcore", _patch_pool),
    ("httpcore2", _patch_pool),
)
