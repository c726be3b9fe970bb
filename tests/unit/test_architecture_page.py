"""docs/architecture.md and its picture are what ``docs/architecture.py`` makes of the code."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast
from xml.etree import ElementTree

import pytest

import opentelemetry_instrumentation_mcp

_DOCS: Final = Path(__file__).parents[2] / "docs"
_SCRIPT: Final[dict[str, Any]] = runpy.run_path(str(_DOCS / "architecture.py"))
_UPDATED = cast("Callable[[str], str]", _SCRIPT["updated"])
_PICTURE = cast("Callable[[], str]", _SCRIPT["picture"])
_PAGE: Final = (_DOCS / "architecture.md").read_text(encoding="utf-8")
_METRICS: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent / "metrics"
_RUN: Final = "run `python docs/architecture.py`"


def test_the_table_of_modules_is_up_to_date() -> None:
    assert _UPDATED(_PAGE) == _PAGE, f"docs/architecture.md is out of date: {_RUN}"


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="modules"):
        _UPDATED(_PAGE.replace("<!-- end modules -->", ""))


def test_the_picture_is_up_to_date() -> None:
    assert (_DOCS / "architecture.svg").read_text(encoding="utf-8") == _PICTURE(), f"the picture is out of date: {_RUN}"


def test_the_picture_is_on_the_page_and_can_be_drawn() -> None:
    assert "(architecture.svg)" in _PAGE
    texts = [each.text for each in ElementTree.fromstring(_PICTURE()).iter("{http://www.w3.org/2000/svg}text")]
    assert {f"metrics/{name}" for name in ("events.py", "store/", "buffers/")} <= set(texts)


def test_every_module_and_every_name_that_the_page_mentions_is_there() -> None:
    mentioned = set(re.findall(r"`(?:metrics/)?((?:store/|buffers/)?\w+\.py)`", _PAGE))
    assert len(mentioned) > 20
    assert {name for name in mentioned if not (_METRICS / name).is_file()} == set()
    connection = (_METRICS / "store" / "connection.py").read_text(encoding="utf-8")
    assert re.search(r"class Request:.*?\n    def end\(", connection, re.DOTALL)
    assert "def successor(" in (_METRICS / "events.py").read_text(encoding="utf-8")
