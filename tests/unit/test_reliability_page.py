from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (_ROOT / "docs" / "reliability.md").read_text())


def test_the_page_names_its_tests() -> None:
    assert len(_NAMED) > 20
    # And leaves out none of those that keep its promises.
    told = {path for path, _ in _NAMED}
    assert {f"tests/robust/{path.name}" for path in (_ROOT / "tests" / "robust").glob("test_*.py")} <= told


@pytest.mark.parametrize(("path", "name"), _NAMED)
def test_each_of_them_exists(path: str, name: str) -> None:
    tree = ast.parse((_ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
