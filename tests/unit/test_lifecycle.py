"""What happens at a fork and at the end, in the order in which services have registered it."""

from __future__ import annotations

import logging

import pytest

from opentelemetry_instrumentation_mcp.core import fail_open
from opentelemetry_instrumentation_mcp.install import Installation
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.sdk.lifecycle import Lifecycle


def test_the_end_runs_in_order_and_once_and_what_is_registered_meanwhile_comes_last() -> None:
    lifecycle, seen = Lifecycle(), list[str]()

    def first() -> None:
        seen.append("first")
        lifecycle.at_end(lambda: seen.append("last"))

    lifecycle.at_end(first)
    lifecycle.at_end(lambda: seen.append("second"))
    lifecycle.end()
    lifecycle.end()
    assert seen == ["first", "second", "last"]


def test_a_service_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    fail_open._reports.clear()  # pyright: ignore[reportPrivateUsage]
    caplog.set_level(logging.WARNING)
    lifecycle, seen = Lifecycle(), list[str]()

    def failing() -> None:
        raise ValueError

    for register in (lifecycle.at_fork, lifecycle.at_end):
        register(failing)
        register(lambda: seen.append("next"))
    lifecycle.fork()
    lifecycle.end()
    assert seen == ["next", "next"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the instrumentation of MCP has not followed a fork as a whole",
        "the instrumentation of MCP was not taken back as a whole",
    ]


def test_nothing_follows_a_fork_after_the_end() -> None:
    installation = Installation(Recorder(), {})
    installation.end()
    installation.lifecycle.fork()
    assert installation.state.recorder is None


def test_the_recorder_is_withdrawn_first_and_retired_last(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, seen = Recorder(), list[str]()
    installation = Installation(recorder, {})
    state = installation.state
    installation.lifecycle.at_end(lambda: seen.append("tables cleared" if state.recorder is None else "too early"))
    monkeypatch.setattr(recorder, "retire", lambda: seen.append("retired"))
    installation.end()
    assert seen == ["tables cleared", "retired"]


def test_a_forked_child_starts_from_nothing_in_the_very_tables_that_wrappers_hold() -> None:
    installation = Installation(Recorder(), {})
    before, incoming = installation.state.recorder, installation.sizes.incoming
    incoming[1] = 2
    installation.lifecycle.fork()
    assert installation.state.recorder not in (None, before)
    assert installation.sizes.incoming is incoming
    assert incoming == {}
    installation.end()
