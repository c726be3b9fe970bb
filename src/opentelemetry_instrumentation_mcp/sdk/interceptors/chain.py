"""``Server.middleware`` and the ``intercept_tool_call`` of extensions, both of mcp 2.x.

What binds an interceptor to the rest of its chain is looked up for every message, so that servers made before
``instrument()`` are seen too. An extension that does not intercept is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from ...core.fail_open import report
from ...metrics.events import Recorder
from ...patching.arguments import Parameter
from ...patching.patches import names_in
from ..state import ModulePatch, State
from .interception import Interceptors, name_of, through
from .passage import MOST_LEVELS, Chain, SpanBypass

_CHAIN: Final = "_otel_mcp_chain"
"""Attribute left on a server object (not on its class)."""

_COMPOSER: Final = frozenset({"reversed", "server", "middleware", "partial", "_apply_middleware"})
"""Every name that 2.0 to 2.3 use in ``ServerRunner._compose_server_middleware``."""


def patches(state: State, interceptors: Interceptors, bypass: SpanBypass) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.runner", functools.partial(_patch_runner, state, interceptors, bypass)),
        ("mcp.server.extension", functools.partial(_patch_extension, state, interceptors)),
    )


def _patch_runner(state: State, interceptors: Interceptors, bypass: SpanBypass, module: ModuleType) -> None:
    composer = getattr(getattr(module, "ServerRunner", None), "_compose_server_middleware", None)
    if names_in(composer) == _COMPOSER:
        state.patches.replace(
            module.ServerRunner, "_compose_server_middleware", lambda original: _compose(state, bypass, original)
        )
    else:
        # It does something else by now, which is not for us to repeat: each middleware is watched by itself.
        state.patches.replace(module, "_apply_middleware", lambda original: _apply_middleware(interceptors, original))


class _Inspected(NamedTuple):
    """What was found when the middleware of a server was looked at.

    Attributes:
        recorder: For whom.
        middleware: What it was.
        compose: Composes it, watched; None if it is not to be watched as one.
    """

    recorder: Recorder | None
    middleware: Sequence[Any]
    compose: Callable[[Any], Any] | None


def _compose(state: State, bypass: SpanBypass, original: Any) -> Any:
    @functools.wraps(original)
    def _compose_server_middleware(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            server = self.server
            try:
                recorder, middleware, compose = server._otel_mcp_chain
            except AttributeError:
                recorder, middleware, compose = _inspect(state, bypass, server)
            # Lists of the same objects are equal without asking any of them.
            if recorder is not state.recorder or middleware != server.middleware:
                compose = _inspect(state, bypass, server).compose
            if compose is not None and len(args) == 1 and not kwargs:
                return compose(args[0])
        except Exception as error:
            report("chain.compose", error)
        return original(self, *args, **kwargs)

    return _compose_server_middleware


def _inspect(state: State, bypass: SpanBypass, server: Any) -> _Inspected:
    recorder, compose = state.recorder, None
    middleware = list(server.middleware)
    if recorder is not None and 0 < len(middleware) <= MOST_LEVELS:
        interceptors = [recorder.interceptor(name_of(each)) for each in middleware]
        passages = recorder.interceptor_sequence(interceptors)
        if passages is not None:
            untraced = bypass.middleware
            if untraced is not None and not untraced.stands_for(middleware[0]):
                untraced = None
            compose = Chain(middleware, interceptors, passages, untraced).compose
    inspected = _Inspected(recorder, middleware, compose)
    setattr(server, _CHAIN, inspected)
    return inspected


def _apply_middleware(interceptors: Interceptors, original: Any) -> Any:
    middleware, call_next, ctx = (
        Parameter(original, name, place) for place, name in enumerate(("middleware", "call_next", "ctx"))
    )

    @functools.wraps(original)
    def apply_middleware(*args: Any, **kwargs: Any) -> Any:
        following = call_next.of(args, kwargs)
        interceptor = interceptors.of(middleware.of(args, kwargs)) if following is not None else None
        if interceptor is None:
            return original(*args, **kwargs)

        def run(seen: Any) -> Any:
            given, named = call_next.put(args, kwargs, seen)
            return original(*given, **named)

        return through(interceptor, following, run, ctx.of(args, kwargs))

    return apply_middleware


def _patch_extension(state: State, interceptors: Interceptors, module: ModuleType) -> None:
    state.patches.replace(module, "_bind_interceptor", lambda original: bind_interceptor(state, interceptors, original))


def bind_interceptor(state: State, interceptors: Interceptors, original: Any) -> Any:
    """Wrap a function that binds an extension (first) to the rest of the chain (last)."""

    extension_of, call_next = Parameter(original, "extension", 0), Parameter(original, "call_next", -1)

    @functools.wraps(original)
    def bind(*args: Any, **kwargs: Any) -> Any:
        extension, following = extension_of.of(args, kwargs), call_next.of(args, kwargs)
        if state.recorder is None or following is None or not _intercepts(extension, original):
            return original(*args, **kwargs)

        async def call(*called: Any, **named: Any) -> Any:
            interceptor = interceptors.of(extension)
            if interceptor is None:
                return await original(*args, **kwargs)(*called, **named)

            def run(seen: Any) -> Any:
                given, others = call_next.put(args, kwargs, seen)
                return original(*given, **others)(*called, **named)

            return await through(interceptor, following, run, called[0] if called else None)

        return call

    return bind


def _intercepts(extension: Any, original: Any) -> bool:
    """Whether an extension has an ``intercept_tool_call`` of its own."""
    # The one every extension inherits stands in the same module as the function that binds them.
    method = getattr(extension, "intercept_tool_call", None)
    return getattr(method, "__module__", None) != original.__module__
