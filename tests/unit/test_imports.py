"""The import contract: which part of the package may import which.

It is checked over the syntax trees, so an import within a function, or below ``if TYPE_CHECKING:``, counts like one at
the top of a module. An import of a submodule runs the ``__init__`` of the packages above it as well; that is Python's
doing, not the importer's, and does not count.

:data:`VIOLATIONS` and :data:`CIRCULAR` hold what breaks the contract today. They may only shrink: a test fails for what
is not in them, and for what is in them although it does not break the contract any more. After a change that removes
such an import, print both anew, put them in the place of the old ones, and run ``ruff format``::

    python -m tests.unit.test_imports
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import opentelemetry_instrumentation_mcp

NAME: Final = opentelemetry_instrumentation_mcp.__name__
SOURCE: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent
DOOR: Final = "__init__"
"""The package itself. Every other module is called by what comes after the package's name."""

FACTS: Final = ("version", "package", "configuration")
"""What the package is and what it can be told: names and numbers, which everything may import."""

LAYERS: Final[tuple[tuple[str, ...], ...]] = (
    FACTS,
    ("core",),
    ("patching",),
    ("metrics",),
    ("tracing",),
    ("sdk",),
    ("fast_paths",),
    ("install",),
    (DOOR,),
)
"""The way of a measurement. A layer imports those before it, and itself. ``FACTS`` are three modules apart."""

BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "distro": (*FACTS, "core", "metrics.catalogue"),
    "dashboards": ("version", "core"),
    "launcher": (*FACTS, "core", "distro"),
}
"""What stands beside the layers, with what each may import except itself. No layer imports one of these.

``launcher`` is the distro's entry point; it has a place of its own because each name in it becomes a flag.
"""

APART: Final = (("sdk.v1", "sdk.v2"),)
"""Parts of one layer that do not import each other, in either direction."""

VIOLATIONS: Final[tuple[tuple[str, str], ...]] = ()
"""Imports that :func:`is_allowed` refuses: the importer and the imported."""

CIRCULAR: Final[tuple[tuple[str, str], ...]] = (
    ("sdk.ending", "sdk.streams"),
    ("sdk.http_pool", "sdk.outbound"),
    ("sdk.outbound", "sdk.http_pool"),
    ("sdk.streams", "sdk.ending"),
    ("sdk.v1.session", "sdk.v1.spans"),
    ("sdk.v1.spans", "sdk.v1.session"),
    ("sdk.v2.messages", "sdk.v2.seam"),
    ("sdk.v2.seam", "sdk.v2.messages"),
)
"""Imports that are part of a circle: the importer, and the imported that needs the importer itself."""

Import = tuple[str, str]


def modules(source: Path) -> dict[str, Path]:
    """The files of a package by the names of their modules."""
    names = {
        path: path.relative_to(source).with_suffix("").as_posix().replace("/", ".") for path in source.rglob("*.py")
    }
    return {name if name == DOOR else name.removesuffix(f".{DOOR}"): path for path, name in names.items()}


def imports(source: Path, name: str = NAME) -> Iterator[Import]:
    """Each import of a package's module by another one, and each of something outside with its own full name."""
    files = modules(source)
    for importer, path in files.items():
        parents = [] if importer == DOOR else importer.split(".")
        package = parents if path.name == f"{DOOR}.py" else parents[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, [name, *package]):
                if target != name and not target.startswith(f"{name}."):
                    yield importer, target
                    continue
                # A name that is no module is something in the package that it is imported from.
                inside = target.removeprefix(name).removeprefix(".")
                inside = inside if inside in files else inside.rpartition(".")[0]
                if (inside or DOOR) != importer:
                    yield importer, inside or DOOR


def _targets(node: ast.AST, package: list[str]) -> list[str]:
    """The full names that a statement, or a call of ``import_module``, imports."""
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [f"{base}.{each.name}" for each in node.names]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        argument = node.args[0]
        is_import = called in ("import_module", "__import__") and isinstance(argument, ast.Constant)
        return [str(argument.value)] if is_import and isinstance(argument, ast.Constant) else []
    return []


