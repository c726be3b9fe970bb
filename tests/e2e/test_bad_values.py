"""A value in the environment that is no good costs one line, which names the variable, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..sdk.generation import V2
from . import environments
from .conftest import NewPython
from .processes import Start
from .test_default_path import APPLICATION, beats

pytestmark = pytest.mark.skipif(not V2, reason="the set-up has nothing to do with the generation of the SDK")

REPORT = (
    "import json, os\n"
    "from opentelemetry import metrics, trace\n"
    "from opentelemetry._logs import get_logger_provider\n"
    "providers = (metrics.get_meter_provider(), trace.get_tracer_provider(), get_logger_provider())\n"
    "print(json.dumps([type(each).__name__.removesuffix('Provider') for each in providers]), flush=True)\n"
)
# The last export has nowhere to go, and is not what this is about.
LEAVE = "import sys; sys.stdin.read(); sys.stderr.flush(); os._exit(0)\n"
CODE = REPORT + APPLICATION.partition("import sys")[0] + LEAVE
ALL = {
    "OTEL_METRICS_EXPORTER": "prometheus,otlp",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}
GRPC = ALL | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
HTTP = ALL | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
METRICS: dict[str, str] = {}
TRACES = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_TRACES_EXPORTER": "otlp"}
EVERY = ["Meter", "Tracer", "Logger"]
ONE = ["Meter", "ProxyTracer", "ProxyLogger"]

OF_EVERYTHING = {
    "OTEL_SDK_DISABLED": "maybe",
    "OTEL_METRICS_EXEMPLAR_FILTER": "none",
    "OTEL_METRIC_EXPORT_TIMEOUT": "abc",
    "OTEL_RESOURCE_ATTRIBUTES": "nonsense",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nope",
    "OTEL_PYTHON_METER_CONFIGURATOR": "nope",
    "OTEL_PYTHON_TRACER_CONFIGURATOR": "nope",
    "OTEL_PYTHON_LOGGER_CONFIGURATOR": "nope",
    "OTEL_PYTHON_TRACER_PROVIDER": "nope",
    "OTEL_PYTHON_LOGGER_PROVIDER": "nope",
    "OTEL_PYTHON_ID_GENERATOR": "nope",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "maybe",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "maybe",
    "OTEL_PYTHON_EXCLUDED_URLS": "[",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "abc",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "long",
    "OTEL_BSP_MAX_QUEUE_SIZE": "0",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1e3",
    "OTEL_BSP_SCHEDULE_DELAY": "-1",
    "OTEL_BLRP_MAX_QUEUE_SIZE": "abc",
    "OTEL_BLRP_EXPORT_TIMEOUT": "abc",
    "OTEL_TRACES_SAMPLER": "nope",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
    "OTEL_EXPORTER_OTLP_HEADERS": "nonsense",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem",
    "OTEL_EXPORTER_OTLP_INSECURE": "maybe",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "sometimes",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "bars",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "NOPE",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER": "nope",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "nope",
}
UNREAD_BY_METRICS = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY", "OTEL_EXPORTER_OTLP_METRICS_DEFAULT")


@pytest.mark.parametrize(
    ("others", "bad", "providers"),
    [
        # One value each, with what else there was when it took everything away.
        (TRACES, {"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, ["Meter", "Tracer", "ProxyLogger"]),
        (ALL, {"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "zstd"}, EVERY),
        (METRICS, {"OTEL_METRICS_EXEMPLAR_FILTER": "none"}, ONE),
        (METRICS, {"OTEL_CONFIG_FILE": "/nowhere/otel.yaml"}, ONE),
        (METRICS, {"OTEL_PYTHON_DISTRO": "nope"}, ONE),
        (METRICS, {"OTEL_PYTHON_CONFIGURATOR": "nope"}, ONE),
        # Two that do not go together, and one for the sampler that is chosen.
        (GRPC, {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_TRACES_SAMPLER_ARG": "2"}, EVERY),
        # Each of them, at once.
        (GRPC, OF_EVERYTHING, EVERY),
        (HTTP, OF_EVERYTHING, EVERY),
        (METRICS, {k: v for k, v in OF_EVERYTHING.items() if not k.startswith(UNREAD_BY_METRICS)}, ONE),
    ],
)
def test_a_bad_value_costs_one_line_that_names_its_variable(
    start: Start, python: NewPython, free_port: int, others: dict[str, str], bad: dict[str, str], providers: list[str]
) -> None:
    if "OTEL_TRACES_SAMPLER_ARG" in bad:
        others = others | {"OTEL_TRACES_SAMPLER": "traceidratio"}
    installed = (*environments.OTLP, environments.CONFIGURATION)
    child = start(
        CODE,
        interpreter=python(without=[name for name in environments.OPTIONAL if name not in installed]),
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
        **(others | bad),
    )

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert json.loads(child.stdout) == providers
    unnamed = [line for line in child.stderr.splitlines() if not any(name in line for name in bad)]
    assert unnamed == []
    # A line that names two variables is about both.
    assert {name for name in bad for line in child.stderr.splitlines() if name in line} == set(bad)
    assert len(child.stderr.splitlines()) == len(bad)


ACME = """
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
class Metrics(ConsoleMetricExporter):
    def __init__(self): raise ValueError("no licence")
