"""Makes functions of the package fail or dawdle, wherever they are: found in its source, not listed.

The modules are compiled with a call of :func:`trip` in every function that is a hook or is called by one: functions of
a module, methods, and functions inside functions, in ``metrics``, ``sdk`` and beside them. A function that
contains itself fails where it works, inside each ``try`` or guard of it. What stands around the application's own call,
and has to let it through, fails nowhere else: wrappers, coroutines and generators that await or yield, special methods
of stand-ins.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import Any, Final

PACKAGE: Final = "opentelemetry_instrumentation_mcp"
_WHERE: Final = tuple(f"{PACKAGE}.{part}" for part in ("metrics", "sdk", "install", "core.json_shapes", "patching"))
_TRIP: Final = "__trip__"


class Injected(Exception):
    """What a function raises that was made to."""


class Plan:
    """What the functions do from now on.

    Attributes:
        target: The function that raises.
        everything: Whether all of them raise.
        dawdle: Seconds that each of them takes, a few times.
        hits: How often each was called since it was cleared.
        known: All functions that could be made to fail, as far as their modules are imported.
    """

    def __init__(self) -> None:
        self.target: str | None = None
        self.everything = False
        self.dawdle = 0.0
        self.hits: dict[str, int] = {}
        self.known: set[str] = set()


plan: Final = Plan()


def trip(name: str) -> None:
    """Called where a function begins to work."""
    count = plan.hits[name] = plan.hits.get(name, 0) + 1
    if plan.dawdle and count <= 3:
        time.sleep(plan.dawdle)
    if plan.everything or plan.target == name:
        raise Injected(name)


def _works(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function does something of its own: it is no overload, stub or empty body, and nobody's to await."""
    body = [each for each in function.body if not _is_doc(each)]
    if all(isinstance(each, (ast.Pass, ast.Return)) and not getattr(each, "value", None) for each in body):
        return False
    if any(isinstance(each, ast.Raise) for each in body[:1]):
        return False
    name = function.name
    if name.startswith("__") and name not in ("__init__", "__call__"):
        return False
    own = _own(function)
    # A stand-in's way on to what it stands for is a wrapper as well.
    passes_on = any(
        isinstance(each, ast.Return)
        and isinstance(each.value, ast.Call)
        and isinstance(each.value.func, ast.Attribute)
        and each.value.func.attr == name
        for each in own
    )
    return not passes_on and not any(isinstance(each, (ast.Await, ast.Yield, ast.YieldFrom)) for each in own)


def _own(function: ast.AST) -> list[ast.AST]:
    """The nodes of a function without those of functions in it."""
    found: list[ast.AST] = []
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)
    return found


def _is_doc(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _contains_itself(node: ast.AST) -> bool:
    """Whether what goes wrong in a statement is reported by it; another handler expects something else."""
    if isinstance(node, ast.With):
        managers = [each.context_expr for each in node.items]
        return any(isinstance(each, ast.Call) and _is_called(each.func, "guard") for each in managers)
    return isinstance(node, ast.Try) and any(
        _is_called(each, "report") for handler in node.handlers for each in ast.walk(handler)
    )


def _is_called(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _lets_through(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function inside another is a wrapper: it takes whatever it is called with."""
    return function.args.vararg is not None and function.args.kwarg is not None


def arm(module: str, owner: str, nodes: Sequence[ast.AST], inside: bool = False) -> None:
    """Put a call of :func:`trip` into every function among these nodes, those of a module or of its class ``owner``."""
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
                arm(module, f"{owner}{node.name}.", node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # Before anything is put in.
            inner, tries = _own(node), _tries(node)
            for number, body in enumerate(tries):
                _put(f"{module}:{owner}{node.name}" + (f"#{number + 1}" if number else ""), body, 0)
            if not tries and _works(node) and not (inside and _lets_through(node)):
                _put(f"{module}:{owner}{node.name}", node.body, 1 if _is_doc(node.body[0]) else 0)
            arm(module, f"{owner}{node.name}.", inner, inside=True)


def _tries(function: ast.AST) -> list[list[Any]]:
    """The bodies in which a function contains itself, one after another."""
    found = [each for each in _own(function) if isinstance(each, ast.Try | ast.With) and _contains_itself(each)]
    return [each.body for each in sorted(found, key=lambda each: each.lineno)]


def _put(name: str, body: list[Any], first: int) -> None:
    name = name.removeprefix(PACKAGE + ".")
    plan.known.add(name)
    call = ast.parse(f"{_TRIP}({name!r})").body[0]
    for each in ast.walk(call):
        ast.copy_location(each, body[min(first, len(body) - 1)])
    body.insert(first, call)


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Past the cache of compiled modules: that one is for everybody else.
        tree = ast.parse(self.get_data(self.path))
        arm(fullname, "", tree.body)
        return compile(tree, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        setattr(module, _TRIP, trip)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_WHERE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return spec
        spec.loader = _Loader(fullname, spec.origin)
        return spec


def install() -> None:
    """Compile the package so from now on; none of the modules may be imported yet."""
    assert not [name for name in sys.modules if name.startswith(_WHERE)]
    sys.meta_path.insert(0, _Finder())
