from __future__ import annotations

from dataclasses import fields

import pytest

from opentelemetry_instrumentation_mcp.configuration import Configuration
from opentelemetry_instrumentation_mcp.core import environment_variables
from opentelemetry_instrumentation_mcp.core.environment_variables import (
    OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS,
    OTEL_INSTRUMENTATION_MCP_MAX_NAMES,
)
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.tracing.choices import Choices


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, raising=False)
    monkeypatch.delenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, raising=False)


def test_without_variables_the_limits_are_the_documented_ones(caplog: pytest.LogCaptureFixture) -> None:
    assert Limits.from_environment() == Limits(
        attribute_sets=1000,
        names=100,
        servers=50,
        methods=50,
        exceptions=50,
        addresses=100,
        interceptors=50,
        pools=100,
    )
    assert not caplog.records


@pytest.mark.parametrize(("text", "limit"), [("10", 10), ("1900", 1900), (" 500 ", 500)])
def test_the_number_of_attribute_sets_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str, limit: int
) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, text)
    assert Limits.from_environment() == Limits(attribute_sets=limit)
    assert not caplog.records


@pytest.mark.parametrize(("text", "limit"), [("0", 0), ("1900", 1900)])
def test_the_number_of_names_can_be_chosen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str, limit: int
) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, text)
    assert Limits.from_environment() == Limits(names=limit)
    assert not caplog.records


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_variable_is_an_unset_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, text)
    assert Limits.from_environment() == Limits()
    assert not caplog.records


@pytest.mark.parametrize(
    ("variable", "text", "used"),
    [
        (OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, "many", 1000),
        (OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, "9", 1000),
        (OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, "1901", 1000),
        (OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, "100.0", 1000),
        (OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "-1", 100),
        (OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "1901", 100),
        (OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "1e3", 100),
    ],
)
def test_a_bad_value_costs_one_line_that_names_the_variable_and_the_value_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, text: str, used: int
) -> None:
    monkeypatch.setenv(variable, text)
    assert Limits.from_environment() == Limits()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    assert variable in message
    assert repr(text) in message
    assert message.endswith(f"using {used}")


def test_two_bad_values_cost_a_line_each(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_ATTRIBUTE_SETS, "x")
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "y")
    Limits.from_environment()
    assert len(caplog.records) == 2


def test_an_option_of_instrument_wins_over_its_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_MCP_MAX_NAMES, "50")
    assert Limits.chosen({"max_names": 7, "max_attribute_sets": None}) == Limits(names=7)
    assert not caplog.records


@pytest.mark.parametrize("value", ["many", 1.5, -1, 1901, True])
def test_an_option_that_is_no_good_is_replaced_with_one_line(caplog: pytest.LogCaptureFixture, value: object) -> None:
    assert Limits.chosen({"max_names": value}) == Limits()
    assert caplog.messages == [f"max_names={value!r} is not a whole number from 0 to 1900; using 100"]


def test_every_option_of_the_configuration_has_its_variable_and_means_something() -> None:
    for option in fields(Configuration):
        assert hasattr(environment_variables, f"OTEL_INSTRUMENTATION_MCP_{option.name.upper()}")
        limits = Limits.chosen({option.name: 11})
        choices = [Choices.chosen({option.name: value}) for value in (False, "mcp.session.id")]
        assert limits != Limits() or any(each != Choices() for each in choices)
