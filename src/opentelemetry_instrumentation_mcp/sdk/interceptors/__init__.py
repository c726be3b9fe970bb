"""Interceptors: code that stands between a message and its handler, the application's, the SDK's and fastmcp's.

``chain`` is for those that are given the rest of the chain to call, ``guards`` for those that look at an HTTP request,
``fastmcp`` finds fastmcp's, where that is installed. Which method or tool a message was for is not recorded here, and
no exception, context or result is changed or kept.
"""

from __future__ import annotations

from ..state import ModulePatch, State
from . import chain, fastmcp, guards
from .interception import Interceptors
from .passage import SpanBypass


def patches(state: State, interceptors: Interceptors, bypass: SpanBypass) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        *chain.patches(state, interceptors, bypass),
        *guards.patches(state, interceptors),
        *fastmcp.patches(state, interceptors),
    )
