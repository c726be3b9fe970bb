"""What a user gets by putting ``opentelemetry-instrument`` before the command: real processes, ports and scrapes.

The process is a script with one counter and no ``mcp``: this is about the set-up, not about what is measured.
"""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from opentelemetry_instrumentation_mcp.version import __version__

from .processes import Start

DEFAULT_PORT = 9464

COUNT = "from opentelemetry import metrics; metrics.get_meter('child').create_counter('child.beats').add(3)\n"
UNTIL_STDIN_CLOSES = "import sys; sys.stdin.read()\n"
APPLICATION = COUNT + UNTIL_STDIN_CLOSES
SHOW_EXPORTER = "import os; print(os.environ['OTEL_METRICS_EXPORTER'])\n"


def beats(metrics: str) -> float:
    """The value of the application's one series; its labels differ between releases of the exporter."""
    (line,) = (line for line in metrics.splitlines() if line.startswith("child_beats_total"))
    return float(line.split()[-1])


def test_metrics_are_at_localhost_9464_when_nothing_is_set(start: Start) -> None:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError as error:
            pytest.skip(f"port {DEFAULT_PORT} of this machine is in use: {error}")

    child = start(APPLICATION)

    assert beats(child.scrape(f"http://localhost:{DEFAULT_PORT}/metrics")) == 3
    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"", "")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_default_host_answers_by_name_and_by_address(start: Start, free_port: int, host: str) -> None:
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert beats(child.scrape(f"http://{host}:{free_port}/metrics")) == 3


def test_the_resource_names_the_distro(start: Start, free_port: int) -> None:
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), OTEL_SERVICE_NAME="weather")

    metrics = child.scrape(f"http://localhost:{free_port}/metrics")

    (target_info,) = (line for line in metrics.splitlines() if line.startswith("target_info{"))
    assert 'telemetry_distro_name="opentelemetry-distro-mcp"' in target_info
    assert f'telemetry_distro_version="{__version__}"' in target_info
    assert 'service_name="weather"' in target_info


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_variables_count_as_unset(start: Start, free_port: int, empty: str) -> None:
    child = start(
        APPLICATION,
        OTEL_METRICS_EXPORTER=empty,
        OTEL_TRACES_EXPORTER=empty,
        OTEL_METRIC_EXPORT_INTERVAL=empty,
        OTEL_EXPORTER_PROMETHEUS_HOST=empty,
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
    )

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"", "")


@pytest.mark.parametrize("off", [{"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_there_is_no_listener_when_metrics_are_switched_off(start: Start, taken_port: int, off: dict[str, str]) -> None:
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port), **off)

    assert child.finish() == 0
    # A reader would have complained about the port.
    assert (child.stdout, child.stderr) == (b"", "")


def test_the_launchers_flag_wins_over_the_default(start: Start, taken_port: int) -> None:
    child = start(
        APPLICATION + SHOW_EXPORTER, "--metrics_exporter", "none", OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port)
    )

    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"none\n", "")


@pytest.mark.parametrize("exporters", ["prometheus", "console, prometheus"])
def test_prometheus_by_name_is_the_reader_that_bears_a_taken_port(
    start: Start, taken_port: int, exporters: str
) -> None:
    child = start(APPLICATION, OTEL_METRICS_EXPORTER=exporters, OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port))

    assert beats(child.scrape(child.announced_url())) == 3


def test_a_taken_port_costs_one_line_that_says_where_the_metrics_are(start: Start, taken_port: int) -> None:
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(taken_port))

    url = child.announced_url()
    assert beats(child.scrape(url)) == 3
    assert child.finish() == 0
    assert child.stdout == b""
    assert child.stderr == (
        f"OTEL_EXPORTER_PROMETHEUS_PORT: cannot listen on localhost:{taken_port} (Address already in use); "
        f"the metrics of this process are at {url}\n"
    )


def test_two_processes_with_one_configuration_both_serve_their_metrics(start: Start, free_port: int) -> None:
    first = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    assert beats(first.scrape(f"http://localhost:{free_port}/metrics")) == 3

    second = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))
    url = second.announced_url()

    assert url != f"http://localhost:{free_port}/metrics"
    assert beats(second.scrape(url)) == 3


@pytest.mark.parametrize("port", ["abc", "70000", "-1"])
def test_a_bad_port_becomes_the_default_one_and_is_named(start: Start, port: str) -> None:
    # The default port may be in use where the tests run; then there is a second remark, still in the same line.
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_PORT=port)

    assert beats(child.scrape(child.announced_url())) == 3
    assert child.finish() == 0
    (line,) = child.stderr.splitlines()
    assert line.startswith(f"OTEL_EXPORTER_PROMETHEUS_PORT='{port}' is not a port; ")
    assert "localhost:9464" in line


def test_an_unusable_host_becomes_localhost_and_is_named(start: Start, free_port: int) -> None:
    child = start(APPLICATION, OTEL_EXPORTER_PROMETHEUS_HOST="a..b", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert beats(child.scrape(f"http://localhost:{free_port}/metrics")) == 3
    assert child.finish() == 0
    (line,) = child.stderr.splitlines()
    assert line.startswith("OTEL_EXPORTER_PROMETHEUS_HOST: cannot listen on 'a..b' (")
    assert line.endswith(f" at http://localhost:{free_port}/metrics")


def test_a_bad_interval_does_not_stop_the_set_up(start: Start) -> None:
    child = start(COUNT, OTEL_METRICS_EXPORTER="console", OTEL_METRIC_EXPORT_INTERVAL="-5")

    assert child.finish() == 0
    complaint, *exported = child.stderr.splitlines()
    assert complaint == "OTEL_METRIC_EXPORT_INTERVAL='-5' is not a positive number of milliseconds; using 10000"
    assert "child.beats" in "".join(exported)


@pytest.mark.parametrize("chosen", [None, "prometheus", " console , prometheus"])
def test_child_processes_inherit_the_standard_name(start: Start, free_port: int, chosen: str | None) -> None:
    variables = {} if chosen is None else {"OTEL_METRICS_EXPORTER": chosen}
    child = start(SHOW_EXPORTER, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), **variables)

    assert child.finish() == 0
    assert child.stdout.decode() == f"{chosen or 'prometheus'}\n"


def test_console_exporters_leave_stdout_to_the_application(start: Start) -> None:
    code = (
        "import logging\n"
        "from opentelemetry import trace\n"
        "trace.get_tracer('child').start_span('child span').end()\n"
        "logging.getLogger().error('child log')\n"
    )
    child = start(
        COUNT + code,
        OTEL_METRICS_EXPORTER="console",
        OTEL_TRACES_EXPORTER="console",
        OTEL_LOGS_EXPORTER="console",
        OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
    )

    assert child.finish() == 0
    assert child.stdout == b""
    assert '"name": "child.beats"' in child.stderr
    assert '"name": "child span"' in child.stderr
    assert '"body": "child log"' in child.stderr


def test_initialize_in_code_is_the_same_set_up(start: Start, free_port: int) -> None:
    initialize = "from opentelemetry.instrumentation.auto_instrumentation import initialize; initialize()\n"
    child = start(initialize + APPLICATION, launcher=False, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    metrics = child.scrape(f"http://localhost:{free_port}/metrics")

    assert beats(metrics) == 3
    assert 'telemetry_distro_name="opentelemetry-distro-mcp"' in metrics
    assert child.finish() == 0
    assert (child.stdout, child.stderr) == (b"", "")
