"""Makes the tables of all results: prints them, and puts them into the documentation.

python -m benchmarks.report DIRECTORY [--page docs/performance.md]

In the page it replaces what stands between ``<!-- begin results -->`` and ``<!-- end results -->``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from . import results
from .instructions.measure import Counts
from .overhead.rounds import Comparison
from .overhead.statistics import Estimate
from .overhead.subjects import BARE, CONTROL, INSTRUMENTED
from .results import Results
from .scale.figures import Figure

MOST_CPU: Final = {"in memory": 3.0}
"""Percent of a bare process' CPU per call that instrumentation may add, where it is not :data:`MOST_CPU_ELSEWHERE`."""
MOST_CPU_ELSEWHERE: Final = 2.0

Row = Sequence[str]


def _table(heads: Row, rows: Iterable[Row]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)


def _launches(comparisons: Iterable[tuple[str, str, Comparison]]) -> list[str]:
    """The columns: ours, the control, and what else was compared."""
    names = {name: None for _, _, comparison in comparisons for name in comparison.launches()}
    others = [name for name in names if name not in (BARE.name, CONTROL.name, INSTRUMENTED.name)]
    return [INSTRUMENTED.name, CONTROL.name, *others]


def _overhead(found: Sequence[Results]) -> Iterator[str]:
    comparisons = [(each.mcp, name, Comparison(rounds)) for each in found for name, rounds in each.data.items()]
    launches = _launches(comparisons)
    heads = [f"{name}, %" for name in launches]
    yield "#### CPU time per call"
    yield ""
    yield from _table(("mcp", "what", "bare", *heads, "limit"), (_cpu_row(*each, launches) for each in comparisons))
    yield "#### Latency and throughput"
    yield ""
    rows = (row for each in comparisons for row in _other_rows(*each, launches))
    yield from _table(("mcp", "what", "", "bare", *heads), rows)


def _cpu_row(mcp: str, name: str, comparison: Comparison, launches: Sequence[str]) -> Row:
    differences = [comparison.difference(launch, "cpu") for launch in launches]
    most, ours = MOST_CPU.get(name, MOST_CPU_ELSEWHERE), differences[0]
    verdict = "" if ours is None else f"{most:g} %: {'kept' if ours.middle <= most else 'not kept'}"
    return (mcp, name, _bare(comparison, "cpu"), *(_percent(each) for each in differences), verdict)


def _other_rows(mcp: str, name: str, comparison: Comparison, launches: Sequence[str]) -> Iterator[Row]:
    for figure, title in (("p50", "p50"), ("p99", "p99"), ("rate", "calls/s at saturation")):
        if comparison.bare(figure) is not None:
            differences = (_percent(comparison.difference(launch, figure)) for launch in launches)
            yield (mcp, name, title, _bare(comparison, figure), *differences)


def _bare(comparison: Comparison, figure: str) -> str:
    value = comparison.bare(figure)
    if value is None:
        return "-"
    return f"{value:,.0f}" if figure == "rate" else f"{1e6 * value:,.0f} us"


def _instructions(found: Sequence[Results]) -> Iterator[str]:
    heads = ("mcp", "path", "bare", "added per call", "%", "at collection", "%", "disabled, %", "A/A, %")
    rows: list[Row] = []
    for each in found:
        for path, values in each.data.items():
            counts = Counts(**values)
            rows.append(
                (
                    each.mcp,
                    path,
                    f"{counts.bare:,.0f}",
                    f"{counts.path:,.0f}",
                    f"{counts.path_percent:.2f}",
                    f"{counts.hand_over:,.0f}",
                    f"{counts.hand_over_percent:.2f}",
                    f"{counts.off_percent:.2f}",
                    f"{counts.percent('bare_again'):+.2f}",
                )
            )
    yield "#### Instructions per call"
    yield ""
    yield from _table(heads, rows)


def _scale(found: Sequence[Results]) -> Iterator[str]:
    heads = ("mcp", "what", "with this package", "compared to", "unit", "limit, or difference")
    yield "#### With more of everything"
    yield ""
    yield from _table(heads, ((each.mcp, *Figure(**values).cells()) for each in found for values in each.data))


_SECTIONS: Final = {"overhead": _overhead, "instructions": _instructions, "scale": _scale}


def report(found: Sequence[Results]) -> str:
    """The tables, in Markdown."""
    lines: list[str] = []
    for benchmark, section in _SECTIONS.items():
        these = [each for each in found if each.benchmark == benchmark]
        if these:
            lines += section(these)
            lines += [f"Measured on {day}: {machine}." for day, machine in _occasions(these)]
            lines.append("")
    return "\n".join(lines)


def _occasions(found: Sequence[Results]) -> list[tuple[str, str]]:
    return sorted({(each.day, each.machine) for each in found})


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: The page has no marks.
    """
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(r"(<!-- begin results -->\n).*?(<!-- end results -->)", re.DOTALL)
    new, count = pattern.subn(lambda match: f"{match[1]}\n{text}\n{match[2]}", old)
    if count != 1:
        raise ValueError(f"{page} has no place for results")
    page.write_text(new, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables of the results.")
    parser.add_argument("directory", type=Path, help="where the benchmarks have written")
    parser.add_argument("--page", type=Path, help="put the tables into this page as well")
    options = parser.parse_args()
    text = report(results.read(options.directory))
    print(text)
    if options.page:
        put_into(options.page, text)


if __name__ == "__main__":
    main()
