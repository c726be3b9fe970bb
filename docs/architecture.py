"""Draws ``architecture.svg`` and writes the table of modules in ``architecture.md``, from the code.

python docs/architecture.py
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

DOCS: Final = Path(__file__).parent
PAGE: Final = DOCS / "architecture.md"
PICTURE: Final = DOCS / "architecture.svg"
METRICS: Final = DOCS.parent / "src" / "opentelemetry_instrumentation_mcp" / "metrics"

_PLACE: Final = re.compile(r"(<!-- begin modules -->\n).*?(<!-- end modules -->)", re.DOTALL)
_ROLE: Final = re.compile(r":\w+:`[~.]*([^`]+)`")


class Box(NamedTuple):
    """A stage on the way of a value.

    Attributes:
        title: What it is called.
        lines: What happens there.
        package: The modules it is made of, below ``metrics/``; None where they are not ours or not there.
    """

    title: str
    lines: tuple[str, ...]
    package: str | None = None


HOT: Final = (
    Box("sdk/", ("an adapter sees", "a request end")),
    Box("metrics/events.py", ("the meaning: a verb", "with an outcome"), "events"),
    Box("metrics/store/", ("the attribute set,", "within its bounds"), "store"),
    Box("metrics/buffers/", ("the value buffer:", "one append"), "buffers"),
)
"""What a request pays for, from left to right."""

COLD: Final = (
    Box("reader, exporter", ("Prometheus scrapes,", "or OTLP is due")),
    Box("instrument", ("counter, updown,", "histogram")),
    Box("sinks", ("one add a counter, a", "histogram in bulk")),
    Box("collection", ("drains every buffer", "before a reader reads")),
)
"""What happens when a reader collects, from left to right as well: values go the other way."""

_WIDTH, _HEIGHT, _GAP, _LEFT, _LINE = 196, 92, 40, 20, 18
_ROWS: Final = (64, 244)


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


def _box(place: int, top: int, box: Box) -> list[str]:
    left = _LEFT + place * (_WIDTH + _GAP)
    middle = left + _WIDTH / 2
    return [
        f'<rect x="{left}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        _text(middle, top + 28, box.title, "title"),
        *(_text(middle, top + 54 + number * _LINE, line, "line") for number, line in enumerate(box.lines)),
    ]


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" marker-end="url(#head)"/>'


def picture() -> str:
    """The picture, as SVG."""
    width = 2 * _LEFT + len(HOT) * _WIDTH + (len(HOT) - 1) * _GAP
    drawn: list[str] = []
    for top, boxes, title in zip(
        _ROWS, (HOT, COLD), ("for each event, on the request's way", "when a reader collects"), strict=True
    ):
        drawn.append(_text(_LEFT, top - 16, title, "row"))
        for place, box in enumerate(boxes):
            drawn += _box(place, top, box)
        middle = top + _HEIGHT / 2
        for place in range(1, len(boxes)):
            right = _LEFT + place * (_WIDTH + _GAP) - 4
            ends = (right - _GAP + 8, right) if boxes is HOT else (right, right - _GAP + 8)
            drawn.append(_arrow(ends[0], middle, ends[1], middle))
    last = _LEFT + (len(HOT) - 1) * (_WIDTH + _GAP) + _WIDTH / 2
    drawn.append(_arrow(last, _ROWS[0] + _HEIGHT + 4, last, _ROWS[1] - 6))
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_ROWS[1] + _HEIGHT + 20}" role="img">',
            "<title>The way of a value, from the SDK to an exporter</title>",
            "<style>rect{fill:#f6f8fa;stroke:#57606a}path{stroke:#57606a;stroke-width:1.5}",
            "text{font-family:sans-serif;font-size:13px;fill:#24292f;text-anchor:middle}",
            ".title{font-weight:bold;font-size:14px}.row{text-anchor:start;font-style:italic}</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill:#57606a;stroke:none"/></marker></defs>',
            '<rect width="100%" height="100%" style="fill:#fff;stroke:none"/>',
            *drawn,
            "</svg>\n",
        )
    )


def _modules(package: str) -> list[Path]:
    directory = METRICS / package
    if directory.is_dir():
        return sorted(path for path in directory.glob("*.py") if path.stem != "__init__")
    return [METRICS / f"{package}.py"]


def _about(path: Path) -> str:
    """The first sentence or line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = _ROLE.sub(r"`\1`", text.split("\n\n")[0]).replace("\n", " ").replace("``", "`")
    return first.replace("|", "\\|")


def updated(page: str) -> str:
    """The page with the table as it is in the code.

    Raises:
        ValueError: It has no place for it.
    """
    rows = [
        f"| `{path.relative_to(METRICS).as_posix()}` | {_about(path)} |\n"
        for box in HOT
        if box.package is not None
        for path in _modules(box.package)
    ]
    data = sorted(path for path in METRICS.glob("*.py") if path.stem not in ("__init__", "events"))
    rows += [f"| `{path.name}` | {_about(path)} |\n" for path in data]
    table = "\n| module of `metrics/` | what it is |\n| --- | --- |\n" + "".join(rows) + "\n"
    page, count = _PLACE.subn(lambda found: found[1] + table + found[2], page)
    if count != 1:
        raise ValueError("no place for the modules")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
