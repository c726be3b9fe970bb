"""Pictures of panels: numbers, lines, bars, tables and heat maps, in SVG and in the manner of Grafana's dark theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

PALETTE: Final = (
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#37872d",
    "#fade2a",
    "#c4162a",
)
COLORS: Final = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "dark-red": "#c4162a",
}
BACKGROUND: Final = "#111217"
SURFACE: Final = "#181b1f"
LINE: Final = "#2c3235"
TEXT: Final = "#ccccdc"
FAINT: Final = "#8e8e99"
PADDING: Final = 10.0


@dataclass(frozen=True)
class Box:
    """Where something is drawn."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def inside(self, left: float, top: float, right: float, bottom: float) -> Box:
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


@dataclass(frozen=True)
class Curve:
    """A named series; on the right it has a scale of its own."""

    name: str
    times: list[float]
    values: list[float]
    color: str = ""
    right: bool = False


Format = Callable[[float], str]


@dataclass
class Picture:
    """An SVG image that is drawn into."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'font-family="Inter, Helvetica, Arial, sans-serif" font-size="11">'
        )
        return "\n".join((head, *self.parts, "</svg>")) + "\n"

    def rectangle(self, box: Box, fill: str, *, opacity: float = 1, radius: float = 0) -> None:
        more = f' rx="{radius:g}"' if radius else ""
        more += f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self.parts.append(
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{max(box.width, 0):.1f}" height="{max(box.height, 0):.1f}" '
            f'fill="{fill}"{more}/>'
        )

    def text(self, x: float, y: float, text: str, *, size: float = 11, fill: str = TEXT, anchor: str = "start") -> None:
        where = f'x="{x:.1f}" y="{y:.1f}"'
        how = "" if size == 11 else f' font-size="{size:g}"'
        how += "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text {where} fill="{fill}"{how}>{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = LINE) -> None:
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{stroke}"/>')

    def path(
        self, points: Sequence[tuple[float, float]], stroke: str, *, fill: str = "none", opacity: float = 0
    ) -> None:
        if not points:
            return
        d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        shade = f' fill-opacity="{opacity:.2f}"' if fill != "none" else ""
        self.parts.append(f'<path d="{d}" stroke="{stroke}" fill="{fill}"{shade} stroke-linejoin="round"/>')

    # --- Panels -------------------------------------------------------------------------------------------------------

    def frame(self, box: Box, title: str) -> Box:
        """A panel's surface and title; returns what is left."""
        self.rectangle(box, SURFACE, radius=3)
        self.text(box.x + PADDING, box.y + 18, title, size=12)
        return box.inside(PADDING, 28, PADDING, PADDING)

    def row(self, y: float, title: str) -> None:
        self.text(4, y + 15, f"\u25be {title}", size=13)

    def nothing(self, box: Box, why: str) -> None:
        self.text(box.x + box.width / 2, box.y + box.height / 2, why, fill=FAINT, anchor="middle")

    def number(self, box: Box, value: float, form: Format, color: str, history: Curve | None) -> None:
        if history and len(history.values) > 1:
            low = box.inside(-PADDING, box.height * 0.5, -PADDING, -PADDING)
            top = max(history.values) or 1
            place = _scale(low, history.times[0], history.times[-1], top * 1.2)
            points = [place(t, v) for t, v in zip(history.times, history.values, strict=True)]
            area = [(points[0][0], low.bottom), *points, (points[-1][0], low.bottom)]
            self.path(area, "none", fill=color, opacity=0.2)
            self.path(points, color)
        self.text(
            box.x + box.width / 2,
            box.y + box.height / 2 + 9,
            form(value),
            size=26 if len(form(value)) < 9 else 22,
            fill=color,
            anchor="middle",
        )

    def lines(
        self,
        box: Box,
        curves: Sequence[Curve],
        form: Format,
        span: tuple[float, float],
        *,
        stacked: bool,
        highest: float | None,
    ) -> None:
        """Lines over time, with the names and last values of all of them below."""
        rows = min(len(curves), 4)
        plot = box.inside(46, 2, 40 if any(curve.right for curve in curves) else 4, 20 + 15 * rows)
        layers = _stacked(curves) if stacked else [curve.values for curve in curves]
        colors = [curve.color or PALETTE[number % len(PALETTE)] for number, curve in enumerate(curves)]
        tops: dict[bool, float] = {}
        for side in {curve.right for curve in curves}:
            most = max(max(layer) for curve, layer in zip(curves, layers, strict=True) if curve.right is side)
            tops[side] = _nice(most, form) if highest is None else highest
            x, anchor = (plot.right + 5, "start") if side else (plot.x - 5, "end")
            for step in range(5):
                y = plot.bottom - plot.height * step / 4
                self.line(plot.x, y, plot.right, y)
                self.text(x, y + 4, form(tops[side] * step / 4), size=10, fill=FAINT, anchor=anchor)
        self._times(plot, span[1] - span[0])
        floor = [0.0] * len(layers[0])
        for curve, layer, color in zip(curves, layers, colors, strict=True):
            place = _scale(plot, *span, tops[curve.right])
            points = [place(t, v) for t, v in zip(curve.times, layer, strict=True)]
            if stacked:
                under = [place(t, v) for t, v in zip(curve.times, floor, strict=True)]
                self.path([*points, *reversed(under)], "none", fill=color, opacity=0.3)
                floor = layer
            self.path(points, color)
        width = box.width / math.ceil(len(curves) / rows)
        for number, (curve, color) in enumerate(zip(curves, colors, strict=True)):
            x, y = box.x + width * (number // rows), plot.bottom + 30 + 15 * (number % rows)
            self.rectangle(Box(x, y - 6, 12, 4), color, radius=1)
            self.text(x + 17, y, _cut(curve.name or "(none)", width - 80), size=10.5)
            self.text(x + width - 12, y, form(curve.values[-1]), size=10.5, fill=FAINT, anchor="end")

    def _times(self, plot: Box, seconds: float) -> None:
        for step, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
            ago = seconds * (4 - step) / 4
            told = "now" if step == 4 else f"-{int(ago // 60)}:{int(ago % 60):02}"
            x = plot.x + plot.width * step / 4
            self.text(x, plot.bottom + 14, told, size=10, fill=FAINT, anchor=anchor)

    def bars(
        self,
        box: Box,
        values: Sequence[tuple[str, float]],
        form: Format,
        colors: Mapping[str, str],
        highest: float | None,
    ) -> None:
        most = highest or max(value for _, value in values) or 1
        height = min(30.0, box.height / len(values))
        for number, (name, value) in enumerate(values):
            y = box.y + number * height
            track = Box(box.x + 110, y + 3, box.width - 180, height - 8)
            self.text(track.x - 8, y + height / 2 + 3, _cut(name or "(none)", 100), anchor="end")
            self.rectangle(track, LINE, radius=2)
            filled = Box(track.x, track.y, track.width * min(value / most, 1), track.height)
            self.rectangle(filled, colors.get(name, PALETTE[0]), radius=2)
            self.text(box.right, y + height / 2 + 3, form(value), anchor="end")

    def table(self, box: Box, heads: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> None:
        """The first columns are words, the others numbers."""
        width = box.width / len(heads)
        for number, row in enumerate((heads, *rows)):
            y = box.y + 14 + 22 * number
            if y > box.bottom:
                return
            for column, cell in enumerate(row):
                x, anchor = box.x + width * column, "start"
                if column >= words:
                    x, anchor = x + width - 8, "end"
                self.text(x, y, _cut(cell, width - 10), fill=FAINT if number == 0 else TEXT, anchor=anchor)
            self.line(box.x, y + 7, box.right, y + 7)

    def heat(self, box: Box, columns: Sequence[tuple[float, dict[float, float]]], form: Format) -> None:
        """``columns``: for each moment how much is in which bucket, by its upper bound."""
        used = sorted({bound for _, cells in columns for bound, value in cells.items() if value > 0})
        plot = box.inside(46, 2, 4, 20)
        most = max((value for _, cells in columns for value in cells.values()), default=1) or 1
        height, width = plot.height / len(used), plot.width / len(columns)
        for level, bound in enumerate(used):
            y = plot.bottom - height * (level + 1)
            self.text(plot.x - 5, y + 5, form(bound), size=10, fill=FAINT, anchor="end")
            for number, (_, cells) in enumerate(columns):
                if value := cells.get(bound, 0):
                    cell = Box(plot.x + number * width, y, width * 0.95, height * 0.94)
                    self.rectangle(cell, "#ff9830", opacity=0.12 + 0.88 * math.sqrt(value / most))
        self._times(plot, columns[-1][0] - columns[0][0])


def _scale(box: Box, begin: float, end: float, top: float) -> Callable[[float, float], tuple[float, float]]:
    span = (end - begin) or 1

    def place(time: float, value: float) -> tuple[float, float]:
        return box.x + box.width * (time - begin) / span, box.bottom - box.height * min(value / top, 1)

    return place


def _stacked(curves: Sequence[Curve]) -> list[list[float]]:
    layers: list[list[float]] = []
    for curve in curves:
        below = layers[-1] if layers else [0.0] * len(curve.values)
        layers.append([a + b for a, b in zip(below, curve.values, strict=True)])
    return layers


def _nice(value: float, form: Format) -> float:
    """The next number that divides well by four, of bytes one that does in their units."""
    if value <= 0:
        return 1
    unit = 1024.0 ** math.floor(math.log(value, 1024)) if "Ki" in form(1024) else 1.0
    power = 10.0 ** math.floor(math.log10(value / unit))
    steps = (1, 1.2, 1.6, 2, 4, 6, 8, 10)
    return next((step * power * unit for step in steps if step * power * unit >= value), value)


def _cut(text: str, width: float) -> str:
    most = max(3, int(width / 5.6))
    return text if len(text) <= most else text[: most - 1] + "\u2026"
