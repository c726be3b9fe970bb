"""A bug of ours costs a metric: whichever function fails, or dawdles, calls end as before and one line tells.

The functions are found in the source of the package (:mod:`.injection`), and those that a scenario calls are made to
raise, one at a time, in running servers and clients (:mod:`.faults`), in a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from ..sdk.generation import V2
from ..sdk.setups import HERE

# Whichever test comes first waits for all of it.
pytestmark = pytest.mark.timeout(1260)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of everything, and the bytes on stdout."""
    path = tmp_path_factory.mktemp("faults") / "report.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(HERE.parent.parent)
    command = [sys.executable, "-W", "ignore", "-m", "tests.robust.faults", str(path)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=1200)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(path.read_text()) | {"stdout": done.stdout.decode()}


def test_most_functions_are_called_in_some_scenario(report: dict[str, Any]) -> None:
    """What belongs to the other generation, to fork or to fastmcp is not; the rest has to be."""
    chains = ("sdk.interceptors.chain", "sdk.interceptors.passage")
    others = ("sdk.v1.",) if V2 else ("sdk.v2.", *chains)
    known = [name for name in report["known"] if not name.startswith((*others, "sdk.interceptors.fastmcp"))]
    assert len(report["where"]) > 350
    # The wrappers, which are hotter than anything else: functions inside functions.
    inside = {name for name in report["where"] if name.partition(":")[2].count(".") == 1}
    assert {"sdk.v2.dispatcher:_dispatch._dispatch", "sdk.sizes:_dump.model_dump_json"} <= inside or not V2
    assert len(report["where"]) > 0.75 * len(known), sorted(set(known) - report["where"].keys())
    assert not [name for name, each in report["expected"].items() if each["raised"] or each["log"]]
    assert all(each["results"] for each in report["expected"].values())


def test_whichever_function_fails_the_calls_end_as_before(report: dict[str, Any]) -> None:
    expected = report["expected"]
    differ = {
        name: (each["scenario"], each["raised"], each["log"], each["results"], expected[each["scenario"]]["results"])
        for name, each in report["failed"].items()
    }
    assert differ == {}


def test_whichever_function_fails_a_line_tells_and_no_line_twice(report: dict[str, Any]) -> None:
    lines: dict[str, list[str]] = report["lines"]
    called = {name for name, count in report["hits"].items() if count}
    assert len(called) > 0.95 * len(lines)
    assert sorted(name for name in called if not lines[name]) == []
    assert {name: told for name, told in lines.items() if len(set(told)) != len(told)} == {}
    others = {name: [line for line in told if "Injected" not in line] for name, told in lines.items()}
    assert {name: told for name, told in others.items() if told} == {}


@pytest.mark.parametrize("how", ["together", "slow"])
def test_calls_end_as_before_when_everything_fails_or_dawdles(how: str, report: dict[str, Any]) -> None:
    differ = {
        name: (each["raised"], each["log"][:3])
        for name, each in report[how].items()
        if each["raised"] or each["results"] != report["expected"][name]["results"]
    }
    assert differ == {}
    assert how == "slow" or all(each["log"] for each in report[how].values())


def test_nothing_is_written_to_stdout(report: dict[str, Any]) -> None:
    assert report["stdout"] == ""
