"""What the installed release of the SDK should have, so that what has moved is told from what is not there yet.

Patches are written for what they find. A name that is not there is either one that this release never had, which is
nobody's concern, or one that a release we do not know has moved: then the rest is measured, and one line says what is
missing.
"""

from __future__ import annotations

import functools
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final
from weakref import WeakSet

from ..core.fail_open import contained
from ..patching.patches import ABSENT, Patches, Seen

_Version = tuple[int, int]

_PACKAGES: Final = ("mcp", "mcp_types", "httpcore", "httpcore2")

_SINCE: Final[dict[tuple[str, str], tuple[_Version | None, _Version | None]]] = {
    ("mcp.types", "JSONRPCMessage"): ((1, 12), None),
    ("mcp.client.sse", "request_within_origin"): ((1, 30), (2, 2)),
    ("mcp.client.streamable_http", "streamable_http_client"): ((1, 24), (2, 0)),
    ("mcp.server.streamable_http_manager", "StreamableHTTPASGIApp"): (None, (2, 0)),
    ("mcp.server.streamable_http_manager", "handle_modern_request"): (None, (2, 0)),
    ("mcp.server.transport_security", "RequestBodyLimitMiddleware"): ((1, 30), (2, 1)),
}
"""Names that not every supported release has: the first of 1.x and of 2.x that do. All others are expected."""

_MODULES: Final[dict[str, int]] = {
    "mcp.shared.session": 1,
    "mcp.server.websocket": 1,
    "mcp.client.websocket": 1,
    "mcp.client.client": 2,
    # Expected of neither: no metric depends on it.
    "mcp.server._otel": 0,
    "mcp.server.extension": 2,
    "mcp.server.runner": 2,
    "mcp.server._streamable_http_modern": 2,
    "mcp.shared.direct_dispatcher": 2,
    "mcp.shared.jsonrpc_dispatcher": 2,
}
"""Modules of one generation only."""


@functools.cache
def sdk_release() -> _Version:
    """The first two numbers of the installed release; those of the oldest of its generation if it does not say."""
    try:
        major, minor = version("mcp").split(".")[:2]
        return int(major), int(minor)
    except Exception:
        # Put there without its metadata. mcp_types is a package of 2.x.
        return (2, 0) if "mcp_types" in sys.modules else (1, 12)


def is_v2() -> bool:
    """Whether the SDK is of the second generation."""
    return sdk_release() >= (2, 0)


class Module(Seen):
    """A module of the SDK as patches see it: a name that has moved is noted, and is :data:`~..patching.ABSENT`."""

    def __init__(self, module: ModuleType, patches: Patches) -> None:
        super().__init__(module)
        self.__name__ = module.__name__
        self._patches = patches

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.owner, name)
        except AttributeError:
            if not is_expected(self.__name__, name):
                raise
        self._patches.note(f"{self.__name__}.{name}")
        return ABSENT


def is_expected(module: str, name: str) -> bool:
    """Whether a module of the installed release should have a name."""
    if module.partition(".")[0] not in _PACKAGES or name.startswith("__"):
        return False
    release = sdk_release()
    first = _SINCE.get((module, name), ((1, 12), (2, 0)))[0 if release < (2, 0) else 1]
    return first is not None and release >= first


_inspected: WeakSet[Patches] = WeakSet()


@contained
def note_missing_modules(names: tuple[str, ...], patches: Patches) -> None:
    """Note those of ``names`` that the SDK should have and has not, once it is being imported.

    Nothing is imported to find out: files are looked for where the package is.
    """
    package = sys.modules.get("mcp")
    if package is None or patches in _inspected:
        return
    _inspected.add(patches)
    if not _is_there(package, "mcp.server"):
        # In no directory: packed up with the application, where everything would seem to be missing.
        return
    generation = sdk_release()[0]
    for name in sorted(set(names)):
        is_ours = name.startswith("mcp.") and _MODULES.get(name, generation) == generation
        if is_ours and name not in sys.modules and not _is_there(package, name):
            patches.note(name)


def _is_there(package: ModuleType, name: str) -> bool:
    path: Any = package.__path__
    parts = name.split(".")
    for depth in range(2, len(parts) + 1):
        spec: ModuleSpec | None = PathFinder.find_spec(".".join(parts[:depth]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True
