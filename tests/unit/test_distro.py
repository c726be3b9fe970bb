"""The distro, the configurator and the Prometheus reader, each on its own and in this process."""

from __future__ import annotations

import logging
import os
import socket
import sys
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from opentelemetry_instrumentation_mcp.distro import MCPConfigurator, MCPDistro
from opentelemetry_instrumentation_mcp.distro.prometheus import PrometheusReader
from opentelemetry_instrumentation_mcp.version import __version__

from .. import ports

DEFAULTS = {
    "OTEL_METRICS_EXPORTER": "prometheus",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRIC_EXPORT_INTERVAL": "10000",
}
PROMETHEUS_HOST = "OTEL_EXPORTER_PROMETHEUS_HOST"
PROMETHEUS_PORT = "OTEL_EXPORTER_PROMETHEUS_PORT"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """No OTEL_* variables at the start, and the caller's own again at the end."""
    before = dict(os.environ)
    for variable in before:
        if variable.startswith("OTEL_"):
            monkeypatch.delenv(variable)
    yield
    for variable in os.environ.keys() - before.keys():
        del os.environ[variable]


def configured() -> dict[str, str | None]:
    """What the variables are after the distro had its turn."""
    # OpenTelemetry leaves the keywords without annotations.
    MCPDistro().configure()  # pyright: ignore[reportUnknownMemberType]
    return {variable: os.environ.get(variable) for variable in DEFAULTS}


def test_the_distro_fills_in_what_is_unset() -> None:
    assert configured() == DEFAULTS


@pytest.mark.parametrize("variable", DEFAULTS)
@pytest.mark.parametrize("empty", ["", " \t"])
def test_an_empty_variable_is_filled_in_like_an_unset_one(
    monkeypatch: pytest.MonkeyPatch, variable: str, empty: str
) -> None:
    monkeypatch.setenv(variable, empty)

    assert configured() == DEFAULTS


def test_explicit_values_win_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {
        "OTEL_METRICS_EXPORTER": "otlp,console",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "2500.5",
    }
    for variable, value in chosen.items():
        monkeypatch.setenv(variable, value)

    assert configured() == chosen
    assert caplog.messages == []


@pytest.mark.parametrize("interval", ["abc", "0", "-1", "nan", "1e30", "10s"])
def test_an_interval_the_sdk_would_refuse_is_replaced_with_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, interval: str
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", interval)

    assert configured() == DEFAULTS
    assert caplog.messages == [
        f"OTEL_METRIC_EXPORT_INTERVAL='{interval}' is not a positive number of milliseconds; using 10000"
    ]


class SDK:
    """Stands in for the SDK's set-up and notes what reaches it."""

    exporters: str | None = None
    keywords: Mapping[str, Any] | None = None
    error: Exception | None = None

    def initialize(self, **keywords: Any) -> None:
        self.exporters = os.environ.get("OTEL_METRICS_EXPORTER")
        self.keywords = keywords
        if self.error:
            raise self.error


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> SDK:
    stand_in = SDK()
    # Metrics alone are set up without it.
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setattr("opentelemetry.sdk._configuration._initialize_components", stand_in.initialize)
    return stand_in


def set_up_sdk(**keywords: Any) -> None:
    MCPConfigurator().configure(**keywords)


@pytest.mark.parametrize(
    ("chosen", "seen_by_the_sdk"),
    [
        ("prometheus", "mcp_prometheus"),
        (" prometheus ", "mcp_prometheus"),
        ("console , prometheus", "console,mcp_prometheus"),
        ("console,none", "console"),
        ("none", "none"),
        (None, "none"),
    ],
)
def test_prometheus_means_our_reader_while_the_sdk_is_set_up(
    monkeypatch: pytest.MonkeyPatch, sdk: SDK, chosen: str | None, seen_by_the_sdk: str | None
) -> None:
    if chosen is not None:
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", chosen)

    set_up_sdk()

    assert sdk.exporters == seen_by_the_sdk
    assert os.environ.get("OTEL_METRICS_EXPORTER") == chosen


def _no_provider(*_: object) -> None:
    """Set up nothing."""


