"""The guards in front of an HTTP server, in both generations.

``TransportSecurityMiddleware``, ``BearerAuthBackend`` and its token verifier are timed, each by itself.
``RequireAuthMiddleware`` and ``RequestBodyLimitMiddleware`` are not: the time of the one is the whole request's, that
of the other the network's. Their action is recorded when it is taken, not when an open stream ends at last.

A request without a valid token is refused by ``RequireAuthMiddleware``, and counted as refused there alone: for the
backend and the verifier, to find no user is a result as good as another.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

from ...metrics.interceptor import Interceptor
from ...metrics.vocabulary import Action
from ...safety import contained, report
from .. import ending
from ..adapter import Adapter
from .interception import Instead, interceptor_of, through


def _none_is_fine(result: Any) -> Action:
    return Action.CONTINUE if result is None else Action.REJECT


def _all_is_fine(_: Any) -> Action:
    return Action.CONTINUE


def _patch_transport_security(adapter: Adapter, module: ModuleType) -> None:
    guard = module.TransportSecurityMiddleware
    adapter.patches.replace(guard, "validate_request", lambda original: _validate_request(adapter, original))
    # 1.30 and 2.1 on; without it there is no limit.
    limit = getattr(module, "RequestBodyLimitMiddleware", None)
    if limit is not None:
        adapter.patches.replace(limit, "__call__", lambda original: _gate(adapter, original))


def _patch_bearer_auth(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module.BearerAuthBackend, "authenticate", lambda original: _authenticate(adapter, original))
    adapter.patches.replace(module.RequireAuthMiddleware, "__call__", lambda original: _gate(adapter, original))


def _validate_request(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def validate_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        interceptor = interceptor_of(adapter, self)
        if interceptor is None:
            return await original(self, *args, **kwargs)
        return await through(interceptor, None, lambda _: original(self, *args, **kwargs), judge=_none_is_fine)

    return validate_request


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

    def __init__(self, interceptor: Interceptor, guard: Any) -> None:
        self._interceptor = interceptor
        self._guard = guard
        self._decided = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)

    async def app(self, *args: Any, **kwargs: Any) -> Any:
        """Call the guarded application."""
        self.decide(Action.CONTINUE)
        return await self._guard.app(*args, **kwargs)

    def decide(self, action: Action, error: str | None = None) -> None:
        """It acts on the request; only the first time counts."""
        try:
            if not self._decided:
                self._decided = True
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


def _gate(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def guard(self: Any, scope: Any, receive: Any, send: Any) -> Any:
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
        gate.decide(Action.REJECT)
        return result

    return guard


PATCHES: Final = (
    ("mcp.server.transport_security", _patch_transport_security),
    ("mcp.server.auth.middleware.bearer_auth", _patch_bearer_auth),
)
