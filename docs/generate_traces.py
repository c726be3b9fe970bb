"""Writes the table of attributes in ``traces.md`` from the code: run it after a change to ``tracing/conventions.py``.

python docs/generate_traces.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from opentelemetry_instrumentation_mcp.tracing.conventions import ATTRIBUTES, Attribute, Choice

PAGE: Final = Path(__file__).with_name("traces.md")

_PLACE: Final = re.compile(r"(<!-- begin attributes -->\n).*?(<!-- end attributes -->)", re.DOTALL)


def _row(attribute: Attribute) -> str:
    kinds = ", ".join(sorted(kind.name for kind in attribute.kinds))
    given = {Choice.GIVEN: "yes", Choice.ASKED: "if asked for", Choice.LEFT_OUT: "no"}[attribute.choice]
    cells = (f"`{attribute.key}`", attribute.type.__name__, kinds, attribute.level.value, given, attribute.remark)
    return f"| {' | '.join(cells)} |\n"


def updated(page: str) -> str:
    """The page with the table as it is in the code.

    Raises:
        ValueError: It has no place for it.
    """
    header = (
        "\n| attribute | type | spans | the conventions say | here | when |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    table = header + "".join(map(_row, ATTRIBUTES)) + "\n"
    page, count = _PLACE.subn(lambda found: found[1] + table + found[2], page)
    if count != 1:
        raise ValueError("no place for the attributes")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
