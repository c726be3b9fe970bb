"""The page on traces says what the code does."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from opentelemetry_instrumentation_mcp.core import environment_variables
from opentelemetry_instrumentation_mcp.metrics.outcome import CALLER_FAULTS, CANCELLED, CONNECTION_LOST, TIMEOUT
from opentelemetry_instrumentation_mcp.tracing.conventions import TARGET_LENGTH

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "traces.md").read_text(encoding="utf-8")
_UPDATED = cast("Callable[[str], str]", runpy.run_path(str(_DOCS / "generate_traces.py"))["updated"])


def test_the_table_of_attributes_is_up_to_date() -> None:
    assert _UPDATED(_PAGE) == _PAGE, "docs/traces.md is out of date: run `python docs/generate_traces.py`"


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        _UPDATED(_PAGE.replace("<!-- end attributes -->", ""))


@pytest.mark.parametrize(
    "text",
    [
        f"`{environment_variables.OTEL_INSTRUMENTATION_MCP_SPAN_ATTRIBUTES}=mcp.session.id,mcp.resource.uri`",
        f"`{environment_variables.OTEL_INSTRUMENTATION_MCP_SPAN_ENRICHMENT}=false`",
        f"A name is cut at {TARGET_LENGTH} characters",
        *(f"| `{outcome.error_type}`" for outcome in (CANCELLED, CONNECTION_LOST, TIMEOUT)),
        ", ".join(map(str, (-32700, -32600, -32601, -32602, -32002))),
    ],
)
def test_the_page_states_what_is_so(text: str) -> None:
    assert text in _PAGE


def test_the_page_names_the_faults_of_a_caller() -> None:
    assert {-32700, -32600, -32601, -32602, -32002} == CALLER_FAULTS
