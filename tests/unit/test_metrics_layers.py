"""The way of a value inside ``metrics/``: adapters see events alone, which see the store, which sees the buffers.

Held over the syntax trees: an import counts wherever it stands, in a function or under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import opentelemetry_instrumentation_mcp

PACKAGE: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent
METRICS: Final = PACKAGE / "metrics"

DATA: Final = {"catalogue", "exposition", "labels", "limits", "outcome", "transports", "vocabulary"}
LAYERS: Final = (DATA, {"buffers"}, {"store"}, {"events"})
"""What is in ``metrics/``, the lowest first. Nothing imports what stands above it."""

WITHOUT_OPENTELEMETRY: Final = {"batch", "drain_policy", "sink", "value_buffer"}
"""The modules of ``buffers/`` that hold and hand over values."""

KNOWS_THE_SDK: Final = {"histogram_comparison", "histogram_writer"}
"""The one that knows the SDK from inside, and the one that tries it."""

_KEPT: Final = re.compile(r"\bvalues\.(append|extend|insert)\(|\.due\b|\.drain_due\b")
_KEPT_FOR_THE_NEXT: Final = re.compile(r"\.active\.append\(")
"""A step up; the step down that follows is added, so it looks whether something is due."""


def _modules() -> dict[str, Path]:
    """The modules of ``metrics/`` by name, ``store.connection`` for instance."""
    found: dict[str, Path] = {}
    for path in sorted(METRICS.rglob("*.py")):
        parts = path.relative_to(METRICS).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES: Final = _modules()


def _imported(path: Path) -> Iterator[str]:
    """What a module imports of ``metrics/``, and everything else by its full name."""
    package = ["opentelemetry_instrumentation_mcp", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else ())])
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name: object = node.args[0].value
            if ast.unparse(node.func).endswith("import_module") and isinstance(name, str):
                yield ".".join(package) + name if name.startswith(".") else name


def _edges(path: Path) -> set[str]:
    prefix = "opentelemetry_instrumentation_mcp.metrics."
    within = {name.removeprefix(prefix) for name in _imported(path) if name.startswith(prefix)}
    # A name is a module, or something in one.
    return {name if name in MODULES else name.rpartition(".")[0] for name in within} - {""}


def _layer(module: str) -> int:
    (layer,) = (place for place, names in enumerate(LAYERS) if module.split(".", maxsplit=1)[0] in names)
    return layer


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_a_module_imports_nothing_of_a_layer_above_its_own(module: str) -> None:
    assert {other for other in _edges(MODULES[module]) if _layer(other) > _layer(module)} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in sorted(_edges(MODULES[module])):
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_adapters_know_the_door_and_the_data_alone() -> None:
    known = {
        (path.relative_to(PACKAGE).as_posix(), module)
        for directory in ("sdk", "tracing", "patching", "distro")
        for path in (PACKAGE / directory).rglob("*.py")
        for module in _edges(path)
    }
    assert known
    assert {(path, module) for path, module in known if module not in DATA | {"events"}} == set()
    assert {path for path, module in known if module == "events" and not path.startswith("sdk/")} == set()


def test_what_keeps_values_does_without_opentelemetry() -> None:
    for name in WITHOUT_OPENTELEMETRY:
        imported = {each for each in _imported(MODULES[f"buffers.{name}"]) if each.startswith("opentelemetry.")}
        assert imported == set(), name


def test_one_module_knows_the_sdk() -> None:
    knowing = {
        module
        for module, path in MODULES.items()
        if "opentelemetry.sdk" in path.read_text(encoding="utf-8") or "_measurement_consumer" in path.read_text("utf-8")
    }
    assert knowing == {f"buffers.{name}" for name in KNOWS_THE_SDK}


def _places(pattern: re.Pattern[str]) -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for directory in ("metrics", "sdk", "tracing")
        for path in (PACKAGE / directory).rglob("*.py")
        # Over the text: some code of the adapters is written by a program.
        if pattern.search(path.read_text(encoding="utf-8"))
    }


def test_a_value_is_kept_in_one_place() -> None:
    """One function appends and looks whether something is due; there is no copy of its body."""
    assert _places(_KEPT) == {"metrics/buffers/value_buffer.py"}


def test_the_places_that_leave_it_to_the_next_value_are_those_that_are_named() -> None:
    assert _places(_KEPT_FOR_THE_NEXT) == {"metrics/store/connection.py", "metrics/store/inbound_requests.py"}


def test_the_lists_of_layers_are_complete() -> None:
    assert {name.split(".")[0] for name in MODULES if name} == set[str]().union(*LAYERS)
