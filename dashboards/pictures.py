"""Draws what the dashboards show of the demo, from a real Prometheus' answers to the panels' own queries.

    make pictures

runs the demo with its Prometheus for some minutes and writes ``docs/dashboard-*.svg``. ``--prometheus URL`` draws what
another Prometheus knows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from opentelemetry_instrumentation_mcp.dashboards import shipped

from .asking import Answered, PanelQuery, Prometheus, filled, queries_of, variables
from .svg import BACKGROUND, COLORS, Box, Curve, Format, Picture

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = {
    "server": ("grafana/mcp-server.json", ("Overview",)),
    "tools": ("grafana/mcp-server.json", ("Methods and tools",)),
    "client": ("grafana/mcp-client.json", ("Overview", "Servers", "Client pool")),
}
WIDTH: Final = 1200
UNIT_HEIGHT: Final = 30
GAP: Final = 6
STEP_SECONDS: Final = 5
RATE_INTERVAL_SECONDS: Final = 30
DEMO_START_SECONDS: Final = 180


class Painter:
    """Draws panels of a dashboard as they were in the last ``seconds``."""

    def __init__(self, prometheus: Prometheus, file: str, now: float, seconds: int) -> None:
        self._prometheus = prometheus
        self._values = variables(file)
        self._now, self._seconds = now, seconds
        self._dashboard: dict[str, Any] = json.loads(shipped()[file])

    def draw(self, rows: Sequence[str]) -> Picture:
        """The rows with these titles."""
        chosen = [(title, self._panels(title)) for title in rows]
        heights = [max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) - _top(panels) for _, panels in chosen]
        picture = Picture(WIDTH, sum(heights) * UNIT_HEIGHT + len(rows) * 24 + GAP)
        picture.rectangle(Box(0, 0, picture.width, picture.height), BACKGROUND)
        y = 0.0
        for (title, panels), height in zip(chosen, heights, strict=True):
            picture.row(y, title)
            for panel in panels:
                self._panel(picture, panel, y + 24 - _top(panels) * UNIT_HEIGHT)
            y += 24 + height * UNIT_HEIGHT
        return picture

    def _panels(self, title: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        inside = False
        for panel in self._dashboard["panels"]:
            if panel["type"] == "row":
                inside = panel["title"] == title
                found += panel["panels"] if inside else []
            elif inside:
                found.append(panel)
        return found

    def _ask(self, query: PanelQuery, instant: bool) -> list[Answered]:
        given = {"seconds": self._seconds, "rate_interval": RATE_INTERVAL_SECONDS}
        expression = filled(query.expression, self._values, **given)
        if instant:
            return self._prometheus.instant(expression, self._now)
        return self._prometheus.over(expression, self._now - self._seconds, self._now, STEP_SECONDS)

    def _panel(self, picture: Picture, panel: dict[str, Any], offset: float) -> None:
        grid, column = panel["gridPos"], WIDTH / 24
        outer = Box(grid["x"] * column, grid["y"] * UNIT_HEIGHT + offset, grid["w"] * column, grid["h"] * UNIT_HEIGHT)
        box = picture.frame(outer.inside(GAP / 2, GAP / 2, GAP / 2, GAP / 2), panel["title"])
        defaults = panel["fieldConfig"]["defaults"]
        kind, form = panel["type"], form_of(defaults["unit"])
        asked = list(queries_of(self._dashboard["uid"], panel))
        answers = [(query, self._ask(query, query.instant)) for query in asked]
        if not any(found for _, found in answers):
            picture.nothing(box, defaults["noValue"])
        elif kind == "stat":
            query, [answer, *_] = answers[0]
            value = answer.values[-1]
            history = None if query.instant else Curve("", answer.times, answer.values)
            picture.number(box, value, form, _level(defaults, value), history)
        elif kind == "timeseries":
            stacked = defaults["custom"]["stacking"]["mode"] == "normal"
            fixed = _fixed(panel)
            curves = [
                self._curve(_legend(query.name, each.labels), each, stacked, fixed)
                for query, found in answers
                for each in found
            ]
            span = (self._now - self._seconds, self._now)
            picture.lines(box, curves, form, span, stacked=stacked, highest=defaults.get("max"))
        elif kind == "bargauge":
            values = [(_legend(query.name, each.labels), each.values[-1]) for query, found in answers for each in found]
            values.sort(key=lambda each: -each[1])
            picture.bars(box, values, form, _fixed(panel), defaults.get("max"))
        elif kind == "heatmap":
            picture.heat(box, _columns(answers[0][1]), form_of(panel["options"]["yAxis"]["unit"]))
        else:
            self._table(picture, box, panel, answers)

    def _curve(self, name: str, answer: Answered, stacked: bool, fixed: dict[str, str]) -> Curve:
        """A line; where it is stacked it has a value at every moment."""
        color = fixed.get(name, "")
        right = fixed.get(f"axis of {name}", "") == "right"
        if not stacked:
            return Curve(name, answer.times, answer.values, color, right)
        count = self._seconds // STEP_SECONDS
        times = [self._now - self._seconds + STEP_SECONDS * number for number in range(count + 1)]
        known = {round(time): value for time, value in zip(answer.times, answer.values, strict=True)}
        return Curve(name, times, [known.get(round(time), 0.0) for time in times], color, right)

    def _table(
        self, picture: Picture, box: Box, panel: dict[str, Any], answers: list[tuple[PanelQuery, list[Answered]]]
    ) -> None:
        organize = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
        names = {query.name for query, _ in answers}
        order = organize["indexByName"]
        renamed = sorted(organize["renameByName"].items(), key=lambda each: order.get(each[0], len(order)))
        keys = {label: title for label, title in renamed if title not in names}
        cells: defaultdict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for query, found in answers:
            for answer in found:
                cells[tuple(answer.labels.get(label, "") for label in keys)][query.name] = answer.values[-1]
        first = answers[0][0].name
        rows = [
            [*key, *(form_of(query.unit)(row[query.name]) if query.name in row else "" for query, _ in answers)]
            for key, row in sorted(cells.items(), key=lambda each: -each[1].get(first, 0))
        ]
        picture.table(box, [*keys.values(), *(query.name for query, _ in answers)], rows, len(keys))


def _top(panels: Sequence[dict[str, Any]]) -> int:
    return min(panel["gridPos"]["y"] for panel in panels)


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def _fixed(panel: dict[str, Any]) -> dict[str, str]:
    """What the panel says of single series: their colour, and their axis."""
    found: dict[str, str] = {}
    for override in panel["fieldConfig"]["overrides"]:
        name = override["matcher"]["options"]
        for each in override["properties"]:
            if each["id"] == "color":
                found[name] = COLORS[each["value"]["fixedColor"]]
            elif each["id"] == "custom.axisPlacement":
                found[f"axis of {name}"] = each["value"]
    return found


def _level(defaults: dict[str, Any], value: float) -> str:
    steps = [step for step in defaults["thresholds"]["steps"] if step.get("value") is None or value >= step["value"]]
    return COLORS[steps[-1]["color"]]


def _columns(answers: list[Answered]) -> list[tuple[float, dict[float, float]]]:
    """Prometheus' buckets contain all smaller ones; a cell is what is in it alone."""
    cumulative: defaultdict[float, dict[float, float]] = defaultdict(dict)
    for answer in answers:
        for moment, value in zip(answer.times, answer.values, strict=True):
            cumulative[moment][float(answer.labels["le"])] = value
    columns: list[tuple[float, dict[float, float]]] = []
    for moment, buckets in sorted(cumulative.items()):
        below, cells = 0.0, dict[float, float]()
        for bound, value in sorted(buckets.items()):
            cells[bound], below = value - below, value
        columns.append((moment, cells))
    return columns


