"""The rules: what promtool says of them, and what they do when something happens."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from opentelemetry_instrumentation_mcp.dashboards import shipped

from .promtool import promtool
from .scenarios import INSTANCE, JOB, SCENARIOS, Scenario, labelled

yaml: Any = pytest.importorskip("yaml")

RULE_FILES: Final = tuple(name for name in shipped() if name.endswith(".rules.yml"))
SEVERITIES: Final = ("critical", "warning", "info")
RULES: Final[list[dict[str, Any]]] = [
    rule for name in RULE_FILES for group in yaml.safe_load(shipped()[name])["groups"] for rule in group["rules"]
]
ALERTS: Final = [rule for rule in RULES if "alert" in rule]


def _rule_of(scenario: Scenario) -> dict[str, Any]:
    [rule] = [
        rule for rule in ALERTS if rule["alert"] == scenario.alert and scenario.which.items() <= rule["labels"].items()
    ]
    return rule


def _name(rule: dict[str, Any]) -> str:
    return " ".join((rule["alert"], rule["labels"].get("long", ""))).strip()


def _told(labels: Mapping[str, str]) -> str:
    return ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))


def _test(scenario: Scenario) -> dict[str, Any]:
    """The scenario as promtool takes it."""
    rule = _rule_of(scenario)
    firing = {"alertname": scenario.alert, "alertstate": "firing", **rule["labels"]}
    asked = [
        {
            "expr": f"ALERTS{{{_told(firing)}}}",
            "eval_time": _times(scenario.step, scenario.at),
            "exp_samples": [
                {"labels": f"ALERTS{{{_told({**firing, 'job': JOB, **labels})}}}", "value": 1}
                for labels in scenario.fires
            ],
        }
    ]
    if scenario.first:
        # Without the value that the series was born with, there would be nothing to see.
        name, window = scenario.first
        plain = {"expr": f"increase({name}[{window}]) > 0", "eval_time": asked[0]["eval_time"]}
        asked.append({**plain, "exp_samples": []})
    rest = scenario.at + 20
    context = {
        labelled("up"): scenario.up if "x" in scenario.up else f"{scenario.up}x{rest}",
        labelled("process_start_time_seconds"): f"{scenario.started}x{rest}",
    }
    values = [{"series": name, "values": values} for name, values in {**context, **scenario.series}.items()]
    return {"interval": scenario.step, "name": str(scenario), "input_series": values, "promql_expr_test": asked}


def _times(step: str, count: int) -> str:
    return f"{int(step[:-1]) * count}{step[-1]}"


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    for name in RULE_FILES:
        (tmp_path / Path(name).name).write_text(shipped()[name])
    checked = promtool("check", "rules", *(Path(name).name for name in RULE_FILES), directory=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("SUCCESS") == len(RULE_FILES)


def _needed(alert: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules an alert stands on, in their order, and itself."""
    wanted = [alert]
    for rule in reversed(RULES):
        if "record" in rule and any(re.search(rf"{rule['record']}\b", other["expr"]) for other in wanted):
            wanted.insert(0, rule)
    return wanted


@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_it_fires_when_it_must_and_only_then(rule: dict[str, Any], tmp_path: Path) -> None:
    group = {"name": "mcp", "rules": _needed(rule)}
    # JSON is YAML.
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [group]}))
    by_step: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for scenario in SCENARIOS:
        if _rule_of(scenario) is rule:
            by_step[scenario.step].append(_test(scenario))
    for step, tests in by_step.items():
        # As often as a story needs it; in three days there would be a lot to evaluate.
        often = "1m" if step == "60s" else "10m" if rule["labels"].get("long") == "3d" else "5m"
        content = {"rule_files": ["rules.yml"], "evaluation_interval": often, "tests": tests}
        (tmp_path / f"{step}.yml").write_text(json.dumps(content))
    tested = promtool("test", "rules", *(f"{step}.yml" for step in by_step), directory=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.count("SUCCESS") == len(by_step)


@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_every_alert_has_scenarios_of_both_kinds(rule: dict[str, Any]) -> None:
    about = [scenario for scenario in SCENARIOS if _rule_of(scenario) is rule]
    assert {bool(scenario.fires) for scenario in about} == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert all(rule["annotations"].values())
    assert "{{" not in rule["annotations"]["runbook"]


def test_scenarios_have_names_of_their_own() -> None:
    names = [str(scenario) for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert INSTANCE in labelled("up")
