"""Waiting for the MCP SDK: once, before its first line runs, and not at all after a change of mind."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

from opentelemetry_instrumentation_mcp.package import PACKAGES
from opentelemetry_instrumentation_mcp.patching.first_use import FirstUse


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A package to wait for instead; it notes in ``sys`` what was there when it ran."""
    name = "first_use_of_this"
    (tmp_path / f"{name}.py").write_text("import sys; saw = list(sys.first_use_events)\n")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    monkeypatch.setattr(sys, "first_use_events", [], raising=False)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def begin() -> None:
    events: list[str] = vars(sys)["first_use_events"]
    events.append("begun")


def test_it_begins_before_the_first_line_of_the_package(package: str) -> None:
    waiting = FirstUse([package], begin)
    waiting.wait()
    assert vars(sys)["first_use_events"] == []

    assert importlib.import_module(package).saw == ["begun"]

    del sys.modules[package]
    assert importlib.import_module(package).saw == ["begun"]
    waiting.cancel()


class Watching(MetaPathFinder):
    """Another tool that waits for the same package."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        self.asked.append(fullname)


def test_the_finders_of_other_tools_are_asked_as_before(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Watching()
    monkeypatch.setattr(sys, "meta_path", [other, *sys.meta_path])
    FirstUse([package], begin).wait()
    last = Watching()
    sys.meta_path.insert(1, last)

    importlib.import_module(package)

    assert package in other.asked
    assert package in last.asked


def test_it_begins_at_once_when_the_package_is_there_already(package: str) -> None:
    importlib.import_module(package)

    FirstUse([package], begin).wait()

    assert vars(sys)["first_use_events"] == ["begun"]


def test_it_does_not_begin_after_it_was_cancelled(package: str) -> None:
    waiting = FirstUse([package], begin)
    waiting.wait()

    waiting.cancel()
    waiting.cancel()

    assert importlib.import_module(package).saw == []
    assert not [finder for finder in sys.meta_path if isinstance(finder, FirstUse)]


def test_every_patched_package_of_the_sdk_is_waited_for() -> None:
    from opentelemetry_instrumentation_mcp.install import Installation  # noqa: PLC0415
    from opentelemetry_instrumentation_mcp.metrics.events import Recorder  # noqa: PLC0415

    installation = Installation(Recorder(), {})
    patched = {name.partition(".")[0] for name, _ in installation.patches()}
    installation.end()
    assert patched - {"httpcore", "httpcore2"} == set(PACKAGES)
