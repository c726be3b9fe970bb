"""A copy of the installed SDK that is changed as its next release may be."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Any

ADDED = "added_later"
"""A parameter that no release has."""

_CHILD = """
import json, logging, sys
import mcp
assert mcp.__file__.startswith(HOME), mcp.__file__
import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry_instrumentation_mcp import MCPInstrumentor
from tests.points import Points
from tests.sdk import endings
from tests.sdk.setups import SETUPS
logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
setups = {each.name: each for each in SETUPS}
result = {"bare": {}, "instrumented": {}, "counted": {}}
for name in NAMES:
    result["bare"][name] = anyio.run(endings.use, setups[name])
reader = InMemoryMetricReader()
MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))
before = endings.counted(Points.of(reader))
for name in NAMES:
    result["instrumented"][name] = anyio.run(endings.use, setups[name])
    after = endings.counted(Points.of(reader))
    result["counted"][name] = sorted([*key, value] for key, value in (after - before).items())
    before = after
MCPInstrumentor().uninstrument()
print(json.dumps(result))
"""


class _Adding(ast.NodeTransformer):
    """Adds an optional keyword to functions, and gives it wherever they are called."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.seen: set[str] = set()
        self.changed = False

    def _add(self, node: Any) -> Any:
        self.generic_visit(node)
        if node.name in self.names and node.args.kwarg is None:
            self.seen.add(node.name)
            self.changed = True
            node.args.kwonlyargs.append(ast.arg(ADDED))
            node.args.kw_defaults.append(ast.Constant(None))
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _add

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        name = getattr(node.func, "attr", getattr(node.func, "id", None))
        if name in self.names:
            self.changed = True
            node.keywords.append(ast.keyword(ADDED, ast.Constant(1)))
        return node


class _Renaming(ast.NodeTransformer):
    """Gives an attribute another name, wherever it is used."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names = (name,)
        self.seen: set[str] = set()
        self.changed = False

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if node.attr == self.name:
            self.seen.add(self.name)
            self.changed = True
            node.attr += "_elsewhere"
        return node

    def visit_Name(self, node: ast.Name) -> Any:
        # A field of a dataclass.
        if node.id == self.name:
            self.changed = True
            node.id += "_elsewhere"
        return node

    def visit_keyword(self, node: ast.keyword) -> Any:
        self.generic_visit(node)
        if node.arg == self.name:
            self.changed = True
            node.arg = f"{self.name}_elsewhere"
        return node

    def _define(self, node: Any) -> Any:
        self.generic_visit(node)
        if node.name == self.name:
            self.seen.add(self.name)
            self.changed = True
            node.name += "_elsewhere"
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _define


Change = Callable[[str], "_Adding | _Renaming | None"]
"""What is done to a module, by its name; None leaves it as it is."""


def with_parameters(names: Collection[str]) -> Change:
    """A change: one more optional keyword in the functions of these names, given wherever they are called."""
    return lambda module: _Adding(names)


def renamed(name: str, modules: Collection[str] = ()) -> Change:
    """A change: an attribute or method is called something else, in some modules or in all."""
    return lambda module: None if modules and module not in modules else _Renaming(name)


def run(directory: Path, change: Change, setups: Collection[str]) -> tuple[dict[str, Any], set[str], str]:
    """Use a changed copy, bare and instrumented.

    Returns:
        What the callers got to see and what was counted; the names that were changed; and what was logged.
    """
    sdk = Path(import_module("mcp").__file__ or "").parent
    copy = directory / "mcp"
    # With what is compiled, which holds for the files that stay as they are.
    shutil.copytree(sdk, copy)
    seen: set[str] = set()
    for file in copy.rglob("*.py"):
        transformer = change(".".join(("mcp", *file.relative_to(copy).with_suffix("").parts)))
        text = file.read_text(encoding="utf-8")
        if transformer is None or not any(name in text for name in transformer.names):
            continue
        tree = ast.parse(text)
        transformer.visit(tree)
        if transformer.changed:
            seen |= transformer.seen
            file.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    paths = os.pathsep.join((str(directory), str(Path(__file__).parents[2])))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    code = f"NAMES, HOME = {list(setups)!r}, {str(directory)!r}\n{_CHILD}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), seen, done.stderr
