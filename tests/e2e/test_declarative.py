"""Set-up by a file (OTEL_CONFIG_FILE): options of the instrumentation, and an instrumentation that stays disabled."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from . import environments
from .conftest import NewPython
from .processes import Child, Start
from .test_last_interval import STDIO_SERVER, end, use_stdio

ROOT = Path(__file__).parents[2]
REPORT = """
import json
from opentelemetry import metrics, trace
from opentelemetry_instrumentation_mcp import MCPInstrumentor
import mcp
instrumentor = MCPInstrumentor()
installation = instrumentor._installation
print(json.dumps({
    "instrumented": instrumentor.is_instrumented_by_opentelemetry,
    "providers": [type(each).__name__ for each in (metrics.get_meter_provider(), trace.get_tracer_provider())],
    "names": installation.state.recorder._shared.bounds.names._limit if installation else None,
}))
"""


@pytest.fixture
def configured(start: Start, python: NewPython, tmp_path: Path) -> Any:
    """Starts an application with a configuration file; JSON is YAML."""

    def run(code: str, instrumentation: Any, *, console: str = "meter_provider", **top: Any) -> Child:
        periodic: dict[str, Any] = {"periodic": {"interval": 60000, "exporter": {"console": {}}}}
        batch: dict[str, Any] = {"batch": {"exporter": {"console": {}}}}
        provider = {"readers": [periodic]} if console == "meter_provider" else {"processors": [batch]}
        file = tmp_path / "otel.yaml"
        configuration: dict[str, Any] = {
            "file_format": "1.0",
            console: provider,
            "instrumentation/development": {"python": instrumentation},
            **top,
        }
        file.write_text(json.dumps(configuration))
        hidden = [name for name in environments.OPTIONAL if name != environments.CONFIGURATION]
        return start(
            code,
            interpreter=python(without=hidden),
            PYTHONPATH=str(ROOT),
            OTEL_CONFIG_FILE=str(file),
            # Of these the file says nothing, so they have no meaning.
            OTEL_METRICS_EXPORTER="prometheus",
            OTEL_INSTRUMENTATION_MCP_MAX_NAMES="50",
        )

    return run


def report(child: Child) -> dict[str, Any]:
    assert child.finish() == 0, child.stderr
    assert child.stdout, child.stderr
    return json.loads(child.stdout)


@pytest.mark.parametrize(
    ("instrumentation", "instrumented"),
    [
        ({"mcp_sdk": {"enabled": False}}, False),
        ({"mcp_sdk": {"enabled": True}}, True),
        ({}, True),
    ],
)
def test_the_file_says_whether_the_instrumentation_is_enabled(
    configured: Any, instrumentation: Any, instrumented: bool
) -> None:
    child = configured(REPORT, instrumentation)

    assert report(child)["instrumented"] is instrumented
    # Nothing but the last export: no complaint about a second activation.
    assert "already instrumented" not in child.stderr
    assert child.stdout.count(b"\n") == 1


def test_the_instrumentations_options_come_from_the_file(configured: Any) -> None:
    assert report(configured(REPORT, {"mcp_sdk": {"max_names": 7}}))["names"] == 7


def test_so_do_those_about_spans(configured: Any) -> None:
    options = {"span_attributes": "mcp.session.id", "span_enrichment": False}
    code = REPORT.replace('"names"', '"asked": sorted(installation.spans.operations()._asked), "names"')
    child = configured(code, {"mcp_sdk": options}, console="tracer_provider")

    told = report(child)
    assert told["providers"][1] == "TracerProvider"
    assert told["asked"] == ["mcp.session.id"]
    assert "neither true nor false" not in child.stderr


def test_a_disabled_file_sets_up_and_patches_nothing(configured: Any) -> None:
    found = report(configured(REPORT, {"mcp_sdk": {}}, disabled=True))

    assert found == {
        "instrumented": False,
        "providers": ["_ProxyMeterProvider", "ProxyTracerProvider"],
        "names": None,
    }


@pytest.mark.parametrize("provider", ["meter_provider", "tracer_provider", "logger_provider"])
def test_console_exporters_of_a_file_write_to_stderr(configured: Any, provider: str) -> None:
    code = (
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry._logs import LogRecord, get_logger\n"
        "metrics.get_meter('child').create_counter('child.thing').add(3)\n"
        "trace.get_tracer('child').start_span('child.thing').end()\n"
        "get_logger('child').emit(LogRecord(body='child.thing'))\n"
    )
    child = configured(code, {}, console=provider)

    assert child.finish() == 0
    assert child.stdout == b""
    assert "child.thing" in child.stderr


def test_what_a_file_pushes_is_flushed_at_the_end(configured: Any) -> None:
    server = configured(STDIO_SERVER, {})
    use_stdio(server)

    assert end(server, "SIGTERM") == -signal.SIGTERM
    assert '"name": "mcp.requests.total"' in server.stderr


def test_without_the_package_that_reads_files_the_application_runs(start: Start, tmp_path: Path) -> None:
    child = start("print('ran')", OTEL_CONFIG_FILE=str(tmp_path / "otel.yaml"))

    assert child.finish() == 0
    assert child.stdout == b"ran\n"
    assert "pip install opentelemetry-configuration" in child.stderr
