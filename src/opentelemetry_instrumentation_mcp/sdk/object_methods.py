"""Methods that single objects of the SDK get: one that is for one object costs its calls less than one in its class."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from ..core.fail_open import contained
from .lifecycle import Lifecycle


class _Entry(NamedTuple):
    """An object that has methods of its own.

    Attributes:
        owner: The object.
        names: The methods.
        staying: Returns which of them stay at the end.
    """

    owner: weakref.ref[Any]
    names: tuple[str, ...]
    staying: Callable[[Any], Collection[str]]


class ObjectMethods:
    """The methods that one ``instrument()`` has put on objects."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._entries: dict[int, _Entry] = {}
        lifecycle.at_end(self._take_all_off)

    def put_on(self, owner: Any, methods: Mapping[str, Any], staying: Callable[[Any], Collection[str]]) -> None:
        """Let an object have methods of its own until :meth:`take_off`, or until the end.

        Args:
            owner: The object.
            methods: Its methods, by name.
            staying: Called at the end with the owner, returns which of them stay until :meth:`take_off`. It does not
                refer to the owner itself, which would never end.
        """
        self._entries[id(owner)] = _Entry(weakref.ref(owner), tuple(methods), staying)
        owner.__dict__.update(methods)

    @contained
    def take_off(self, owner: Any) -> None:
        """Take an object's methods off again."""
        known = self._entries.pop(id(owner), None)
        if known is not None and known.owner() is owner:
            for name in known.names:
                owner.__dict__.pop(name, None)

    def _take_all_off(self) -> None:
        for entry in tuple(self._entries.values()):
            self._take_off_at_the_end(entry)

    @contained
    def _take_off_at_the_end(self, entry: _Entry) -> None:
        owner = entry.owner()
        methods = dict(getattr(owner, "__dict__", {}))
        self.take_off(owner)
        if owner is not None and (staying := entry.staying(owner)):
            self.put_on(owner, {name: methods[name] for name in staying}, entry.staying)
