"""The guards in front of an HTTP server, in both generations.

``TransportSecurityMiddleware``, ``BearerAuthBackend`` and its token verifier are timed, each by itself.
``RequireAuthMiddleware`` and ``RequestBodyLimitMiddleware`` are not: the time of the one is the whole request's, that
of the other the network's. Their action is recorded when it is taken, not when an open stream ends at last.

A request without a valid token is refused by ``RequireAuthMiddleware``, and counted as refused there alone: for the
backend and the verifier, to find no user is a result as good as another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from types import ModuleType
from typing import Any, Final

from ...metrics.interceptor import Interceptor
from ...metrics.vocabulary import Action, Transport
from ...safety import contained, report
from .. import ending
from ..adapter import Adapter
from ..http_edge import behind, is_first, watch
from .interception import Instead, interceptor_of, through, what_it_raised


def _all_is_fine(_: Any) -> Action:
    return Action.CONTINUE


def _patch_transport_security(adapter: Adapter, module: ModuleType) -> None:
    guard = module.TransportSecurityMiddleware
    adapter.patches.replace(guard, "validate_request", lambda original: _validate_request(adapter, original))
    # 1.30 and 2.1 on; without it there is no limit.
    limit = getattr(module, "RequestBodyLimitMiddleware", None)
    if limit is not None:
        adapter.patches.replace(limit, "__call__", lambda original: _gate(adapter, original, behind))


def _patch_bearer_auth(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module.BearerAuthBackend, "authenticate", lambda original: _authenticate(adapter, original))
    adapter.patches.replace(module.RequireAuthMiddleware, "__call__", lambda original: _gate(adapter, original))


def _validate_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def validate_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        interceptor = interceptor_of(adapter, self)
        if interceptor is None:
            return await original(self, *args, **kwargs)
        since = perf_counter()
        try:
            refusal = await original(self, *args, **kwargs)
        except BaseException as error:
            _raised(interceptor, perf_counter() - since, error)
            raise
        if refusal is None:
            interceptor.passed(perf_counter() - since)
        else:
            interceptor.dealt(perf_counter() - since, None, Action.REJECT)
        return refusal

    return validate_request


@contained
def _raised(interceptor: Interceptor, seconds: float, error: BaseException) -> None:
    action, name = what_it_raised(error, ()) or (Action.ERROR, None)
    interceptor.dealt(seconds, None, action, name)


def _authenticate(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def authenticate(self: Any, *args: Any, **kwargs: Any) -> Any:
        verifier = getattr(self, "token_verifier", None)
        interceptor = interceptor_of(adapter, self) if verifier is not None else None
        if interceptor is None:
            return await original(self, *args, **kwargs)
        return await through(
            interceptor,
            _verify_token(adapter, verifier),
            lambda seen: original(_with_verifier(self, verifier, seen) or self, *args, **kwargs),
            judge=_all_is_fine,
        )

    return authenticate


@contained
def _with_verifier(backend: Any, verifier: Any, verify_token: Any) -> Any:
    return Instead(backend, "token_verifier", Instead(verifier, "verify_token", verify_token))


def _verify_token(adapter: Adapter, verifier: Any) -> Any:
    async def verify_token(*args: Any, **kwargs: Any) -> Any:
        interceptor = interceptor_of(adapter, verifier)
        if interceptor is None:
            return await verifier.verify_token(*args, **kwargs)
        return await through(interceptor, None, lambda _: verifier.verify_token(*args, **kwargs), judge=_all_is_fine)

    return verify_token


class _Gate:
    """A guard that calls its application, or answers itself.

    Given to the guard's own method as its ``self``: the guard as it is, but for an ``app`` that is watched.
    """

    __slots__ = ("_guard", "_interceptor", "is_decided")

    def __init__(self, interceptor: Interceptor, guard: Any) -> None:
        self._interceptor = interceptor
        self._guard = guard
        self.is_decided = False
        """Whether it has let the request through, or not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)

    def app(self, *args: Any, **kwargs: Any) -> Any:
        """Call the guarded application."""
        self.decide(Action.CONTINUE)
        return self._guard.app(*args, **kwargs)

    def decide(self, action: Action, error: str | None = None) -> None:
        """It acts on the request; only the first time counts."""
        try:
            if not self.is_decided:
                self.is_decided = True
                self._interceptor.acted(action, error)
        except Exception as failure:
            report("guards.decide", failure)

    @contained
    def raised(self, error: BaseException) -> None:
        """An exception came out; before the application was called it is the guard's own."""
        if ending.is_cancellation(error):
            self.decide(Action.CONTINUE)
        else:
            self.decide(Action.ERROR, ending.leaf_name(error))


@contained
def _watched(interceptor: Interceptor, guard: Any) -> _Gate:
    return _Gate(interceptor, guard)


def _gate(adapter: Adapter, original: Any, transport_of: Callable[[Any], Transport | None] | None = None) -> Any:
    """Wrap the ASGI ``__call__`` of a guard.

    Args:
        adapter: The adapter.
        original: The guard's own.
        transport_of: Of a guard that is the edge of the SDK as well, which transport it guards.
    """

    @functools.wraps(original)
    async def guard(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        answer = None
        if transport_of is not None and is_first():
            answer = watch(adapter, self, transport_of, scope)
            if answer is not None:
                send = answer.enter(send) or send
        try:
            interceptor = interceptor_of(adapter, self)
            if interceptor is None:
                return await original(self, scope, receive, send)
            gate = _watched(interceptor, self)
            if gate is None:
                return await original(self, scope, receive, send)
            try:
                result = await original(gate, scope, receive, send)
            except BaseException as error:
                gate.raised(error)
                raise
            if not gate.is_decided:
                gate.decide(Action.REJECT)
            return result
        finally:
            if answer is not None:
                answer.leave()

    return guard


PATCHES: Final = (
    ("mcp.server.transport_security", _patch_transport_security),
    ("mcp.server.auth.middleware.bearer_auth", _patch_bearer_auth),
)
