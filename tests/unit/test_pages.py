"""The pages for users: variables that exist, examples that parse, links that lead somewhere."""

from __future__ import annotations

import ast
import json
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from opentelemetry.sdk import environment_variables as of_the_sdk

from opentelemetry_instrumentation_mcp.configuration import Configuration
from opentelemetry_instrumentation_mcp.core import environment_variables

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@EVERY_PAGE
def test_every_variable_on_the_page_exists(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the launcher makes flags of is what there is. Ours would choose a distro for this process.
    monkeypatch.setenv("OTEL_PYTHON_DISTRO", "mcp")
    modules = [entry_point.load() for entry_point in entry_points(group="opentelemetry_environment_variables")]
    known = {name for module in (*modules, of_the_sdk, environment_variables) for name in dir(module)}
    # The SDK's from its 1.4x releases on; the page holds for older ones as well.
    known.add("OTEL_CONFIG_FILE")
    assert set(re.findall(r"\bOTEL_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8"))) <= known


@EVERY_PAGE
def test_the_examples_on_the_page_parse(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "python"):
        ast.parse(block)


@EVERY_PAGE
def test_the_links_on_the_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_options_of_the_file_are_the_instrumentations() -> None:
    [block] = blocks(ROOT / "README.md", "yaml")
    options = set(re.findall(r"^      (\w+):", block, re.MULTILINE))
    assert options == {"enabled", *Configuration.__dataclass_fields__}
