"""``ClientSession`` of 2.x: which dispatchers are a client's, and when a session is established."""

from __future__ import annotations

import functools
import weakref
from types import ModuleType
from typing import Any

from ...core.fail_open import contained
from ..release import is_v2
from ..spans import Spans
from ..state import ModulePatch, State
from .seam import CLIENT, side_of


def patches(state: State, spans: Spans) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (("mcp.client.session", functools.partial(_patch, state, spans)),)


def _patch(state: State, spans: Spans, module: ModuleType) -> None:
    if not is_v2():
        return
    session = module.ClientSession
    state.patches.replace(session, "__init__", lambda original: _init(state, spans, original))
    state.patches.replace(session, "adopt", lambda original: _adopt(state, original))


def _init(state: State, spans: Spans, original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if state.recorder is not None:
            _mark(self)
            spans.operations()

    return __init__


@contained
def _mark(session: Any) -> None:
    setattr(session._dispatcher, CLIENT, weakref.ref(session))


def _adopt(state: State, original: Any) -> Any:
    @functools.wraps(original)
    def adopt(self: Any, *args: Any, **kwargs: Any) -> Any:
        adopted = original(self, *args, **kwargs)
        if state.recorder is not None:
            _established(state, self)
        return adopted

    return adopt


@contained
def _established(state: State, session: Any) -> None:
    side = side_of(state, session._dispatcher)
    if side is not None:
        side.connection.establish(getattr(session.server_info, "name", None), session.protocol_version)