def test_the_standard_name_is_back_when_the_sdk_fails(monkeypatch: pytest.MonkeyPatch, sdk: SDK) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus,otlp")
    sdk.error = RuntimeError("otlp is not installed")
    # What is set up instead would be this process' for good: its page, and what it sends.
    monkeypatch.setattr("opentelemetry_instrumentation_mcp.distro._configurator._set_meter_provider", _no_provider)

    set_up_sdk()

    assert os.environ["OTEL_METRICS_EXPORTER"] == "prometheus,otlp"


def test_the_resource_attributes_name_the_distro_beside_the_callers(sdk: SDK) -> None:
    set_up_sdk(resource_attributes={"team": "weather"}, auto_instrumentation_version="1.2")

    assert sdk.keywords is not None
    assert sdk.keywords["auto_instrumentation_version"] == "1.2"
    assert sdk.keywords["resource_attributes"] == {
        "telemetry.distro.name": "opentelemetry-distro-mcp",
        "telemetry.distro.version": __version__,
        "team": "weather",
    }


def test_what_the_caller_gives_is_not_overridden(sdk: SDK) -> None:
    set_up_sdk(
        resource_attributes={"telemetry.distro.name": "theirs"},
        exporter_args_map={ConsoleMetricExporter: {"out": sys.stdout}},
    )

    assert sdk.keywords is not None
    assert sdk.keywords["resource_attributes"]["telemetry.distro.name"] == "theirs"
    assert sdk.keywords["exporter_args_map"][ConsoleMetricExporter] == {"out": sys.stdout}
    assert sdk.keywords["exporter_args_map"][ConsoleSpanExporter] == {"out": sys.stderr}


