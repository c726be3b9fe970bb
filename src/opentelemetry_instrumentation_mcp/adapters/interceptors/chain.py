"""``Server.middleware`` and the ``intercept_tool_call`` of extensions, both of mcp 2.x.

The functions that bind an interceptor to the rest of its chain are module globals, looked up for every message, so
that servers made before ``instrument()`` are seen too. An extension that does not intercept is left out.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

from ..adapter import Adapter
from .interception import begin, through


def _patch_runner(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module, "_apply_middleware", lambda original: _apply_middleware(adapter, original))


def _apply_middleware(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def apply_middleware(middleware: Any, call_next: Any, ctx: Any) -> Any:
        # Plain, as the original: what is awaited without us is the middleware's own awaitable.
        interception = begin(adapter, middleware, ctx)
        if interception is None:
            return original(middleware, call_next, ctx)
        return through(interception, call_next, lambda seen: original(middleware, seen, ctx))

    return apply_middleware


def _patch_extension(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module, "_bind_interceptor", lambda original: bind_interceptor(adapter, original))


def bind_interceptor(adapter: Adapter, original: Any) -> Any:
    """Wrap a function that binds an extension (first) to the rest of the chain (last)."""

    @functools.wraps(original)
    def bind(extension: Any, *args: Any) -> Any:
        *settings, call_next = args
        # The method every extension inherits stands in the same module as the function that binds them.
        own = getattr(type(extension).intercept_tool_call, "__module__", None)
        if adapter.recorder is None or own == original.__module__:
            return original(extension, *args)

        async def call(context: Any) -> Any:
            interception = begin(adapter, extension, context)
            if interception is None:
                return await original(extension, *args)(context)
            return await through(
                interception, call_next, lambda seen: original(extension, *settings, seen)(context)
            )

        return call

    return bind


PATCHES: Final = (
    ("mcp.server.runner", _patch_runner),
    ("mcp.server.extension", _patch_extension),
)