def form_of(unit: str) -> Format:
    """How Grafana writes a value of a unit, nearly."""
    return _FORMS.get(unit, _count)


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _age(seconds: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {name}"
    return _scaled(seconds, 1000, ("s", "ms"))


def _scaled(value: float, factor: float, names: Sequence[str]) -> str:
    """In ever smaller units."""
    for name in names[:-1]:
        if value >= 1 or value == 0:
            return f"{value:.3g} {name}"
        value *= factor
    return f"{value:.3g} {names[-1]}"


def _larger(value: float, factor: float, names: Sequence[str]) -> str:
    for name in names[:-1]:
        if value < factor:
            return f"{value:.3g} {name}"
        value /= factor
    return f"{value:.3g} {names[-1]}"


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"


def _seconds(value: float) -> str:
    return _scaled(value, 1000, ("s", "ms", "\u00b5s")) if value < 60 else _age(value)


def _bytes(value: float) -> str:
    return _larger(value, 1024, ("B", "KiB", "MiB", "GiB"))


def _count(value: float) -> str:
    return _larger(value, 1000, ("", "K", "M", "G")).strip()


def _per(what: str) -> Format:
    def form(value: float) -> str:
        return f"{_plain(value)} {what}"

    return form


_FORMS: Final[dict[str, Format]] = {
    "percentunit": _share,
    "s": _seconds,
    "dtdurations": _age,
    "bytes": _bytes,
    "binBps": lambda value: f"{_bytes(value)}/s",
    "reqps": _per("req/s"),
    "cps": _per("/s"),
    "cpm": _per("/min"),
}


@contextmanager
def demo() -> Generator[str]:
    """The demo with its Prometheus, whose URL this yields; it ends with the block."""
    environment = {**os.environ, "KEEP": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, ROOT / "examples" / "demo.py"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield _announced(process.stdout)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _announced(output: Any) -> str:
    deadline = time.monotonic() + DEMO_START_SECONDS
    url = ""
    for line in output:
        found = re.match(r" +(http://127\.0\.0\.1:\d+)  Prometheus$", line)
        url = found[1] if found else url
        if line.startswith("Ctrl-C") and url:
            return url
        if time.monotonic() > deadline:
            break
    raise SystemExit("the demo shows no Prometheus: is it installed?")


def draw(url: str, seconds: int, directory: Path) -> None:
    """All pictures, of one moment."""
    now = math.floor(time.time())
    for name, (file, rows) in PICTURES.items():
        picture = Painter(Prometheus(url), file, now, seconds).draw(rows)
        path = directory / f"dashboard-{name}.svg"
        path.write_text(str(picture), encoding="utf-8")
        sys.stderr.write(f"{path}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards.pictures", description=__doc__)
    parser.add_argument("--prometheus", help="the URL of one that runs; by default the demo is run with one")
    parser.add_argument("--seconds", type=int, default=420, help="how long the demo runs, and how far back they go")
    parser.add_argument("--directory", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    if options.prometheus:
        draw(options.prometheus, options.seconds, options.directory)
        return 0
    with demo() as url:
        time.sleep(options.seconds)
        draw(url, options.seconds, options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
