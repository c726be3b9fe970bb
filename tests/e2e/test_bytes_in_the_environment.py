"""Bytes of the environment that are not UTF-8: the metrics leave the process all the same, with one line about it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from . import environments
from .conftest import NewPython
from .processes import Start, read
from .receiver import receiving
from .test_default_path import COUNT, UNTIL_STDIN_CLOSES, beats

NAME = "OTEL_SERVICE_NAME"
ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
# As a process gets what a shell calls $'caf\xe9'.
CAFE = "caf\udce9"
APPLICATION = COUNT + "import os; print(ascii(os.environ['OTEL_SERVICE_NAME']), flush=True)\n" + UNTIL_STDIN_CLOSES


def complaints(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "is not UTF-8" in line]


def test_a_page_shows_what_it_can(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "targets"
    child = start(
        APPLICATION,
        OTEL_EXPORTER_PROMETHEUS_PORT="0",
        OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR=str(directory),
        **{NAME: CAFE, ATTRIBUTES: f"plain=1,a{CAFE}=b,city={CAFE}"},
    )
    while not (files := list(directory.glob("*.json"))):
        assert child.process.poll() is None, child.stderr
        time.sleep(0.05)
    [group] = json.loads(files[0].read_text())

    page = read(f"http://{group['targets'][0]}/metrics")
    assert beats(page) == 3
    [target] = [line for line in page.splitlines() if line.startswith("target_info{")]
    assert 'service_name="caf\ufffd"' in target
    assert 'city="caf\ufffd"' in target
    assert 'plain="1"' in target
    assert group["labels"]["service"] == "caf\ufffd"
    assert child.finish() == 0
    assert [line.split("=")[0] for line in complaints(child.stderr)] == [NAME, ATTRIBUTES]
    assert "using 'caf\ufffd'" in complaints(child.stderr)[0]
    # The application's environment is its own.
    assert child.stdout == b"'caf\\udce9'\n"


@pytest.mark.parametrize("traces", ["none", "console"])
def test_nothing_is_lost_on_the_way_to_a_collector(start: Start, python: NewPython, traces: str) -> None:
    without = tuple(name for name in environments.OPTIONAL if name not in environments.OTLP)
    with receiving() as receiver:
        child = start(
            APPLICATION,
            interpreter=python(without),
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_TRACES_EXPORTER=traces,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http,
            **{NAME: CAFE, ATTRIBUTES: f"a{CAFE}=b"},
        )
        assert child.finish() == 0
        resources = [resource for _, request in receiver.requests for resource in request.resource_metrics]

    assert resources, child.stderr
    attributes = {pair.key: pair.value.string_value for pair in resources[-1].resource.attributes}
    assert attributes["service.name"] == "caf\ufffd"
    assert attributes["acaf\ufffd"] == "b"
    assert len(complaints(child.stderr)) == 2
    assert len(child.stderr.splitlines()) == 2


def test_a_host_that_is_none_is_replaced(start: Start, free_port: int) -> None:
    child = start(
        APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), OTEL_EXPORTER_PROMETHEUS_HOST=CAFE, **{NAME: "x"}
    )

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    [line] = child.stderr.splitlines()
    assert line.startswith("OTEL_EXPORTER_PROMETHEUS_HOST: cannot listen on 'caf\\udce9'")
