"""Every attribute of every class and module of the SDK, and what its closures hold: object by object."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import opentelemetry_instrumentation_mcp

OURS = str(Path(opentelemetry_instrumentation_mcp.__file__).parent)
ROOTS = ("mcp", "mcp_types", "httpcore", "httpcore2")


def import_everything() -> None:
    """Import every module of the SDK that can be imported here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _import_below(importlib.import_module("mcp"))


def _import_below(package: ModuleType) -> None:
    for _, name, is_package in pkgutil.iter_modules(package.__path__):
        # The command line tools end the process when their extra is not installed.
        if name in ("cli", "__main__"):
            continue
        try:
            module = importlib.import_module(f"{package.__name__}.{name}")
        except ImportError:
            # An optional dependency, or a module that refuses to be imported on this generation.
            continue
        if is_package:
            _import_below(module)


def _modules() -> list[ModuleType]:
    return [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] in ROOTS]


def snapshot() -> dict[str, Any]:
    """Objects by the path they are found under."""
    return dict(_walk())


def _walk() -> Iterator[tuple[str, Any]]:
    for module in _modules():
        for name, value in list(vars(module).items()):
            # Filled lazily by warnings, whoever looks.
            if name == "__warningregistry__":
                continue
            path = f"{module.__name__}.{name}"
            yield path, value
            yield from _closure(path, value)
            if isinstance(value, type) and value.__module__.split(".")[0] in ROOTS:
                for attribute, member in list(vars(value).items()):
                    # pydantic and abc keep caches of their own on the class.
                    if attribute.startswith(("__pydantic", "_abc")) or attribute in ("__weakref__", "__dict__"):
                        continue
                    yield f"{path}.{attribute}", member
                    yield from _closure(f"{path}.{attribute}", member)


def _closure(path: str, value: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    for number, cell in enumerate(getattr(value, "__closure__", None) or ()):
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        yield f"{path}<{number}>", content
        if depth:
            yield from _closure(f"{path}<{number}>", content, depth - 1)


def leftovers() -> list[str]:
    """Paths under which there is a function of ours."""
    found: list[str] = []
    for path, value in _walk():
        code = getattr(value, "__code__", None)
        if code is not None and code.co_filename.startswith(OURS):
            found.append(path)
    return found
