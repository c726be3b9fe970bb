"""``Server.middleware`` and the ``intercept_tool_call`` of extensions, both of mcp 2.x.

The functions that bind an interceptor to the rest of its chain are module globals, looked up for every message, so
that servers made before ``instrument()`` are seen too. An extension that does not intercept is left out.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Final

from ..adapter import Adapter
from .interception import interceptor_of, through


def _patch_runner(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module, "_apply_middleware", lambda original: _apply_middleware(adapter, original))


def _apply_middleware(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def apply_middleware(middleware: Any, call_next: Any, ctx: Any) -> Any:
        interceptor = interceptor_of(adapter, middleware)
        if interceptor is None:
            return original(middleware, call_next, ctx)
        return through(interceptor, call_next, lambda seen: original(middleware, seen, ctx), ctx)

    return apply_middleware


def _patch_extension(adapter: Adapter, module: ModuleType) -> None:
    adapter.patches.replace(module, "_bind_interceptor", lambda original: bind_interceptor(adapter, original))


def bind_interceptor(adapter: Adapter, original: Any) -> Any:
    """Wrap a function that binds an extension (first) to the rest of the chain (last)."""

    @functools.wraps(original)
    def bind(extension: Any, *settings: Any) -> Any:
        if adapter.recorder is None or not settings or not _intercepts(extension, original):
            return original(extension, *settings)
        *others, call_next = settings

        async def call(context: Any) -> Any:
            interceptor = interceptor_of(adapter, extension)
            if interceptor is None:
                return await original(extension, *settings)(context)
            return await through(
                interceptor, call_next, lambda seen: original(extension, *others, seen)(context), context
            )

        return call

    return bind


def _intercepts(extension: Any, bind: Any) -> bool:
    """Whether an extension has an ``intercept_tool_call`` of its own."""
    # The one every extension inherits stands in the same module as the function that binds them.
    method = getattr(extension, "intercept_tool_call", None)
    return getattr(method, "__module__", None) != bind.__module__


PATCHES: Final = (
    ("mcp.server.runner", _patch_runner),
    ("mcp.server.extension", _patch_extension),
)
