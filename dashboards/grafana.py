"""From the rows of a dashboard to Grafana's JSON, by the builders of Grafana's own foundation SDK."""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label

from .panels import Kind, Panel, Query, Row, Unit
from .promql import PRESENCE, Source, processes

DATA_SOURCE: Final = models.DataSourceRef("prometheus", "${datasource}")
EVERYTHING: Final = ".+"
EVERYTHING_OR_NOTHING: Final = ".*"
"""What "All" means for a label that not every series has."""

_Builder = stat.Panel | timeseries.Panel | bargauge.Panel | table.Panel | heatmap.Panel


@dataclass(frozen=True)
class Variable:
    """A variable that filters by an attribute.

    Attributes:
        name: Its name in queries.
        title: Its name on the screen.
        label: The Prometheus label.
        series: The selector of the series whose values are offered; for a closed set of values, nothing.
        values: The closed set.
        chosen: What is chosen at first; nothing is all.
    """

    name: str
    title: str
    label: str
    series: str = ""
    values: tuple[str, ...] = ()
    chosen: str = ""


@dataclass(frozen=True)
class Dashboard:
    """A whole dashboard.

    Attributes:
        uid: Its address in Grafana, for ever.
        title: Its title.
        description: What it is for.
        variables: What it can be filtered by, after the data source, in this order.
        rows: What it shows.
        others: Titles and uids of the dashboards it leads to.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    others: Mapping[str, str]


def to_json(dashboard: Dashboard) -> str:
    """The file to import."""
    return json.dumps(_built(dashboard), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def panel_id(dashboard: str, title: str) -> int:
    """The same for ever, wherever the panel stands: links to it and alerts on it keep working."""
    return zlib.crc32(f"{dashboard}/{title}".encode()) % 1_000_000 + 1


def _built(dashboard: Dashboard) -> models.Dashboard:
    built = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags(["mcp", "opentelemetry"])
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in dashboard.variables:
        built = built.with_variable(_variable(variable))
    for title, uid in dashboard.others.items():
        shared = "&".join(f"${{{name}:queryparam}}" for name in ("datasource", "job", "instance"))
        link = builders.DashboardLink(title).type(models.DashboardLinkType.LINK).icon("dashboard")
        built = built.link(link.url(f"/d/{uid}?{shared}").keep_time(True))
    resource = built.build()
    resource.annotations = models.AnnotationContainer(list(_annotations()))
    resource.panels = []
    below = 0
    for row in dashboard.rows:
        head = builders.Row(row.title).id(panel_id(dashboard.uid, f"row {row.title}")).collapsed(row.collapsed)
        head_resource = head.grid_pos(models.GridPos(h=1, w=24, x=0, y=below)).build()
        resource.panels.append(head_resource)
        panels, after = _placed(dashboard, row.panels, below + 1)
        if row.collapsed:
            # What comes next is next to the closed row; Grafana makes room when somebody opens it.
            head_resource.panels, below = panels, below + 1
        else:
            resource.panels.extend(panels)
            below = after
    return resource


def _placed(dashboard: Dashboard, panels: Sequence[Panel], top: int) -> tuple[list[models.Panel], int]:
    """The panels from left to right, line by line, and the line after them."""
    placed: list[models.Panel] = []
    left = height = 0
    for panel in panels:
        if left + panel.width > 24:
            left, top, height = 0, top + height, 0
        builder = _panel(dashboard, panel).id(panel_id(dashboard.uid, panel.title))
        placed.append(builder.grid_pos(models.GridPos(h=panel.height, w=panel.width, x=left, y=top)).build())
        left, height = left + panel.width, max(height, panel.height)
    return placed, top + height


def _variable(variable: Variable) -> builders.QueryVariable | builders.CustomVariable:
    everything = models.VariableOption(True, "All", "$__all")
    if variable.values:
        options = [models.VariableOption(value == variable.chosen, value, value) for value in variable.values]
        chosen = next((option for option in options if option.selected), everything)
        return (
            builders.CustomVariable(variable.name)
            .label(variable.title)
            .values(",".join(variable.values))
            .options([models.VariableOption(chosen is everything, "All", "$__all"), *options])
            .current(chosen)
            .include_all(True)
            .all_value(EVERYTHING_OR_NOTHING)
        )
    required = variable.name in ("job", "instance")
    return (
        builders.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(DATA_SOURCE)
        .query(f"label_values({variable.series}, {variable.label})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(EVERYTHING if required else EVERYTHING_OR_NOTHING)
        .current(everything)
    )


class Marks(models.AnnotationQuery):
    """An annotation with the fields of Grafana's Prometheus data source, which the foundation SDK does not have.

    Attributes:
        title_format: The title of a mark, with ``{{label}}`` for labels; a label that is missing shows its own name.
        text_format: The text below it.
        tag_keys: The labels whose values are the tags.
    """

    def __init__(self, title_format: str = "", text_format: str = "", tag_keys: str = "", **others: Any) -> None:
        super().__init__(**others)
        self.title_format, self.text_format, self.tag_keys = title_format, text_format, tag_keys

    def to_json(self) -> dict[str, object]:
        texts = {"titleFormat": self.title_format, "textFormat": self.text_format, "tagKeys": self.tag_keys}
        return {**super().to_json(), **texts}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Marks:
        known = vars(models.AnnotationQuery.from_json(data))
        return cls(data["titleFormat"], data["textFormat"], data["tagKeys"], **known)


def _annotations() -> list[Marks]:
    ours = Source(('job=~"$job"', 'instance=~"$instance"'))
    present = ours.select(PRESENCE)
    at = ours.named("process_start_time_seconds")
    # What is sent by OTLP says no start: it is new if it was not there a minute ago.
    started = (
        f"max by (job, instance) ({at} > time() - 60 and on (job, instance) {present})"
        f" or {processes(f'{present} unless {present} offset 1m unless on (job, instance) {at}')}"
    )
    firing = Source(('job=~"$job"',)).named("ALERTS", 'alertname=~"MCP.+"', 'alertstate="firing"')
    # A tag that an alert does not have is left out.
    about = ("severity", *map(prometheus_label, (c.ROLE, c.SERVER_NAME, c.TOOL, c.REASON, c.ERROR_TYPE)), "instance")
    return [
        _marks("Process started", "blue", started, "{{instance}} started", "Job {{job}}", ("job",)),
        _marks("Alert firing", "red", firing, "{{alertname}}", "{{severity}}, job {{job}}", about),
    ]


def _marks(name: str, color: str, expression: str, title: str, text: str, tags: Sequence[str]) -> Marks:
    return Marks(title, text, ",".join(tags), name=name, datasource=DATA_SOURCE, icon_color=color, expr=expression)


def _panel(dashboard: Dashboard, panel: Panel) -> _Builder:
    builder: _Builder
    if panel.kind is Kind.STAT:
        builder = _stat()
    elif panel.kind is Kind.TIME:
        builder = _time(panel)
    elif panel.kind is Kind.BARS:
        builder = _bars()
    elif panel.kind is Kind.HEATMAP:
        # A panel's unit is that of its buckets; what is in the cells is a rate.
        builder = (
            heatmap.Panel()
            .calculate(False)
            .y_axis(heatmap.YAxisConfig().unit(panel.unit.value))
            .cell_values(heatmap.CellValues().unit(Unit.REQUESTS_PER_SECOND.value))
            .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        )
    else:
        builder = _table(panel)
    builder = builder.title(panel.title).description(panel.description).datasource(DATA_SOURCE)
    unit = Unit.REQUESTS_PER_SECOND if panel.kind is Kind.HEATMAP else panel.unit
    builder = builder.unit(unit.value).no_value(panel.empty)
    for name, query in zip(string.ascii_uppercase, panel.queries, strict=False):
        builder = builder.with_target(_target(panel, query, name))
    if not isinstance(builder, heatmap.Panel):
        builder = builder.thresholds(_levels(panel.levels))
        if panel.kind is not Kind.TABLE:
            builder = builder.min(0)
        if panel.highest is not None:
            builder = builder.max(panel.highest)
        for name, color in panel.colors.items():
            fixed = {"mode": models.FieldColorModeId.FIXED.value, "fixedColor": color}
            builder = builder.override_by_name(name, [models.DynamicConfigValue("color", fixed)])
        for query in panel.queries:
            if query.right:
                right = models.DynamicConfigValue("custom.axisPlacement", shapes.AxisPlacement.RIGHT.value)
                builder = builder.override_by_name(query.name, [right])
    if panel.link:
        builder = builder.data_links([_filter_by(dashboard, panel)])
    return builder


def _target(panel: Panel, query: Query, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(name).expr(query.expression).datasource(DATA_SOURCE)
    target = target.legend_format(query.name)
    if panel.kind is Kind.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    if panel.kind is Kind.BARS or (panel.kind is Kind.STAT and "$__range" in query.expression):
        return target.instant()
    if panel.kind is Kind.HEATMAP:
        return target.range().format(PromQueryFormat.HEATMAP)
    return target.range()


def _levels(levels: Mapping[float, str]) -> builders.ThresholdsConfig:
    steps = [models.Threshold(None, "green"), *(models.Threshold(value, color) for value, color in levels.items())]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _stat() -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_last())
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _time(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).display_mode(shapes.LegendDisplayMode.TABLE)
    legend = legend.placement(shapes.LegendPlacement.BOTTOM).calcs(["mean", "max", "lastNotNull"])
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING)
    mode = shapes.StackingMode.NORMAL if panel.stacked else shapes.StackingMode.NONE
    return (
        timeseries.Panel()
        .legend(legend)
        .tooltip(tooltip)
        .draw_style(shapes.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(25 if panel.stacked else 8)
        .show_points(shapes.VisibilityMode.AUTO)
        .stacking(common.StackingConfig().mode(mode).group("A"))
        .color_scheme(builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    )


def _bars() -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_last())
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .value_mode(shapes.BarGaugeValueMode.TEXT)
        .show_unfilled(True)
    )


def _table(panel: Panel) -> table.Panel:
    """Queries become columns; one column per key tells the rows apart."""
    keys = {prometheus_label(attribute): title for attribute, title in panel.keys.items()}
    titles = {f"Value #{ref}": query.name for ref, query in zip(string.ascii_uppercase, panel.queries, strict=False)}
    order = {name: place for place, name in enumerate((*keys, *titles))}
    # The column of a single query has no letter.
    alone = {"Value": panel.queries[0].name} if len(panel.queries) == 1 else {}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**keys, **titles, **alone}}
    builder = (
        table.Panel()
        .transformations(
            [
                models.DataTransformerConfig("merge", options={}),
                models.DataTransformerConfig("organize", options=organize),
            ]
        )
        .cell_height(shapes.TableCellHeight.SM)
        .filterable(True)
    )
    if panel.sort:
        builder = builder.sort_by([common.TableSortByFieldState().display_name(panel.sort).desc(True)])
    for query in panel.queries:
        if query.unit is not None:
            unit = models.DynamicConfigValue("unit", query.unit.value)
            builder = builder.override_by_name(query.name, [unit])
    return builder


def _filter_by(dashboard: Dashboard, panel: Panel) -> builders.DashboardLink:
    variable = next(each for each in dashboard.variables if each.label == prometheus_label(panel.link))
    title = panel.keys.get(panel.link, variable.title)
    value = f'${{__data.fields["{title}"]}}' if panel.kind is Kind.TABLE else f"${{__field.labels.{variable.label}}}"
    kept = [each.name for each in dashboard.variables if each is not variable]
    parameters = "&".join(f"${{{name}:queryparam}}" for name in ("datasource", *kept))
    url = f"/d/{dashboard.uid}?{parameters}&var-{variable.name}={value}&${{__url_time_range}}"
    return builders.DashboardLink(f"Only this {variable.title.lower()}").url(url)


def round_trip(text: str) -> str:
    """A file as Grafana's types read and write it: what they do not know is gone."""
    data = cast("dict[str, Any]", json.loads(text))
    read = models.Dashboard.from_json(data)
    read.annotations = models.AnnotationContainer([Marks.from_json(each) for each in data["annotations"]["list"]])
    return json.dumps(read, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
