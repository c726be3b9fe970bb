"""What depends on the transport is a column of one table: adding a transport is a row there, and a module in ``sdk/``.

The rule is held over the syntax trees of the package. A module may name a transport, the one it is about for instance.
It may not compare with one, nor have a table or a collection of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import opentelemetry_instrumentation_mcp
from opentelemetry_instrumentation_mcp.metrics.transports import DEFAULT_PORTS, TRANSPORTS
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Transport

SOURCE: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent
TABLE: Final = "metrics/transports.py"
VALUES: Final = frozenset(each.value for each in Transport if each is not Transport.OTHER)


def branches(tree: ast.AST) -> Iterator[ast.AST]:
    """Where a module makes a difference between transports."""
    aliases = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and is_transport(node.value, set())
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        found = False
        if isinstance(node, ast.Compare):
            operands = [each for side in (node.left, *node.comparators) for each in (side, *elements(side))]
            found = any(is_transport(each, aliases) or is_value(each) for each in operands)
        elif isinstance(node, ast.Dict):
            found = any(key is not None and is_transport(key, aliases) for key in node.keys)
        elif isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            found = sum(is_transport(each, aliases) for each in node.elts) > 1
        elif isinstance(node, ast.MatchValue):
            found = is_transport(node.value, aliases) or is_value(node.value)
        if found:
            yield node


def elements(node: ast.AST) -> list[ast.expr]:
    return node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else []


def is_transport(node: ast.AST, aliases: set[str]) -> bool:
    """Whether an expression is a member of ``Transport``, or a name for one."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "Transport"
    return isinstance(node, ast.Name) and node.id in aliases


def is_value(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in VALUES


def test_every_transport_has_a_row() -> None:
    assert set(TRANSPORTS) == set(Transport)


def test_an_address_has_the_default_port_of_its_scheme() -> None:
    assert DEFAULT_PORTS == {"http": 80, "https": 443, "ws": 80, "wss": 443}


def test_no_other_module_branches_on_a_transport() -> None:
    found: list[str] = []
    for module in SOURCE.glob("**/*.py"):
        place = module.relative_to(SOURCE).as_posix()
        if place != TABLE:
            tree = ast.parse(module.read_text(encoding="utf-8"))
            found += [f"{place}:{getattr(node, 'lineno', 0)} {ast.unparse(node)[:80]}" for node in branches(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "x = transport is Transport.SSE",
        "x = link.transport in (Transport.SSE, Transport.STREAMABLE_HTTP)",
        "x = link.transport.value == 'stdio'",
        "_SSE: Final = Transport.SSE\nx = transport is not _SSE",
        "PORTS = {Transport.SSE: 80}",
        "HTTP = frozenset({Transport.SSE, Transport.STREAMABLE_HTTP})",
        "match transport:\n case Transport.SSE:\n  pass",
    ],
)
def test_the_rule_finds_a_branch(code: str) -> None:
    assert list(branches(ast.parse(code)))


@pytest.mark.parametrize("code", ["x = Link(Transport.SSE)", "x = transport or Transport.OTHER", "x = kind == 'post'"])
def test_a_module_may_name_a_transport(code: str) -> None:
    assert not list(branches(ast.parse(code)))
