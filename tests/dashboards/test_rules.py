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
from .scenarios import INSTANCE, SCENARIOS, Scenario, labelled, nameless

yaml: Any = pytest.importorskip("yaml")

RULE_FILES: Final = tuple(name for name in shipped() if name.endswith(".rules.yml"))
SEVERITIES: Final = ("critical", "warning", "info")
RULES: Final[list[dict[str, Any]]] = [
    rule for name in RULE_FILES for group in yaml.safe_load(shipped()[name])["groups"] for rule in group["rules"]
]
ALERTS: Final = [rule for rule in RULES if "alert" in rule]
OF_EVENTS: Final = {scenario.alert for scenario in SCENARIOS if scenario.first}


def _rule_of(scenario: Scenario) -> dict[str, Any]:
    [rule] = [
        rule for rule in ALERTS if rule["alert"] == scenario.alert and scenario.which.items() <= rule["labels"].items()
    ]
    return rule


def _name(rule: dict[str, Any]) -> str:
    return f"{rule['alert']} {rule['labels']['severity']}"


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
                {"labels": f"ALERTS{{{_told({**firing, 'job': scenario.job, **labels})}}}", "value": 1}
                for labels in scenario.fires
            ],
        }
    ]
    if scenario.first:
        # Without the value that the series was born with, there would be nothing to see.
        name, window = scenario.first
        plain = {"expr": f"increase({name}[{window}]) > 0", "eval_time": asked[0]["eval_time"]}
        asked.append({**plain, "exp_samples": []})
    values = [{"series": name, "values": values} for name, values in scenario.everything().items()]
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
    by_interval: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for scenario in SCENARIOS:
        if _rule_of(scenario) is rule:
            by_interval[scenario.often].append(_test(scenario))
    for often, tests in by_interval.items():
        content = {"rule_files": ["rules.yml"], "evaluation_interval": often, "tests": tests}
        (tmp_path / f"{often}.yml").write_text(json.dumps(content))
    tested = promtool("test", "rules", *(f"{often}.yml" for often in by_interval), directory=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.count("SUCCESS") == len(by_interval)


@pytest.mark.parametrize("by_otlp", [False, True], ids=["scraped", "by OTLP"])
@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_every_alert_has_scenarios_of_both_kinds(rule: dict[str, Any], by_otlp: bool) -> None:
    about = [scenario for scenario in SCENARIOS if _rule_of(scenario) is rule and scenario.by_otlp is by_otlp]
    # Only what is scraped can be down.
    kinds = {False} if by_otlp and rule["alert"] == "MCPTargetDown" else {True, False}
    assert {bool(scenario.fires) for scenario in about} == kinds
    # The first event ever is one, whichever way its series come.
    assert any(scenario.first for scenario in about) == (rule["alert"] in OF_EVENTS)


@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert all(rule["annotations"].values())
    assert "{{" not in rule["annotations"]["runbook"]


@pytest.mark.parametrize("named", [True, False], ids=["with names", "without"])
@pytest.mark.parametrize("rule", ALERTS, ids=_name)
def test_what_an_alert_says_can_be_read(rule: dict[str, Any], named: bool, tmp_path: Path) -> None:
    stories = [each for each in SCENARIOS if _rule_of(each) is rule and each.fires and not each.by_otlp]
    story = min(stories, key=lambda each: each.at)
    test = _test(story if named else nameless(story))
    [asked] = test.pop("promql_expr_test")[:1]
    # promtool shows the texts of alerts that nobody expects.
    unexpected: dict[str, Any] = {"eval_time": asked["eval_time"], "alertname": rule["alert"], "exp_alerts": []}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "mcp", "rules": _needed(rule)}]}))
    content: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{**test, "alert_rule_test": [unexpected]}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(content))
    shown = promtool("test", "rules", "test.yml", directory=tmp_path)
    told_texts = re.findall(r"Annotations:{(.*)}", shown.stdout + shown.stderr)
    assert told_texts, shown.stdout + shown.stderr
    for texts in told_texts:
        for text in (json.loads(each) for each in re.findall(r'"(?:[^"\\]|\\.)*"', texts)):
            # Where a template has nothing to say, two blanks meet, or one stands before a stop or at an end.
            assert not re.search(r"  | [,.:)]|\( |{{|<no value>|<error|NaN", text), text
            assert text == text.strip()
            assert rule["alert"] == "MCPLabelsFolded" or "_OTHER" not in text


def test_scenarios_have_names_of_their_own() -> None:
    names = [str(scenario) for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert INSTANCE in labelled("up")
