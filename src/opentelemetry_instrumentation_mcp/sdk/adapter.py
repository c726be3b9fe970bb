"""What every patch of one ``instrument()`` shares."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..core.fail_open import contained, report_failure
from ..metrics.events import Interceptor, Recorder
from ..patching.patches import Patches
from .release import Module, note_missing_modules
from .sizes import Sizes
from .spans import Spans
from .streams import Streams

if TYPE_CHECKING:
    from .v2.untraced import Spanless


class _Watched(NamedTuple):
    """An object that has methods of its own.

    Attributes:
        owner: The object.
        names: The methods.
        retired: Which of them are to stay when the adapter retires.
    """

    owner: weakref.ref[Any]
    names: tuple[str, ...]
    retired: Callable[[Any], Collection[str]]


class Adapter:
    """The recorder, the patches, and what is known about the stream pairs and messages under way.

    Wrappers read ``recorder`` on every call: None means retired, and they pass through.
    """

    def __init__(self, recorder: Recorder, spans: Spans | None = None) -> None:
        self.recorder: Recorder | None = recorder
        self.spans = spans or Spans()
        self.patches = Patches()
        self.streams = Streams()
        self.sizes = Sizes()
        self.modules: tuple[str, ...] = ()
        """The modules that are patched, so that one which the release should have and has not can be named."""
        self.interceptors: dict[type, Interceptor] = {}
        """Where interceptors are recorded that are called after their class, for the first classes there are."""
        self.spanless: Spanless | None = None
        """On 2.x, what its middleware for spans does while there are none to make."""
        self.sees_exchanges = True
        """On 2.x, whether the refusal of a 2026-07-28 request is told from one by the transport."""
        self._watched: dict[int, _Watched] = {}
        self._hooked: list[tuple[weakref.ref[Any], str, Any]] = []
        _adapters.add(self)

    def apply(self, patches: Iterable[tuple[str, Patch]]) -> None:
        """Apply patches to their modules: now, or when these are imported, as long as this adapter is not retired."""
        for name, patch in patches:
            self.patches.when_imported(name, self._applying(patch))

    def _applying(self, patch: Patch) -> Callable[[ModuleType], None]:
        def hook(module: ModuleType) -> None:
            if self.recorder is None:
                return
            try:
                note_missing_modules(self.modules, self.patches)
                patch(self, cast("ModuleType", Module(module, self.patches)))
                self.patches.tell()
            except Exception as error:
                report_failure(f"{module.__name__} was not instrumented", error)

        return hook

    @contained
    def hook(self, client: Any, event: str, function: Any) -> None:
        """Put an event hook on an httpx client, once; it is taken off again by :meth:`retire`."""
        hooks: list[Any] = client.event_hooks[event]
        if function not in hooks:
            hooks.append(function)
            self._hooked = [entry for entry in self._hooked if entry[0]() is not None]
            self._hooked.append((weakref.ref(client), event, function))

    def watch(self, owner: Any, methods: Mapping[str, Any], retired: Callable[[Any], Collection[str]]) -> None:
        """Let an object have methods of its own until :meth:`unwatch`, or until this adapter retires.

        What looks on for one object costs its calls less than what is put into its class for all of them.

        Args:
            owner: The object.
            methods: Its methods, by name.
            retired: Asked when the adapter retires, with the owner, which of them are to stay until :meth:`unwatch`.
                It does not refer to the owner itself, which would never end.
        """
        self._watched[id(owner)] = _Watched(weakref.ref(owner), tuple(methods), retired)
        owner.__dict__.update(methods)

    @contained
    def unwatch(self, owner: Any) -> None:
        """Take them off again."""
        known = self._watched.pop(id(owner), None)
        if known is not None and known.owner() is owner:
            for name in known.names:
                owner.__dict__.pop(name, None)

    @contained
    def _unwatch_at_last(self, watched: _Watched) -> None:
        owner = watched.owner()
        methods = dict(getattr(owner, "__dict__", {}))
        self.unwatch(owner)
        if owner is not None and (staying := watched.retired(owner)):
            self.watch(owner, {name: methods[name] for name in staying}, watched.retired)

    @contained
    def begin_anew(self) -> None:
        """Start from nothing, in a forked child: connections and requests under way are its parent's."""
        if self.recorder is not None:
            self.recorder = self.recorder.successor()
            self.streams = Streams()
            self.sizes.clear()
            self.interceptors.clear()
            self.spans.unlock()

    def retire(self) -> None:
        """Take the patches out and hand over what was kept."""
        recorder, self.recorder = self.recorder, None
        self.patches.restore()
        for watched in tuple(self._watched.values()):
            self._unwatch_at_last(watched)
        for reference, event, function in self._hooked:
            _unhook(reference(), event, function)
        self.interceptors.clear()
        self.sizes.clear()
        self._hooked.clear()
        if recorder is not None:
            recorder.retire()


Patch = Callable[[Adapter, ModuleType], None]
"""Puts wrappers into a module that was imported."""

_adapters: weakref.WeakSet[Adapter] = weakref.WeakSet()


def _forked() -> None:
    for adapter in tuple(_adapters):
        adapter.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contained
def _unhook(client: Any, event: str, function: Any) -> None:
    if client is not None and function in client.event_hooks[event]:
        client.event_hooks[event].remove(function)
