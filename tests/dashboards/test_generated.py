"""The files in the package are what the generator makes, speak of what there is, and are what Grafana takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from dashboards.asking import FILES, filled, panels_of, queries, variables
from opentelemetry_instrumentation_mcp.dashboards import shipped
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE, Metric
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_samples

from .promtool import promtool
from .shapes import OF_PROMETHEUS, SAMPLES, groupings_of, labels_of, series_of

yaml: Any = pytest.importorskip("yaml")

DASHBOARDS: Final[dict[str, dict[str, Any]]] = {name: json.loads(shipped()[name]) for name in FILES}
RULES: Final[list[dict[str, Any]]] = [
    rule
    for name, text in shipped().items()
    if name.endswith(".rules.yml")
    for group in yaml.safe_load(text)["groups"]
    for rule in group["rules"]
]
RECORDED: Final = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}


def _expressions() -> dict[str, str]:
    """Every expression of the package, by where it stands."""
    found = {str(query): query.expression for query in queries()}
    for file, dashboard in DASHBOARDS.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found[f"{file} ${variable['name']}"] = variable["query"]
        for annotation in dashboard["annotations"]["list"]:
            found[f"{file} {annotation['name']}"] = annotation["expr"]
    for number, rule in enumerate(RULES):
        found[f"rule {number} {rule.get('record') or rule['alert']}"] = rule["expr"]
    return found


EXPRESSIONS: Final = _expressions()

ASKED: Final = {name for query in queries() for name, _ in series_of(query.expression)}


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pytest.importorskip("grafana_foundation_sdk", reason="it needs Python 3.11")
    from dashboards.files import generated  # noqa: PLC0415 (not without the SDK)

    return generated()


def test_the_files_are_what_the_generator_makes(generated: dict[str, str]) -> None:
    stale = [name for name, text in generated.items() if shipped().get(name) != text]
    assert stale == [], "out of date: run `python -m dashboards`"


def test_making_them_twice_makes_the_same(generated: dict[str, str]) -> None:
    from dashboards.files import generated as again  # noqa: PLC0415 (not without the SDK)

    assert again() == generated


@pytest.mark.parametrize("file", FILES)
def test_grafanas_types_know_everything_in_a_dashboard(file: str, generated: dict[str, str]) -> None:
    from dashboards.grafana import round_trip  # noqa: PLC0415 (not without the SDK)

    assert round_trip(generated[file]) == generated[file]


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_is_on_a_dashboard(metric: Metric) -> None:
    assert ASKED & set(prometheus_samples(metric))


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_an_expression_speaks_of_metrics_and_labels_that_there_are(place: str) -> None:
    expression = EXPRESSIONS[place].replace("label_values(", "(")
    known: set[str] = set()
    series = list(series_of(re.sub(r", \w+\)$", ")", expression)))
    assert series
    for name, matched in series:
        assert name in {*SAMPLES, *OF_PROMETHEUS, *RECORDED}, name
        labels = _labels(name)
        assert matched <= labels, (name, matched - labels)
        known |= labels
    assert groupings_of(expression) <= known


def _labels(name: str) -> set[str]:
    if name in SAMPLES:
        return labels_of(SAMPLES[name])
    if name in OF_PROMETHEUS:
        return OF_PROMETHEUS[name]
    # A recorded series has the labels of what it is made of, at most.
    return {label for each, _ in series_of(RECORDED[name]) for label in _labels(each)}


def test_the_check_of_names_sees_a_wrong_one() -> None:
    expression = 'sum by (status) (rate(mcp_request_total{state=~"ok"}[5m])) / mcp_requests_total{mcp_role="server"}'
    assert list(series_of(expression)) == [("mcp_request_total", {"state"}), ("mcp_requests_total", {"mcp_role"})]
    assert groupings_of(expression) == {"status"}


def test_promtool_parses_every_query(tmp_path: Path) -> None:
    given = dict(zip((json.loads(shipped()[file])["uid"] for file in FILES), map(variables, FILES), strict=True))
    rules = [
        {
            "record": f"q{number}",
            "expr": filled(query.expression, given[query.dashboard], seconds=3600, rate_interval=60),
        }
        for number, query in enumerate(queries())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", "rules.yml", directory=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    for name, text in shipped().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    checked = promtool("check", "config", "prometheus.yml", directory=tmp_path / "prometheus")
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- What a linter of dashboards looks for ---------------------------------------------------------------------------

PANELS: Final = [(file, panel) for file, dashboard in DASHBOARDS.items() for panel in panels_of(dashboard)]
panels = pytest.mark.parametrize(
    ("file", "panel"), PANELS, ids=[f"{file.split('/')[1]} {panel['title']}" for file, panel in PANELS]
)
dashboards = pytest.mark.parametrize(("file", "dashboard"), DASHBOARDS.items(), ids=FILES)


def _all(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


@panels
def test_a_panel_says_what_it_shows_in_which_unit_and_what_nothing_means(file: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@panels
def test_a_query_has_a_name_and_a_legend_and_the_data_source(file: str, panel: dict[str, Any]) -> None:
    targets = panel["targets"]
    assert len({target["refId"] for target in targets}) == len(targets) > 0
    for target in targets:
        assert target["legendFormat"]
        assert target["datasource"] == panel["datasource"]
        # Legends are of labels that the answer has.
        told = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert told <= groupings_of(target["expr"])


@panels
def test_a_query_is_filtered_by_job_and_instance_and_by_all_else_its_metric_has(
    file: str, panel: dict[str, Any]
) -> None:
    by_label = {"mcp_role": "role", "mcp_direction": "direction", "mcp_transport": "transport"} | {
        "mcp_server_name": "server",
        "mcp_method_name": "method",
        "gen_ai_tool_name": "tool",
    }
    for target in panel["targets"]:
        for name, matched in series_of(target["expr"]):
            if name in SAMPLES:
                assert matched >= {"job", "instance"} | (labels_of(SAMPLES[name]) & set(by_label)), name
            else:
                assert "job" in matched


@panels
def test_a_window_is_one_that_grafana_chooses(file: str, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert set(re.findall(r"\[([^\]]+)\]", target["expr"])) <= {"$__rate_interval", "$__range"}


@dashboards
def test_a_dashboard_can_be_imported_as_it_is(file: str, dashboard: dict[str, Any]) -> None:
    # With an input Grafana would ask; a number is of the Grafana that gave it.
    assert "__inputs" not in dashboard
    assert "id" not in dashboard
    assert dashboard["uid"] == Path(file).stem
    kinds = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert list(kinds) == [
        "datasource",
        "job",
        "instance",
        "role",
        "direction",
        "server",
        "transport",
        "method",
        "tool",
    ]
    assert kinds["datasource"] == "datasource"
    used = set(re.findall(r"\$(\w+)", json.dumps([panel["targets"] for panel in panels_of(dashboard)])))
    assert {name for name in used if not name.startswith("__")} == set(kinds) - {"datasource"}


@dashboards
def test_no_two_panels_have_an_id_or_a_place_in_common(file: str, dashboard: dict[str, Any]) -> None:
    panels = list(_all(dashboard))
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for level in (dashboard["panels"], *(panel.get("panels", []) for panel in dashboard["panels"])):
        taken: set[tuple[int, int]] = set()
        for panel in level:
            grid = panel["gridPos"]
            cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
            assert grid["x"] + grid["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


@dashboards
def test_a_mark_in_the_graphs_says_what_it_is(file: str, dashboard: dict[str, Any]) -> None:
    marks = {each["name"]: each for each in dashboard["annotations"]["list"]}
    assert set(marks) == {"Process started", "Alert firing"}
    # Every rule has these; a label that is missing would show its own name.
    everywhere = {"alertname", "severity", "job"}
    for name, mark in marks.items():
        known = everywhere if name == "Alert firing" else groupings_of(mark["expr"])
        for text in (mark["titleFormat"], mark["textFormat"]):
            told = set(re.findall(r"{{(\w+)}}", text))
            assert told
            assert told <= known
        assert all(mark["tagKeys"].split(","))
    labels = {label for metric in CATALOGUE for label in labels_of(metric)}
    assert set(marks["Alert firing"]["tagKeys"].split(",")) <= {"severity", *labels}


@dashboards
def test_a_heat_map_has_a_unit_for_its_buckets_and_another_for_its_cells(file: str, dashboard: dict[str, Any]) -> None:
    maps = [panel for panel in panels_of(dashboard) if panel["type"] == "heatmap"]
    assert maps
    for panel in maps:
        assert panel["options"]["yAxis"]["unit"] == "s"
        assert panel["options"]["cellValues"]["unit"] == panel["fieldConfig"]["defaults"]["unit"] == "reqps"


# These are in links and alerts that others have made. A changed number breaks them.
IDS: Final = {
    ("mcp-server", "Failed requests"): 721329,
    ("mcp-server", "p95 by tool"): 865014,
    ("mcp-client", "Servers by name"): 282324,
}


@pytest.mark.parametrize(("dashboard", "title"), IDS)
def test_the_ids_of_panels_stay(dashboard: str, title: str) -> None:
    [panel] = [each for file, each in PANELS if dashboard in file and each["title"] == title]
    assert panel["id"] == IDS[dashboard, title]


@dashboards
def test_links_lead_to_dashboards_that_there_are(file: str, dashboard: dict[str, Any]) -> None:
    uids = {each["uid"] for each in DASHBOARDS.values()}
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    links = [
        link["url"] for panel in panels_of(dashboard) for link in panel["fieldConfig"]["defaults"].get("links", ())
    ]
    assert links
    for url in (*links, *(link["url"] for link in dashboard["links"])):
        found = re.match(r"/d/([\w-]+)\?", url)
        assert found is not None
        assert found[1] in uids
        assert set(re.findall(r"\$\{(\w+):queryparam\}", url)) | set(re.findall(r"var-(\w+)=", url)) <= names
