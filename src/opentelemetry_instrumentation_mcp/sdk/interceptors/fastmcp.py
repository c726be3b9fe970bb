"""The middleware of fastmcp 2, 3 and 4, and the interceptors of fastmcp 4's extensions, where fastmcp is installed.

A middleware may be any callable and may override ``__call__``, so what is watched is the method of ``FastMCP`` that
builds the chain: it is run on the server as it is, but for a list of middleware in which each is watched.

fastmcp 4 runs this chain inside an entry of its own in the SDK's ``Server.middleware``. Where it does so before that
entry passes the message on (``initialize``, ``server/discover``, notifications), the entry's own time includes the
chain's.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

from ...core.fail_open import contained
from ...metrics.vocabulary import Action
from ...patching.arguments import Parameter
from ..state import ModulePatch, State
from .chain import bind_interceptor
from .interception import Instead, Interceptors, name_of, through

_CALL_NEXT: Final = Parameter(None, "call_next", 1)
"""Where a middleware gets the rest of its chain."""


def patches(state: State, interceptors: Interceptors) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("fastmcp.server.server", functools.partial(_patch_server, state, interceptors)),
        ("fastmcp.server.mixins.extensions", functools.partial(_patch_extensions, state, interceptors)),
        ("fastmcp.server.auth.middleware", functools.partial(_patch_auth, state)),
    )


def _patch_server(state: State, interceptors: Interceptors, module: ModuleType) -> None:
    # fastmcp 2 has the old name.
    name = "_run_middleware" if hasattr(module.FastMCP, "_run_middleware") else "_apply_middleware"
    state.patches.replace(module.FastMCP, name, lambda original: _run_middleware(state, interceptors, original))


def _run_middleware(state: State, interceptors: Interceptors, original: Any) -> Any:
    @functools.wraps(original)
    async def run_middleware(self: Any, *args: Any, **kwargs: Any) -> Any:
        watched = _watched(interceptors, self) if state.recorder is not None else None
        return await original(self if watched is None else watched, *args, **kwargs)

    return run_middleware


@contained
def _watched(interceptors: Interceptors, server: Any) -> Any:
    if not server.middleware:
        return None
    return Instead(server, "middleware", [_seen(interceptors, each) for each in server.middleware])


def _seen(interceptors: Interceptors, middleware: Any) -> Any:
    async def intercept(*args: Any, **kwargs: Any) -> Any:
        following = _CALL_NEXT.of(args, kwargs)
        interceptor = interceptors.of(middleware) if following is not None else None
        if interceptor is None:
            return await middleware(*args, **kwargs)

        def run(seen: Any) -> Any:
            given, named = _CALL_NEXT.put(args, kwargs, seen)
            return middleware(*given, **named)

        return await through(interceptor, following, run, args[0] if args else None)

    return intercept


def _patch_extensions(state: State, interceptors: Interceptors, module: ModuleType) -> None:
    # Only where it is used: a by-value import of a wrapped original could not be taken back.
    if hasattr(module, "wrap_tool_call_interceptor"):
        state.patches.replace(
            module, "wrap_tool_call_interceptor", lambda original: bind_interceptor(state, interceptors, original)
        )


def _patch_auth(state: State, module: ModuleType) -> None:
    # A request without a token never gets to the SDK's method of fastmcp 3 and 4.
    guard = module.RequireAuthMiddleware
    if hasattr(guard, "_send_missing_auth"):
        state.patches.replace(guard, "_send_missing_auth", lambda original: _send_missing_auth(state, original))


def _send_missing_auth(state: State, original: Any) -> Any:
    @functools.wraps(original)
    async def send_missing_auth(self: Any, *args: Any, **kwargs: Any) -> Any:
        _rejected(state, self)
        return await original(self, *args, **kwargs)

    return send_missing_auth


@contained
def _rejected(state: State, guard: Any) -> None:
    if state.recorder is not None:
        state.recorder.interceptor(name_of(guard)).acted(Action.REJECT)
