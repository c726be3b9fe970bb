"""Which exporters a process gets: what is installed decides, and what is not costs one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..sdk.generation import V2
from . import environments
from .conftest import NewPython
from .processes import Child, Start, read
from .test_default_path import APPLICATION, beats

ROOT = Path(__file__).parents[2]
REPORT = """
import json, os
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry_instrumentation_mcp import MCPInstrumentor
meters = metrics.get_meter_provider()
configuration = getattr(meters, "_sdk_config", None)
# Older releases of the SDK have them in the other place.
readers = getattr(meters, "_metric_readers", None) or getattr(configuration, "metric_readers", ())
exporters = [getattr(reader, "_exporter", reader) for reader in readers]
consumer = getattr(meters, "_measurement_consumer", None)
print(json.dumps({
    "exporters": [type(each).__module__ for each in exporters],
    "resource": dict(configuration.resource.attributes) if configuration else {},
    "providers": [type(each).__name__ for each in (meters, trace.get_tracer_provider(), get_logger_provider())],
    "exemplars": type(consumer._sdk_config.exemplar_filter).__name__ if consumer else None,
    "variables": {name: value for name, value in os.environ.items() if name.startswith("OTEL_")},
    "instrumented": MCPInstrumentor().is_instrumented_by_opentelemetry,
}))
"""
OUR_READER = "opentelemetry_instrumentation_mcp.distro.prometheus"
CONSOLE = "opentelemetry.sdk.metrics._internal.export"
GRPC = "opentelemetry.exporter.otlp.proto.grpc.metric_exporter"
HTTP = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
INSTALL = '; pip install "opentelemetry-distro-mcp[{}]"\n'
# Nothing listens there; a refused connection ends the last export at once.
NOWHERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


def report(child: Child) -> dict[str, Any]:
    assert child.finish() == 0
    assert child.stdout, child.stderr
    return json.loads(child.stdout)


def test_prometheus_is_served_although_otlp_was_asked_for_and_is_not_installed(start: Start, free_port: int) -> None:
    child = start(APPLICATION, OTEL_METRICS_EXPORTER="prometheus,otlp", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert child.stderr == "OTEL_METRICS_EXPORTER: otlp is left out, it is not installed" + INSTALL.format("otlp")


def test_what_is_not_installed_is_said_once_for_all_signals(start: Start) -> None:
    signals = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
    child = start(REPORT, **dict.fromkeys(signals, "otlp"))

    found = report(child)
    assert found["exporters"] == []
    assert found["instrumented"]
    assert child.stderr == f"{', '.join(signals)}: otlp is left out, it is not installed" + INSTALL.format("otlp")
    # Child processes may have it.
    assert {found["variables"][name] for name in signals} == {"otlp"}


@pytest.mark.parametrize(
    ("hidden", "protocol", "module", "complaint"),
    [
        ((), {}, GRPC, ""),
        (environments.GRPC, {}, HTTP, ""),
        (environments.HTTP, {}, GRPC, ""),
        ((), {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, HTTP, ""),
        ((), {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, GRPC, ""),
        (
            environments.GRPC,
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            None,
            "otlp over gRPC is left out, it is not installed" + INSTALL.format("otlp"),
        ),
        (
            environments.HTTP,
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            None,
            "otlp over HTTP is left out, it is not installed" + INSTALL.format("otlp-http"),
        ),
        (
            (),
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            None,
            "otlp is left out: OTEL_EXPORTER_OTLP_PROTOCOL='http/json' is neither grpc nor http/protobuf\n",
        ),
    ],
)
def test_the_protocol_is_what_is_installed_unless_it_is_chosen(
    start: Start,
    python: NewPython,
    hidden: tuple[str, ...],
    protocol: dict[str, str],
    module: str | None,
    complaint: str,
) -> None:
    interpreter = python(without=(environments.STOCK, *hidden))
    # The report leaves before anything is exported.
    leave = "\nimport sys; sys.stdout.flush(); os._exit(0)"
    child = start(REPORT + leave, interpreter=interpreter, OTEL_METRICS_EXPORTER="otlp", **protocol, **NOWHERE)

    assert report(child)["exporters"] == ([module] if module else [])
    assert child.stderr == (f"OTEL_METRICS_EXPORTER: {complaint}" if complaint else "")


@pytest.mark.parametrize(
    ("exporters", "modules", "complaint"),
    [
        ("none", [], ""),
        ("None", [], ""),
        (" console ,prometheus", [CONSOLE, OUR_READER], ""),
        ("none,prometheus", [OUR_READER], "none means nothing beside other exporters; it is left out\n"),
        ("zipkin,prometheus,", [OUR_READER], "zipkin is left out, it is not installed\n"),
    ],
)
def test_lists_of_exporters(start: Start, free_port: int, exporters: str, modules: list[str], complaint: str) -> None:
    child = start(REPORT, OTEL_METRICS_EXPORTER=exporters, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    found = report(child)
    assert found["exporters"] == modules
    assert found["variables"]["OTEL_METRICS_EXPORTER"] == exporters
    lines = [line for line in child.stderr.splitlines() if line.startswith("OTEL_")]
    assert lines == ([f"OTEL_METRICS_EXPORTER: {complaint}".rstrip()] if complaint else [])


def test_an_exporter_that_cannot_be_imported_is_left_out(start: Start, tmp_path: Path, free_port: int) -> None:
    code = "raise ImportError('built for another libc')\n"
    entry_points = "[opentelemetry_metrics_exporter]\nacme = acme:Exporter\n"
    package = environments.package(tmp_path / "acme", "acme", code, entry_points)
    child = start(
        REPORT,
        PYTHONPATH=str(package),
        OTEL_METRICS_EXPORTER="acme,prometheus",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
    )

    assert report(child)["exporters"] == [OUR_READER]
    assert child.stderr == (
        "OTEL_METRICS_EXPORTER: acme is left out, it cannot be imported (ImportError: built for another libc)\n"
    )


def test_there_are_no_providers_for_signals_that_nobody_takes(start: Start, free_port: int) -> None:
    found = report(start(REPORT, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port)))

    assert found["providers"] == ["MeterProvider", "ProxyTracerProvider", "ProxyLoggerProvider"]
    # Exemplars, which Prometheus does not show, are not sampled; child processes decide for themselves.
    assert found["exemplars"] == "AlwaysOffExemplarFilter"
    assert "OTEL_METRICS_EXEMPLAR_FILTER" not in found["variables"]


def test_metrics_alone_are_set_up_as_the_sdk_would(start: Start, free_ports: list[int]) -> None:
    # The variable leads past the short way, and means nothing else.
    variables: list[dict[str, str]] = [{}, {"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "false"}]
    short, long = (
        report(start(REPORT, OTEL_EXPORTER_PROMETHEUS_PORT=str(port), OTEL_SERVICE_NAME="weather", **each))
        for port, each in zip(free_ports, variables, strict=False)
    )

    for found in (short, long):
        # Made up anew by every process.
        found["resource"].pop("service.instance.id", None)
        del found["variables"]
    assert short == long
    assert short["resource"]["service.name"] == "weather"
    assert short["resource"]["telemetry.auto.version"]


@pytest.mark.parametrize(
    ("variables", "exemplars"),
    [
        ({"OTEL_METRICS_EXEMPLAR_FILTER": "always_on"}, "AlwaysOnExemplarFilter"),
        ({"OTEL_METRICS_EXPORTER": "prometheus,console"}, "TraceBasedExemplarFilter"),
    ],
)
def test_exemplars_are_sampled_for_those_who_want_them(
    start: Start, free_port: int, variables: dict[str, str], exemplars: str
) -> None:
    found = report(start(REPORT, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), **variables))

    assert found["exemplars"] == exemplars


def test_signals_with_an_exporter_have_a_provider(start: Start) -> None:
    found = report(
        start(REPORT, OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="console", OTEL_LOGS_EXPORTER="console")
    )

    assert found["providers"] == ["_ProxyMeterProvider", "TracerProvider", "LoggerProvider"]


SAMPLING = """
import anyio, json
from opentelemetry import propagate, trace
from mcp.server.lowlevel import Server
from mcp.client import Client
import mcp_types as types

