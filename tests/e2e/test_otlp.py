"""OTLP over gRPC and HTTP: exact values at a receiver of the test's own, and a collector that nobody here wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.catalogue import CATALOGUE

from ..points import DIRECTION, METHOD, ROLE, Points
from ..sdk.test_exactness import bounded
from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Start
from .receiver import receiving
from .test_last_interval import STDIO_SERVER, end, use_stdio
from .test_scrape import wait_for_http

ROOT = Path(__file__).parents[2]
SCENARIO = "from tests.e2e import otlp_scenario; otlp_scenario.main({!r})"
WITH_OTLP = tuple(name for name in environments.OPTIONAL if name not in environments.OTLP)


def by_series(points: Points) -> dict[tuple[str, str], Any]:
    """Values by metric and attributes; sums to a millionth, for they are added up in another order."""
    return {
        (point.metric, json.dumps(point.attributes, sort_keys=True)): (
            point.value,
            pytest.approx(point.total, rel=1e-6),
            list(point.buckets),
        )
        for point in points.all
        # Observed at another moment, it is another value.
        if point.metric != catalogue.MEMORY_USAGE.name
    }


def requests(points: Points, role: str, direction: str) -> dict[str, float]:
    where = {ROLE: role, DIRECTION: direction, "mcp.transport": "sse"}
    return points.by(METHOD, "mcp.requests.total", where)


@pytest.mark.parametrize(("protocol", "temporality"), [("grpc", "cumulative"), ("http/protobuf", "delta")])
def test_every_metric_arrives_with_its_exact_values(
    start: Start, python: NewPython, tmp_path: Path, protocol: str, temporality: str
) -> None:
    report = tmp_path / "report.json"
    with receiving() as receiver:
        child = start(
            SCENARIO.format(str(report)),
            interpreter=python(without=WITH_OTLP),
            PYTHONPATH=str(ROOT),
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc if protocol == "grpc" else receiver.http,
            OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality,
            # Often enough for the values of a series to come in several parts.
            OTEL_METRIC_EXPORT_INTERVAL="300",
        )
        assert child.finish() == 0, child.stderr

    accounts = json.loads(report.read_text())
    points = receiver.points()
    assert {name for name, _ in receiver.requests} == {protocol.partition("/")[0]}
    assert len(receiver.requests) > 2
    assert receiver.temporalities() == {temporality == "delta"}
    assert {point.metric for point in points.all} == {metric.name for metric in CATALOGUE}
    assert all(point.value > 0 for point in points.select(catalogue.MEMORY_USAGE.name))
    # What another reader of the same process saw: every series of every metric, counts, sums and buckets.
    assert by_series(points) == by_series(Points.from_json(accounts["points"]))
    # What crossed the wire of one of the connections, by a tap between its ends.
    before = Points.from_json(accounts["before"])
    for role, direction, seen in (
        ("server", "inbound", "asked"),
        ("client", "outbound", "asked"),
        ("server", "outbound", "asked_back"),
        ("client", "inbound", "asked_back"),
    ):
        new = Counter(requests(points, role, direction)) - Counter(requests(before, role, direction))
        assert new == Counter(bounded(accounts["wire"][seen])), (role, direction)


@contextmanager
def rotel(directory: Path, grpc_port: int, http_port: int, *export: str) -> Generator[Path]:
    """The collector ``rotel``; yields the file it prints the metrics to that it receives.

    Args:
        directory: Where that file is made.
        grpc_port: Where it listens for OTLP over gRPC.
        http_port: And over HTTP.
        export: What it is to do with what it gets; by default nothing more.
    """
    try:
        binary = Path(import_module("rotel").__file__ or "").with_name("rotel-agent")
    except ImportError as error:
        if os.environ.get("CI"):
            pytest.fail(f"rotel is not installed: {error}")
        pytest.skip(f"rotel is not installed (pip install --pre rotel): {error}")
    output = directory / "rotel.txt"
    command = [
        str(binary),
        "start",
        *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http_port}"),
        *(export or ("--exporter", "blackhole")),
        *("--debug-log", "metrics"),
        *("--debug-log-verbosity", "detailed"),
    ]
    with output.open("wb") as file, subprocess.Popen(command, cwd=directory, stdout=file, stderr=file) as process:
        try:
            for port in (grpc_port, http_port):
                wait_for_http(port)
            yield output
        finally:
            process.kill()


def received(output: Path, service: str, metric: str) -> list[dict[str, str]]:
    """The data points of a metric in the last export of a service: attributes, and ``Value``."""
    exports = re.split(r"^ResourceMetrics #\d+$", output.read_text(), flags=re.MULTILINE)
    exports = [export for export in exports if f"service.name: Str({service})" in export]
    blocks = re.split(r"^Metric #\d+$", exports[-1], flags=re.MULTILINE) if exports else []
    points: list[dict[str, str]] = []
    for block in blocks:
        if f"-> Name: {metric}\n" in block:
            for point in re.split(r"^NumberDataPoints #\d+$", block, flags=re.MULTILINE)[1:]:
                attributes = dict(re.findall(r"-> ([\w.]+): \w+\((.*)\)$", point, flags=re.MULTILINE))
                points.append(attributes | dict(re.findall(r"^(Value): (.+)$", point, flags=re.MULTILINE)))
    return points


def test_a_collector_takes_both_protocols(
    start: Start, python: NewPython, tmp_path: Path, free_ports: list[int]
) -> None:
    grpc_port, http_port, _ = free_ports
    with rotel(tmp_path, grpc_port, http_port) as output:
        for protocol, port in (("grpc", grpc_port), ("http/protobuf", http_port)):
            server = start(
                STDIO_SERVER,
                interpreter=python(without=WITH_OTLP),
                PYTHONPATH=str(ROOT),
                OTEL_SERVICE_NAME=protocol,
                OTEL_METRICS_EXPORTER="otlp",
                OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            )
            use_stdio(server)
            assert end(server, "EOF") == 0
            assert "ERROR" not in server.stderr

        for protocol in ("grpc", "http/protobuf"):
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not (points := received(output, protocol, "mcp.requests.total")):
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.05)
            # Series that have not happened yet are there with 0.
            counts = [(point["mcp.method.name"], point["Value"]) for point in points if point["Value"] != "0"]
            assert sorted(counts) == [("initialize", "1"), ("tools/call", "3")]