@pytest.mark.parametrize("disabled", ["true", " True "])
def test_a_disabled_sdk_is_not_set_up_at_all(monkeypatch: pytest.MonkeyPatch, sdk: SDK, disabled: str) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", disabled)

    set_up_sdk()

    assert sdk.keywords is None


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, configured for the reader."""
    port = ports.free_port()
    monkeypatch.setenv(PROMETHEUS_PORT, str(port))
    return port


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Generator[int]:
    """A port that is in use, configured for the reader."""
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port: int = other.getsockname()[1]
        monkeypatch.setenv(PROMETHEUS_PORT, str(port))
        yield port


@pytest.fixture
def readers() -> Generator[list[PrometheusReader]]:
    """Readers that a test adds here are shut down with it."""
    opened: list[PrometheusReader] = []
    yield opened
    for reader in opened:
        reader.shutdown()


def listening() -> PrometheusReader:
    """A reader that does not wait for a sign of life."""
    reader = PrometheusReader()
    reader.start()
    return reader


def scrape(reader: PrometheusReader) -> list[str]:
    with urllib.request.urlopen(reader.url, timeout=30) as response:
        return response.read().decode().splitlines()


def is_listening(port: int) -> bool:
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_reader_that_is_as_configured_logs_nothing_above_debug(
    free_port: int, readers: list[PrometheusReader], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "opentelemetry_instrumentation_mcp"):
        readers.append(reader := listening())

    assert (reader.host, reader.port, reader.url) == ("localhost", free_port, f"http://localhost:{free_port}/metrics")
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


@pytest.mark.parametrize(
    ("host", "named"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("127.0.0.2", "127.0.0.2")]
)
def test_the_url_can_be_scraped_whatever_the_host_is(
    monkeypatch: pytest.MonkeyPatch, free_port: int, readers: list[PrometheusReader], host: str, named: str
) -> None:
    monkeypatch.setenv(PROMETHEUS_HOST, host)

    readers.append(reader := listening())

    assert reader.host == host
    assert reader.url == f"http://{named}:{free_port}/metrics"
    assert any(line.startswith("python_info") for line in scrape(reader))


def test_an_ipv6_host_is_in_brackets_in_the_url(
    monkeypatch: pytest.MonkeyPatch, free_port: int, readers: list[PrometheusReader]
) -> None:
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    monkeypatch.setenv(PROMETHEUS_HOST, "::1")

    readers.append(reader := listening())

    assert reader.url == f"http://[::1]:{free_port}/metrics"
    assert scrape(reader)


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 64, "[::1]", "no such host"])
def test_an_unusable_host_on_a_taken_port_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch,
    taken_port: int,
    readers: list[PrometheusReader],
    caplog: pytest.LogCaptureFixture,
    host: str,
) -> None:
    monkeypatch.setenv(PROMETHEUS_HOST, host)

    readers.append(reader := listening())

    assert reader.host == "localhost"
    assert reader.port not in (0, taken_port)
    (line,) = caplog.messages
    assert f"{PROMETHEUS_HOST}: cannot listen on '{host}' (" in line
    assert f"{PROMETHEUS_PORT}: cannot listen on localhost:{taken_port} (" in line
    assert line.endswith(f" at {reader.url}")
    assert scrape(reader)


def test_port_0_is_the_systems_choice_and_said_because_nobody_could_know_it(
    monkeypatch: pytest.MonkeyPatch, readers: list[PrometheusReader], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(PROMETHEUS_PORT, "0")

    readers.append(reader := listening())

    (line,) = caplog.messages
    assert line.endswith(f" at {reader.url}")
    assert scrape(reader)


def test_a_reader_that_cannot_listen_at_all_says_so_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, free_port: int, readers: list[PrometheusReader], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no sockets today")

    monkeypatch.setattr("socket.socket.listen", refuse)

    readers.append(reader := listening())
    provider = MeterProvider(metric_readers=[reader])
    provider.get_meter("test").create_counter("beats").add(1)
    provider.shutdown()

    assert (reader.port, reader.url) == (0, "")
    assert caplog.messages == ["cannot listen (no sockets today); the metrics of this process are not served"]
    assert not is_listening(free_port)


def test_a_flush_leaves_the_next_scrape_as_it_would_have_been(free_port: int, readers: list[PrometheusReader]) -> None:
    readers.append(reader := listening())
    provider = MeterProvider(metric_readers=[reader])
    provider.get_meter("test").create_counter("flushed.beats").add(1)

    assert provider.force_flush()
    assert provider.force_flush()

    lines = [line for line in scrape(reader) if "flushed_beats_total" in line]
    assert [line.split()[-1] for line in lines if not line.startswith("#")] == ["1.0"]
    assert lines.count("# TYPE flushed_beats_total counter") == 1


def test_an_exponential_histogram_is_left_out_and_the_rest_is_served(
    free_port: int, readers: list[PrometheusReader], caplog: pytest.LogCaptureFixture
) -> None:
    readers.append(reader := listening())
    exponential = View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())
    meter = MeterProvider(metric_readers=[reader], views=[exponential]).get_meter("test")
    meter.create_histogram("sizes").record(1)
    meter.create_counter("left.beats").add(1)

    for _ in range(2):
        lines = scrape(reader)
        assert any(line.startswith("left_beats_total") for line in lines)
        assert not any(line.startswith("sizes") for line in lines)
    assert caplog.messages == ["sizes is left out: Prometheus' text format has no exponential histograms"]


def test_a_scrape_can_ask_for_single_names(free_port: int, readers: list[PrometheusReader]) -> None:
    readers.append(reader := listening())

    with urllib.request.urlopen(f"{reader.url}?name[]=python_info", timeout=30) as response:
        samples = [line for line in response.read().decode().splitlines() if not line.startswith("#")]

    assert [line.partition("{")[0] for line in samples] == ["python_info"]


def test_shutdown_closes_the_listener_and_can_be_repeated(free_port: int) -> None:
    reader = listening()
    assert is_listening(free_port)

    reader.shutdown()
    reader.shutdown()

    assert not is_listening(free_port)
    # The port and the registry are free for the next one.
    successor = listening()
    assert successor.port == free_port
    successor.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_end_of_a_forked_child_leaves_the_parents_listener_alone(
    free_port: int, readers: list[PrometheusReader]
) -> None:
    readers.append(reader := listening())
    child = os.fork()
    if child == 0:
        status = 1
        try:
            reader.shutdown()
            status = 0
        finally:
            os._exit(status)

    assert os.waitpid(child, 0) == (child, 0)
    assert scrape(reader)