def _is_in(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def _layer(module: str) -> int | None:
    return next((i for i, parts in enumerate(LAYERS) if any(_is_in(module, part) for part in parts)), None)


def _beside(module: str) -> str | None:
    return next((each for each in BESIDE if _is_in(module, each)), None)


def is_allowed(importer: str, imported: str) -> bool:
    """Whether one module of the package may import another."""
    beside = _beside(importer)
    if beside is not None:
        return any(_is_in(imported, each) for each in (beside, *BESIDE[beside]))
    for one, other in APART:
        if (_is_in(importer, one) and _is_in(imported, other)) or (_is_in(importer, other) and _is_in(imported, one)):
            return False
    layer, below = _layer(importer), _layer(imported)
    if importer in FACTS or layer is None or below is None:
        return False
    return below <= layer


def violations(pairs: Iterable[Import]) -> set[Import]:
    return {(importer, imported) for importer, imported in pairs if not is_allowed(importer, imported)}


def circles(pairs: Iterable[Import]) -> set[frozenset[str]]:
    """The modules that reach each other (strongly connected components, by Tarjan's algorithm)."""
    graph: dict[str, set[str]] = {}
    for importer, imported in pairs:
        graph.setdefault(importer, set()).add(imported)
        graph.setdefault(imported, set())
    found: set[frozenset[str]] = set()
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for each in sorted(graph[module]):
            if each not in number:
                visit(each)
                lowest[module] = min(lowest[module], lowest[each])
            elif each in path:
                lowest[module] = min(lowest[module], number[each])
        if lowest[module] == number[module]:
            component = path[path.index(module) :]
            del path[path.index(module) :]
            if len(component) > 1:
                found.add(frozenset(component))

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found


def circular(pairs: Iterable[Import]) -> set[Import]:
    """The imports within a circle."""
    every = set(pairs)
    return {pair for circle in circles(every) for pair in every if circle.issuperset(pair)}


FILES: Final = modules(SOURCE)
ALL: Final = frozenset(imports(SOURCE))
WITHIN: Final = frozenset(pair for pair in ALL if pair[1] in FILES)
OUTSIDE: Final = ALL - WITHIN


def test_every_module_has_its_place() -> None:
    assert len(WITHIN) > 100
    assert [name for name in FILES if _layer(name) is None and _beside(name) is None] == []


@pytest.mark.parametrize(
    ("found", "known"), [(violations(WITHIN), VIOLATIONS), (circular(WITHIN), CIRCULAR)], ids=["layers", "circles"]
)
def test_the_contract_is_broken_by_what_is_known_alone(found: set[Import], known: tuple[Import, ...]) -> None:
    assert sorted(found - {*known}) == [], "the contract does not allow this"
    assert sorted({*known} - found) == [], "this is no violation any more: take it out of the list"


def test_the_core_imports_nothing_but_the_standard_library() -> None:
    facts_and_core = {pair for pair in OUTSIDE if _is_in(pair[0], "core") or pair[0] in FACTS}
    assert len(facts_and_core) > 10
    assert sorted(pair for pair in facts_and_core if pair[1].partition(".")[0] not in sys.stdlib_module_names) == []


def _package(files: Mapping[str, str], folder: Path) -> set[Import]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return set(imports(folder))


@pytest.mark.parametrize(
    "hidden",
    [
        "from ..sdk import session",
        "from ..sdk.session import Session",
        "def f():\n    from ..sdk import session",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..sdk.session import Session",
        "try:\n    from ..sdk import session as other\nexcept ImportError:\n    pass",
        f"import {NAME}.sdk.session",
        f"from {NAME}.sdk import session",
        f"importlib.import_module('{NAME}.sdk.session')",
    ],
)
def test_an_import_is_found_wherever_it_hides(hidden: str, tmp_path: Path) -> None:
    package = {"__init__.py": "", "distro/__init__.py": "", "distro/flush.py": hidden, "sdk/__init__.py": ""}
    found = _package({**package, "sdk/session.py": "class Session: ..."}, tmp_path)
    assert ("distro.flush", "sdk.session") in found
    assert ("distro.flush", "sdk.session") in violations(found & {("distro.flush", "sdk.session")})


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("sdk.v1.session", "metrics.recorder", True),
        ("metrics.recorder", "sdk.v1.session", False),
        ("core.fail_open", "core.environment", True),
        ("core.fail_open", "patching.patches", False),
        ("sdk.v1.session", "sdk.v2.server", False),
        ("sdk.v2.server", "sdk.v1", False),
        ("sdk.v1.session", "sdk.v1.server", True),
        ("sdk.release", "distro.flush", False),
        ("distro.flush", "metrics.catalogue", True),
        ("distro.flush", "metrics.recorder", False),
        ("distro.flush", "patching.patches", False),
        ("dashboards", "metrics.catalogue", False),
        ("__init__", "distro", False),
        ("install", "__init__", False),
        ("__init__", "install", True),
        ("version", "package", False),
    ],
)
def test_the_table_says_what_may_be_imported(importer: str, imported: str, allowed: bool) -> None:
    assert is_allowed(importer, imported) is allowed


def test_a_circle_is_found_through_a_third_module_and_in_functions(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from . import a",
        "a.py": "from . import b",
        "b.py": "def f():\n    from .c import d",
        "c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import e",
        "d.py": "from . import a",
    }
    found = _package(files, tmp_path)
    assert circles(found) == {frozenset({"a", "b", "c"})}
    assert circular(found) == {("a", "b"), ("b", "c"), ("c", "a")}


if __name__ == "__main__":
    for title, found in (("VIOLATIONS", violations(WITHIN)), ("CIRCULAR", circular(WITHIN))):
        sys.stdout.write(f"# {len(found)} imports\n{title}: Final[tuple[tuple[str, str], ...]] = (\n")
        sys.stdout.write("".join(f'    ("{importer}", "{imported}"),\n' for importer, imported in sorted(found)))
        sys.stdout.write(")\n")