seen = {}
async def list_tools(context, parameters):
    carrier = {}
    propagate.inject(carrier)
    seen["downstream"] = carrier.get("traceparent")
    return types.ListToolsResult(tools=[])

async def main():
    server = Server("sampling", on_list_tools=list_tools)
    async with Client(server) as client:
        for name, traceparent in CASES.items():
            context = propagate.extract({"traceparent": traceparent} if traceparent else {})
            from opentelemetry.context import attach, detach
            token = attach(context)
            await client.list_tools()
            detach(token)
            print(json.dumps([name, seen["downstream"]]))
anyio.run(main)
"""


@pytest.mark.skipif(not V2, reason="mcp 1.x makes no spans by itself")
def test_without_a_traces_exporter_the_spans_of_mcp_change_no_sampling_decision(start: Start, free_port: int) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
    cases = {"sampled": f"{trace}01", "not sampled": f"{trace}00", "no trace": None}
    child = start(f"CASES = {cases!r}\n{SAMPLING}", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert child.finish() == 0, child.stderr
    assert dict(json.loads(line) for line in child.stdout.splitlines()) == cases


USE = """
import anyio, json, sys
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
import mcp
print(json.dumps(sorted(name for name in sys.modules if name.startswith("opentelemetry_instrumentation_mcp.sdk"))))
"""


def test_a_disabled_sdk_patches_nothing(start: Start, taken_port: int) -> None:
    child = start(USE, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port))

    assert child.finish() == 0
    assert json.loads(child.stdout) == []
    # A reader would have complained about the port.
    assert child.stderr == ""


def test_a_flush_leaves_the_next_scrape_as_it_would_have_been(start: Start, free_port: int) -> None:
    flush = "metrics.get_meter_provider().force_flush(); " * 2
    child = start(
        APPLICATION.replace("import sys;", f"{flush}import sys;"), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port)
    )

    page = child.scrape(f"http://localhost:{free_port}/metrics")
    page = read(f"http://localhost:{free_port}/metrics")

    assert beats(page) == 3
    assert page.count("# TYPE child_beats_total counter") == 1