class Spans(ConsoleSpanExporter):
    def __init__(self): raise ValueError("no licence")
"""
ACME_ENTRY_POINTS = """
[opentelemetry_metrics_exporter]
acme = acme:Metrics
[opentelemetry_traces_exporter]
acme = acme:Spans
"""


@pytest.mark.parametrize(
    ("variables", "providers", "line"),
    [
        ({"OTEL_METRICS_EXPORTER": "acme,prometheus"}, ONE, "OTEL_METRICS_EXPORTER: "),
        (
            {"OTEL_METRICS_EXPORTER": "acme,prometheus", "OTEL_TRACES_EXPORTER": "acme,console"},
            ["Meter", "Tracer", "ProxyLogger"],
            "OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER: ",
        ),
    ],
)
def test_an_exporter_that_refuses_to_be_made_is_left_out(
    start: Start, tmp_path: Path, free_port: int, variables: dict[str, str], providers: list[str], line: str
) -> None:
    package = environments.package(tmp_path / "acme", "acme", ACME, ACME_ENTRY_POINTS)
    child = start(CODE, PYTHONPATH=str(package), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), **variables)

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert json.loads(child.stdout) == providers
    assert child.stderr == f"{line}acme is left out (ValueError: no licence)\n"


SAMPLER = """
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk import trace
def refuse(*args, **kwargs): raise ValueError("no spans today")
def make(argument):
    trace.SpanLimits.__init__ = refuse
    return ALWAYS_ON
"""


def test_a_signal_that_cannot_be_set_up_is_left_out(start: Start, tmp_path: Path, free_port: int) -> None:
    entry_points = "[opentelemetry_traces_sampler]\nacme = acme:make\n"
    package = environments.package(tmp_path / "acme", "acme", SAMPLER, entry_points)
    child = start(
        CODE,
        PYTHONPATH=str(package),
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
        OTEL_TRACES_EXPORTER="console",
        OTEL_LOGS_EXPORTER="console",
        OTEL_TRACES_SAMPLER="acme",
    )

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert json.loads(child.stdout) == ["Meter", "ProxyTracer", "Logger"]
    assert child.stderr == "OTEL_TRACES_EXPORTER: not set up (ValueError: no spans today)\n"


@pytest.mark.parametrize("content", ["{", '{"file_format": "9.0"}', '{"file_format": "1.0", "meter_provider": 5}', ""])
def test_without_a_good_file_the_variables_decide(
    start: Start, python: NewPython, tmp_path: Path, free_port: int, content: str
) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text(content)
    hidden = [name for name in environments.OPTIONAL if name != environments.CONFIGURATION]
    child = start(
        CODE,
        interpreter=python(without=hidden),
        OTEL_CONFIG_FILE=str(file),
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
    )

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert child.stderr.startswith(f"OTEL_CONFIG_FILE='{file}' is not used; using the other variables instead (")
    assert "Traceback" not in child.stderr


def test_no_compression_is_a_good_value(start: Start, python: NewPython, free_port: int) -> None:
    child = start(
        CODE,
        interpreter=python(without=[name for name in environments.OPTIONAL if name not in environments.OTLP]),
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
        OTEL_EXPORTER_OTLP_COMPRESSION="none",
        **GRPC,
    )

    child.scrape(f"http://localhost:{free_port}/metrics")
    assert child.finish() == 0
    assert json.loads(child.stdout) == EVERY
    assert child.stderr == ""


def test_a_credential_is_not_logged(start: Start, free_port: int) -> None:
    child = start(
        CODE, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), OTEL_EXPORTER_OTLP_HEADERS="Bearer secret,tenant=7"
    )

    child.scrape(f"http://localhost:{free_port}/metrics")
    assert child.finish() == 0
    assert child.stderr == "OTEL_EXPORTER_OTLP_HEADERS: a part is not of the form name=value; left out\n"
