"""A release may add a parameter: whatever stands around, or in the place of, somebody else's function takes anything.

The rule is held over the syntax trees of the package. What is wrapped is called ``original``, from the lambda that is
handed to ``Patches.replace`` on, through every function it is given to; so what is made of it is found. A function that
is made there, or that calls a function which a function around it was given, has the parameters ``*args, **kwargs``,
at most after ``self`` (an ASGI application also after the three of ASGI), and calls with ``*args, **kwargs``. What is
really put in place is looked at in ``tests/sdk/test_wrappers.py``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import opentelemetry_instrumentation_mcp

from ..wrapping import ASGI, may_be_named

SOURCE: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent
FOREIGN: Final = {"original", "on_request", "on_notify", "intercept", "call_next", "middleware", "factory"}
"""Parameters under which a function of somebody else's is handed on."""

LOOKS: Final = {"wraps", "names_in", "getattr", "signature", "asynccontextmanager"} | {
    "Parameter",
    "RunWith",
    "_Called",
    "Instead",
}
"""What may be given a function that is wrapped, and does not call it."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Scope:
    """A function, with those around it."""

    def __init__(self, node: Function | ast.Lambda, outer: Scope | None, place: str) -> None:
        self.node = node
        self.outer = outer
        self.place = place
        arguments = node.args
        self.positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
        self.parameters = {*self.positional, *(each.arg for each in arguments.kwonlyargs)}
        self.foreign = self.parameters & FOREIGN

    @property
    def takes_anything(self) -> bool:
        arguments = self.node.args
        takes_rest = bool(arguments.vararg and arguments.kwarg)
        return takes_rest and may_be_named(self.positional) and not arguments.kwonlyargs

    def knows(self, name: str) -> bool:
        """Whether a name stands for somebody else's function here."""
        if name in self.parameters and name not in self.foreign:
            return False
        return name in self.foreign or (self.outer is not None and self.outer.knows(name))

    def around(self) -> Iterator[Scope]:
        scope = self.outer
        while scope is not None:
            yield scope
            scope = scope.outer


