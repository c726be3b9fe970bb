"""When the Prometheus reader opens its port, and what the environment lets it show."""

from __future__ import annotations

import inspect
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from opentelemetry_instrumentation_mcp.distro.prometheus import PrometheusReader
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Mode, Role, Transport

SCOPE_INFO = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_WITHOUT_SCOPE_INFO"
RESOURCE_LABELS = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_RESOURCE_LABELS"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Any free port will do; which one is said, and the tests do not listen to that.
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")


@pytest.fixture
def make() -> Iterator[Callable[..., tuple[PrometheusReader, MeterProvider]]]:
    """A reader and its provider, which is shut down with the test."""
    providers: list[MeterProvider] = []

    def make_one(**options: Any) -> tuple[PrometheusReader, MeterProvider]:
        reader = PrometheusReader()
        providers.append(MeterProvider([reader], **options))
        return reader, providers[-1]

    yield make_one
    for provider in providers:
        provider.shutdown()


Make = Callable[..., tuple[PrometheusReader, MeterProvider]]


def is_awake(reader: PrometheusReader, within: float = 10) -> bool:
    deadline = time.monotonic() + within
    while not reader.url and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(reader.url)


def samples(reader: PrometheusReader, name: str) -> list[dict[str, str]]:
    with urllib.request.urlopen(reader.url, timeout=30) as response:
        page = response.read().decode()
    families = text_string_to_metric_families(page)
    return [sample.labels for family in families for sample in family.samples if sample.name == name]


def test_nothing_is_opened_before_there_is_something_to_tell(make: Make) -> None:
    reader, provider = make()
    counter = provider.get_meter("app").create_counter("beats")
    recorder = Recorder(provider, Limits())

    assert not is_awake(reader, within=0.3)
    counter.add(1)
    assert is_awake(reader)
    assert len(samples(reader, "beats_total")) == 1
    recorder.retire()


@pytest.mark.parametrize("event", ["serving", "open"])
def test_an_mcp_server_or_client_is_a_sign_of_life(make: Make, event: str) -> None:
    reader, provider = make()
    recorder = Recorder(provider, Limits())
    if event == "serving":
        recorder.serving(Transport.STREAMABLE_HTTP, Mode.STATELESS)
    else:
        recorder.open(Role.CLIENT, Transport.STDIO)

    assert is_awake(reader)
    [labels] = samples(reader, "mcp_connections_total")
    assert labels["mcp_role"] == ("server" if event == "serving" else "client")
    recorder.retire()


def observe(meter: Meter) -> None:
    meter.create_observable_gauge("temperature", [lambda _: [Observation(20)]])


def test_so_is_what_others_want_to_have_observed(make: Make) -> None:
    reader, provider = make()
    observe(provider.get_meter("another instrumentation"))

    assert is_awake(reader)
    assert len(samples(reader, "temperature")) == 1


@pytest.mark.parametrize("module", ["resource_tracker", "forkserver"])
def test_but_not_in_a_helper_of_multiprocessing(make: Make, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", f"from multiprocessing.{module} import main;main(5)"])
    reader, provider = make()
    observe(provider.get_meter("another instrumentation"))

    assert not is_awake(reader, within=0.3)


def test_the_sdk_is_as_it_was_afterwards(make: Make) -> None:
    reader, provider = make()
    consumer: object = getattr(provider, "_measurement_consumer")  # noqa: B009
    watched = {"consume_measurement", "register_asynchronous_instrument"}
    assert watched <= set(vars(consumer))
    provider.get_meter("app").create_counter("beats").add(1)

    assert not watched & set(vars(consumer))
    assert is_awake(reader)


def test_an_sdk_of_another_shape_gets_the_page_at_once() -> None:
    def collect(*_: object, **__: object) -> None: ...

    reader = PrometheusReader()
    reader._set_collect_callback(collect)  # pyright: ignore[reportPrivateUsage]

    assert is_awake(reader)
    reader.shutdown()


def test_a_reader_that_was_shut_down_does_not_wake_up(make: Make) -> None:
    reader, provider = make()
    counter = provider.get_meter("app").create_counter("beats")
    reader.shutdown()
    counter.add(1)

    assert not is_awake(reader, within=0.3)


SCOPE = {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"}
OPTIONS = set(inspect.signature(PrometheusMetricReader.__init__).parameters)
needs_options = pytest.mark.skipif(
    not {"scope_info_enabled", "resource_attribute_filter"} <= OPTIONS, reason="older exporters have no such options"
)


@needs_options
@pytest.mark.parametrize(("value", "labels"), [("", SCOPE), ("false", SCOPE), ("TRUE", set[str]()), ("maybe", SCOPE)])
def test_scope_labels(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str,
    labels: set[str],
) -> None:
    monkeypatch.setenv(SCOPE_INFO, value)
    reader, provider = make()
    provider.get_meter("app").create_counter("beats").add(1)

    assert is_awake(reader)
    [found] = samples(reader, "beats_total")
    assert found.keys() == labels
    complaints = [message for message in caplog.messages if SCOPE_INFO in message]
    assert complaints == ([f"{SCOPE_INFO}='maybe' is neither true nor false; using false"] if value == "maybe" else [])


@needs_options
def test_resource_attributes_as_labels(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(RESOURCE_LABELS, "service.name, deployment.environment.name ,a b,")
    attributes = {"service.name": "weather", "deployment.environment.name": "test", "host.name": "here"}
    reader, provider = make(resource=Resource(attributes))
    provider.get_meter("app").create_counter("beats").add(1)

    assert is_awake(reader)
    [found] = samples(reader, "beats_total")
    assert {key: found[key] for key in found.keys() - SCOPE} == {
        "service_name": "weather",
        "deployment_environment_name": "test",
    }
    assert [message for message in caplog.messages if RESOURCE_LABELS in message] == [
        f"{RESOURCE_LABELS}: 'a b' is no name of an attribute; using service.name, deployment.environment.name"
    ]


def test_options_an_exporter_does_not_have_cost_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original: Any = PrometheusMetricReader.__init__

    def without_options(self: PrometheusMetricReader) -> None:
        original(self)

    monkeypatch.setattr(PrometheusMetricReader, "__init__", without_options)
    monkeypatch.setenv(SCOPE_INFO, "true")
    PrometheusReader().shutdown()

    [message] = caplog.messages
    assert "scope_info_enabled" in message
    assert message.endswith("using neither scope nor resource options")
