"""What the pages say of dashboards and rules is what there is, and metrics have the names of the catalogue."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards.asking import FILES
from opentelemetry_instrumentation_mcp.dashboards import shipped

from .shapes import SAMPLES

yaml: Any = pytest.importorskip("yaml")

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
RULES: Final[list[dict[str, Any]]] = [
    rule
    for name, text in shipped().items()
    if name.endswith(".rules.yml")
    for group in yaml.safe_load(text)["groups"]
    for rule in group["rules"]
]


def _section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_page_has_every_alert_with_its_severities() -> None:
    severities: dict[str, list[str]] = {}
    for rule in RULES:
        if "alert" in rule and rule["labels"]["severity"] not in severities.setdefault(rule["alert"], []):
            severities[rule["alert"]].append(rule["labels"]["severity"])
    documented = dict(re.findall(r"^\| `(MCP\w+)` \| ([a-z, ]+) \|", _section("Alerts"), re.MULTILINE))
    assert documented == {name: ", ".join(found) for name, found in severities.items()}


def test_the_page_has_every_recorded_series() -> None:
    documented: set[str] = set()
    for cell in re.findall(r"^\| (`mcp:[^|]+`) \|", _section("Recorded series"), re.MULTILINE):
        name = ""
        for each in re.findall(r"`([^`]+)`", cell):
            # A window alone stands for the name before it with that window.
            name = each if ":" in each else re.sub(r"\d+[mhd]$", each, name)
            documented.add(name)
    assert documented == {rule["record"] for rule in RULES if "record" in rule}


def test_the_page_has_every_row() -> None:
    rows = {
        panel["title"] for file in FILES for panel in json.loads(shipped()[file])["panels"] if panel["type"] == "row"
    }
    documented = re.findall(r"^\| ([A-Z][\w ]+?)(?: \((?:server|client)\))? \|", _section("What the rows answer"), re.M)
    assert set(documented) == rows


def test_panels_the_page_names_are_there() -> None:
    titles = {
        title
        for file in FILES
        for panel in json.loads(shipped()[file])["panels"]
        for title in (panel["title"], *(each["title"] for each in panel.get("panels", ())))
    }
    boards = {json.loads(shipped()[file])["title"] for file in FILES}
    assert set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", " ".join(PAGE.split()))) <= titles | boards


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "examples/monitoring.py",
        "examples/demo.py",
        *(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
    ],
)
def test_metrics_have_the_names_of_the_catalogue(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    families = {name.removesuffix("_count") for name in SAMPLES}
    labels = {"mcp_role", "mcp_transport", "mcp_direction", "mcp_server_name", "mcp_method_name", "mcp_session_mode"}
    # The instrumentor, and a variable of the demo.
    others = labels | {"mcp_protocol_version", "mcp_sdk", "mcp_port"}
    told = set(re.findall(r"(?<![\w./-])mcp_\w+(?!\w|[*:/.])", text))
    assert {name for name in told if not name.endswith("_")} <= families | set(SAMPLES) | others


@pytest.mark.parametrize("file", ["README.md", "docs/dashboards.md"])
def test_pictures_are_there_and_small(file: str) -> None:
    path = ROOT / file
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+\.svg)\)", path.read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        text = (path.parent / picture).read_text(encoding="utf-8")
        assert text.startswith("<svg ")
        assert len(text) < 200_000