def scopes(module: Path) -> list[Scope]:
    found: list[Scope] = []

    def visit(node: ast.AST, outer: Scope | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                name = "<lambda>" if isinstance(child, ast.Lambda) else child.name
                scope = Scope(child, outer, f"{module.relative_to(SOURCE)}:{child.lineno} {name}")
                found.append(scope)
                visit(child, scope)
            else:
                visit(child, outer)

    visit(ast.parse(module.read_text(encoding="utf-8")), None)
    return found


def own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions in it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own(child)


def forwards(call: ast.Call) -> bool:
    """Whether a call ends with ``*args, **kwargs``, and has at most a ``self`` before them."""
    stars = [each for each in call.args if isinstance(each, ast.Starred)]
    doubles = [each for each in call.keywords if each.arg is None]
    plain = [name_of(each) for each in call.args if not isinstance(each, ast.Starred)]
    return len(stars) == 1 and len(doubles) == len(call.keywords) == 1 and (len(plain) <= 1 or plain[1:] == ASGI)


def name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


MODULES: Final = [*SOURCE.glob("sdk/**/*.py")]
ALL: Final = [scope for module in MODULES for scope in scopes(module)]
BY_NAME: Final[dict[str, list[Scope]]] = {}
for each in ALL:
    if not isinstance(each.node, ast.Lambda):
        BY_NAME.setdefault(each.node.name, []).append(each)


def made(scope: Scope) -> list[Scope]:
    """The functions that a function returns, or puts into a class of its own."""
    names = {name_of(node.value) for node in own(scope.node) if isinstance(node, ast.Return) and node.value is not None}
    for node in own(scope.node):
        # ``functools.wraps(original)(function)``, ``classmethod(function)``, ``Instead(owner, name, function)``
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            names |= {name_of(each) for each in node.value.args}
    return [each for each in ALL if each.outer is scope and getattr(each.node, "name", "") in names]


def wrapping() -> list[Scope]:
    """Every function that is given one to wrap."""
    return [scope for scope in ALL if "original" in scope.parameters]


def test_what_is_made_of_a_function_takes_anything() -> None:
    missed: list[str] = []
    for scope in wrapping():
        missed += [each.place for each in made(scope) if not each.takes_anything and "original" not in each.parameters]
    assert sum(len(made(scope)) for scope in wrapping()) > 50
    assert missed == []


def test_what_is_called_is_called_with_what_came() -> None:
    missed: list[str] = []
    calls = 0
    for scope in ALL:
        for node in own(scope.node):
            if not isinstance(node, ast.Call):
                continue
            function = (
                node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "__func__" else node.func
            )
            called = name_of(node.func)
            partially = called == "partial" and node.args and scope.knows(name_of(node.args[0]))
            if partially:
                node = ast.Call(node.args[0], node.args[1:], node.keywords)
                node.lineno = scope.node.lineno
            elif not (isinstance(function, ast.Name) and scope.knows(function.id)):
                continue
            calls += 1
            # Those who await for a wrapper are handed what it was called with, by these names.
            is_handed = {"args", "kwargs"} <= scope.parameters
            is_within = any(each.takes_anything for each in (scope, *scope.around()))
            if not forwards(node) or not (is_within or is_handed):
                missed.append(f"{scope.place}: {ast.unparse(node)}")
    assert calls > 50
    assert missed == []


def test_what_is_wrapped_is_called_original_wherever_it_is_handed_to() -> None:
    """So that the other tests find what is made of it."""
    missed: list[str] = []
    seen = 0
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if name_of(node.func) in ("replace", "replace_generator") and len(node.args) == 3:
                seen += 1
                make = node.args[2]
                place = f"{module.name}:{node.lineno}"
                if isinstance(make, ast.Lambda):
                    ok = [each.arg for each in make.args.args] in (["original"], ["_"])
                else:
                    name = name_of(make.func) if isinstance(make, ast.Call) else name_of(make)
                    known = BY_NAME.get(name, [])
                    if isinstance(make, ast.Call):
                        known = [inner for each in known for inner in made(each)]
                    ok = name == "make" or any("original" in each.positional[-1:] for each in known)
                if not ok:
                    missed.append(f"{place}: {ast.unparse(make)}")
            for place, argument in enumerate(node.args):
                if name_of(argument) != "original" or name_of(node.func) in LOOKS | {"partial"}:
                    continue
                known = BY_NAME.get(name_of(node.func), [])
                if name_of(node.func) != "make" and not any("original" in each.parameters for each in known):
                    missed.append(f"{module.name}:{node.lineno}: {ast.unparse(node)} ({place})")
    assert seen > 50
    assert missed == []


def test_nothing_else_puts_a_function_in_place() -> None:
    """An attribute of an object that is not ours gets a function in one of three places, which the tests look at."""
    known = {"sdk/object_methods.py", "sdk/http_pool.py", "patching/patches.py"}
    found: set[str] = set()
    for module in SOURCE.glob("**/*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign):
                targets = [each for each in node.targets if isinstance(each, ast.Attribute)]
                # What says which requests are in flight is an attribute of this package's own connections.
                targets = [each for each in targets if each.attr != "in_flight"]
                foreign = [each for each in targets if name_of(each.value) not in ("self", "cls")]
                is_function = isinstance(node.value, ast.Call) and name_of(node.value.func) == "partial"
                is_function = is_function or (isinstance(node.value, ast.Name) and node.value.id in BY_NAME)
                if foreign and is_function:
                    found.add(str(module.relative_to(SOURCE)))
            elif isinstance(node, ast.Call) and name_of(node.func) == "update":
                if isinstance(node.func, ast.Attribute) and name_of(node.func.value) == "__dict__":
                    found.add(str(module.relative_to(SOURCE)))
            elif isinstance(node, ast.Call) and name_of(node.func) == "setattr" and len(node.args) == 3:
                if name_of(node.args[2]) not in {*BY_NAME, "replacement"}:
                    continue
                found.add(str(module.relative_to(SOURCE)))
    assert found == known


@pytest.mark.parametrize(
    "bad",
    [
        "lambda original: lambda first: original(first)",
        "def make(original):\n def wrap(self, x, **kwargs):\n  return original(self, x, **kwargs)\n return wrap",
        "def make(original):\n def wrap(*args, **kwargs):\n  return original(*args)\n return wrap",
    ],
)
def test_the_rule_finds_a_wrapper_that_takes_less(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bad.py"
    file.write_text(bad)
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    monkeypatch.setitem(globals(), "ALL", [*ALL, *scopes(file)])
    with pytest.raises(AssertionError, match=r"bad\.py"):
        test_what_is_made_of_a_function_takes_anything()
        test_what_is_called_is_called_with_what_came()
