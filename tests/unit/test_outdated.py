"""What ``make outdated`` reads, and what it finds newer."""

from __future__ import annotations

from packaging.requirements import Requirement
from packaging.version import Version

from ..outdated import behind, requirements

RELEASES = {
    "sdk": ["1.12.4", "1.30.0", "1.31.0", "2.3.0", "2.4.0rc1"],
    "done": ["1.0", "2.0"],
    "old": ["1.9", "3.0"],
    "beta": ["0.65b0", "0.66b1", "0.66b2"],
    "epochs": ["20!10.0.0", "5!11.6.0", "7!11.6.0", "5!11.7.0"],
}


def found(*required: str) -> list[tuple[str, str, str]]:
    return list(behind(map(Requirement, required), lambda name: list(map(Version, RELEASES.get(name, [])))))


def test_each_major_that_is_tested_is_compared_with_its_own_newest() -> None:
    assert found("sdk == 1.12.4", "sdk == 1.30.0", "sdk == 2.3.0", "done == 2.0", "done >= 1, < 3") == [
        ("sdk", "1.30.0", "1.31.0")
    ]


def test_a_major_that_is_not_tested_is_newer() -> None:
    assert found("sdk == 1.31.0") == [("sdk", "1.31.0", "2.3.0")]


def test_a_range_is_behind_where_the_newest_is_outside() -> None:
    assert found("old >= 1, < 2") == [("old", "<2,>=1", "3.0")]
    assert found("old >= 1, < 4") == []


def test_a_beta_is_newer_than_a_beta_and_an_epoch_is_a_build_of_one_release() -> None:
    assert found("beta == 0.66b1", "beta == 0.65b0") == [("beta", "0.66b1", "0.66b2")]
    assert found("epochs == 5!11.6.0") == [("epochs", "5!11.6.0", "7!11.6.0")]


def test_what_the_index_does_not_know_is_said() -> None:
    assert found("gone == 1.0") == [("gone", "?", "pip found no release")]


def test_requirements_are_read_as_tox_and_hatch_write_them() -> None:
    text = """
    mcp1: mcp == 1.30.0
    mcp1.12,mcp1.16: pydantic < 2.12
    !fastmcp2-!otel136: graph == 17!11.6.0; python_version >= "3.11"
    pytest >= 8
    gunicorn
deps = ruff >= 0.17, < 0.18
  "wrapt >= 1.14, < 3",
otlp = ["exporter[http] >= 1.36, < 2"]
"""
    read = {each.name: str(each.specifier) for each in requirements(text)}
    assert read == {
        "mcp": "==1.30.0",
        "pydantic": "<2.12",
        "graph": "==17!11.6.0",
        "pytest": ">=8",
        "ruff": "<0.18,>=0.17",
        "wrapt": "<3,>=1.14",
        "exporter": "<2,>=1.36",
    }
