"""Putting wrappers into the SDK and taking them out again, leaving nothing behind.

Class attributes and module globals are replaced; a transport function made by ``asynccontextmanager`` is patched inside
its closure, so that references imported by value before ``instrument()`` see the wrapper too. Everything is remembered
and restored in reverse order.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, ModuleType
from typing import Any, Final, cast

import wrapt

_logger = logging.getLogger("opentelemetry_instrumentation_mcp")


class _Absent:
    """Stands for what a release does not have; everything it is asked for is absent too."""

    __name__ = "absent"

    def __getattr__(self, name: str) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


ABSENT: Any = _Absent()
"""An owner that is not there: there is nothing to replace in it."""

_GENERATOR = "_otel_mcp_generator"
"""Marks a wrapper that takes the place of a generator function, so that another one can be put around it."""


class Seen:
    """An owner that patches see through something else; what is replaced is replaced in the owner itself."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner


def names_in(function: Any) -> frozenset[str]:
    """Every global and attribute that a Python function uses; empty for another function. They show what it does."""
    function = getattr(function, "__func__", function)
    # What stands around another function may show that one's code as its own.
    return frozenset(function.__code__.co_names) if type(function) is FunctionType else frozenset()


def parameters_of(function: Any) -> tuple[str, ...]:
    """The names of a Python function's parameters, ``self`` left out; empty for any other."""
    function = getattr(function, "__func__", function)
    if type(function) is not FunctionType:
        return ()
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return names[1:] if names[:1] == ("self",) else names


_Hook = Callable[[ModuleType], None]

_waiting: Final[dict[str, list[_Hook]]] = {}
"""The hooks that wait for a module, by its name. wrapt cannot forget a hook, so it gets one for each module, which is
held as long as the process lives, and these are held here until they are called or taken back."""

_waiting_lock: Final = threading.Lock()


def _imported(name: str, module: ModuleType) -> None:
    with _waiting_lock:
        hooks = _waiting.pop(name, [])
    for hook in tuple(hooks):
        hook(module)


class Patches:
    """The replacements made by one ``instrument()``."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._missing: list[str] = []
        self._told: set[str] = set()

    def note(self, missing: str) -> None:
        """Note something that the release lacks, for :meth:`tell`."""
        if missing not in self._told:
            self._told.add(missing)
            self._missing.append(missing)

    def lacks(self, *names: str) -> bool:
        """Whether one of these, by its full name, was looked for and is not where it should be."""
        return not self._told.isdisjoint(names)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by ``make(owner.name)``.

        A name the SDK does not have (it moved in a release we do not know) is left out; :meth:`tell` logs it.
        """
        owner = owner.owner if isinstance(owner, Seen) else owner
        if not self.expect(owner, name):
            return
        original = getattr(owner, name)
        attributes = cast("Mapping[str, Any]", vars(owner))
        own = attributes.get(name, ABSENT)
        replacement = make(original)
        setattr(owner, name, replacement)

        def undo() -> None:
            # Another library may have wrapped ours meanwhile: its wrapper stays, and ours passes calls through.
            if attributes.get(name) is not replacement:
                return
            if own is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self._undo.append(undo)

    def expect(self, owner: Any, name: str) -> bool:
        """Whether ``owner`` has ``name``; :meth:`tell` logs it if not."""
        if owner is ABSENT:
            # The caller that looked for the owner has noted it.
            return False
        if hasattr(owner, name) and not _is_a_stub(owner, name):
            return True
        self.note(f"{getattr(owner, '__module__', '') or ''}.{owner.__name__}.{name}".lstrip("."))
        return False

    def replace_generator(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace the generator function inside the ``asynccontextmanager`` function ``owner.name``.

        ``asynccontextmanager`` (and ``typing_extensions.deprecated`` around it) keeps the function it decorates in a
        closure cell; writing to the cell reaches all code that holds the function.
        """
        function = getattr(owner, name, None)
        cell = None if function is ABSENT else _generator_cell(function)
        if cell is None:
            self.note(f"{owner.__name__}.{name}")
            return
        original = cell.cell_contents
        replacement = make(original)
        setattr(replacement, _GENERATOR, True)
        cell.cell_contents = replacement

        def undo() -> None:
            if cell.cell_contents is replacement:
                cell.cell_contents = original

        self._undo.append(undo)

    def when_imported(self, name: str, hook: _Hook) -> None:
        """Call a hook with the module of this name: now, or when it is imported, or never after :meth:`restore`."""
        with _waiting_lock:
            is_first = name not in _waiting
            hooks = _waiting.setdefault(name, [])
            hooks.append(hook)
        if is_first:
            # Calls it at once if the module is there.
            wrapt.register_post_import_hook(functools.partial(_imported, name), name)

        def undo() -> None:
            if hook in hooks:
                hooks.remove(hook)

        self._undo.append(undo)

    def tell(self) -> None:
        """Log in one line what was not found, if anything."""
        if self._missing:
            missing, self._missing = self._missing, []
            _logger.warning("this mcp release lacks %s; what they would show is absent", ", ".join(missing))

    def restore(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()


def _is_a_stub(owner: Any, name: str) -> bool:
    """Whether a class only inherits a method from a protocol, which does not implement it."""
    classes = owner.__mro__ if isinstance(owner, type) else ()
    found = next((each for each in classes if name in vars(each)), None)
    return bool(getattr(found, "_is_protocol", False))


def _generator_cell(function: Any, depth: int = 3) -> CellType | None:
    """The cell that holds the undecorated generator function of ``function``."""
    for cell in getattr(function, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if not isinstance(content, FunctionType):
            continue
        # CO_ASYNC_GENERATOR: the function has both ``async`` and ``yield``. A wrapper of ours stands for one.
        if content.__code__.co_flags & 0x200 or hasattr(content, _GENERATOR):
            return cell
        if depth and (inner := _generator_cell(content, depth - 1)) is not None:
            return inner
    return None
