"""``ClientSession`` of 2.x: which dispatchers are a client's, and when a session is established."""

from __future__ import annotations

import functools
import weakref
from types import ModuleType
from typing import Any, Final

from ...core.fail_open import contained
from ..adapter import Adapter
from ..release import is_v2
from .seam import CLIENT, line_of


def _patch(adapter: Adapter, module: ModuleType) -> None:
    if not is_v2():
        return
    session = module.ClientSession
    adapter.patches.replace(session, "__init__", lambda original: _init(adapter, original))
    adapter.patches.replace(session, "adopt", lambda original: _adopt(adapter, original))


def _init(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if adapter.recorder is not None:
            _mark(self)
            adapter.spans.seek(adapter)

    return __init__


@contained
def _mark(session: Any) -> None:
    setattr(session._dispatcher, CLIENT, weakref.ref(session))


def _adopt(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    def adopt(self: Any, *args: Any, **kwargs: Any) -> Any:
        adopted = original(self, *args, **kwargs)
        if adapter.recorder is not None:
            _established(adapter, self)
        return adopted

    return adopt


@contained
def _established(adapter: Adapter, session: Any) -> None:
    line = line_of(adapter, session._dispatcher)
    if line is not None:
        line.connection.establish(getattr(session.server_info, "name", None), session.protocol_version)


PATCHES: Final = (("mcp.client.session", _patch),)
