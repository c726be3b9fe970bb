from __future__ import annotations

import asyncio
import inspect
import logging

import pytest

from opentelemetry_instrumentation_mcp.core import fail_open
from opentelemetry_instrumentation_mcp.core.fail_open import QUIET_SECONDS, contained, guard, report, report_failure

_LOGGER = "opentelemetry_instrumentation_mcp"


class _Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(fail_open, "time", clock)
    return clock


@contained
def _divide(dividend: int, *, divisor: int) -> float:
    return dividend / divisor


_LINE = inspect.unwrap(_divide).__code__.co_firstlineno + 2


def _messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == _LOGGER]


def test_a_contained_function_returns_what_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    assert _divide(6, divisor=3) == 2.0
    assert not caplog.records


def test_a_contained_function_keeps_its_name() -> None:
    assert _divide.__name__ == "_divide"


def test_a_contained_function_returns_none_instead_of_raising(caplog: pytest.LogCaptureFixture) -> None:
    assert _divide(1, divisor=0) is None
    assert _messages(caplog) == [f"a metric was lost in _divide: ZeroDivisionError at test_fail_open.py:{_LINE}"]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_guard_names_what_was_lost_whichever_way_it_is_used(caplog: pytest.LogCaptureFixture) -> None:
    @guard("a page was not rendered")
    def render() -> str:
        raise ValueError

    assert render() is None
    with guard("the page was not opened"):
        raise KeyError
    first, second = _messages(caplog)
    assert first.startswith("a page was not rendered: ValueError at test_fail_open.py:")
    assert second.startswith("the page was not opened: KeyError at test_fail_open.py:")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_a_guarded_block_lets_pass_what_is_meant_for_the_interpreter(error: type[BaseException]) -> None:
    with pytest.raises(error), guard("nothing"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_meant_for_the_interpreter_or_the_event_loop_passes(error: type[BaseException]) -> None:
    @contained
    def stop() -> None:
        raise error

    with pytest.raises(error):
        stop()


@pytest.mark.usefixtures("clock")
def test_a_failure_that_repeats_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        _divide(1, divisor=0)
    assert len(_messages(caplog)) == 1


def test_the_next_report_counts_what_was_swallowed_meanwhile(clock: _Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(4):
        _divide(1, divisor=0)
    clock.now += QUIET_SECONDS
    _divide(1, divisor=0)
    clock.now += QUIET_SECONDS
    _divide(1, divisor=0)
    assert [message.partition(f".py:{_LINE}")[2] for message in _messages(caplog)] == [
        "",
        " (3 more since the last report)",
        "",
    ]


def test_silence_is_counted_from_the_report_and_not_from_the_last_failure(
    clock: _Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        _divide(1, divisor=0)
        clock.now += QUIET_SECONDS * 0.5
    assert len(_messages(caplog)) == 2


@pytest.mark.usefixtures("clock")
def test_a_failing_function_does_not_silence_another(caplog: pytest.LogCaptureFixture) -> None:
    report("here", ValueError("a"))
    report("there", ValueError("b"))
    assert len(_messages(caplog)) == 2


@pytest.mark.parametrize("now", [0.0, 0.1, 59.9])
def test_the_first_failure_is_reported_right_after_the_machine_has_started(
    clock: _Clock, caplog: pytest.LogCaptureFixture, now: float
) -> None:
    clock.now = now
    report("here", ValueError("a"))
    assert len(_messages(caplog)) == 1


def test_what_an_error_quotes_is_for_debugging_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, _LOGGER)
    report("here", ValueError("secret"))
    told, traced = caplog.records
    assert told.getMessage() == "a metric was lost in here: ValueError at an unknown line"
    assert told.exc_info is None
    assert (traced.levelno, "secret" in str(traced.exc_info)) == (logging.DEBUG, True)


def test_a_report_survives_an_exception_that_cannot_be_shown() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    report("here", Unspeakable())


def test_a_report_survives_a_logging_handler_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError

    monkeypatch.setattr(logging.getLogger(_LOGGER), "handlers", [Broken()])
    report("here", ValueError("a"))


def test_what_failed_is_named_where_it_was_no_metric(caplog: pytest.LogCaptureFixture) -> None:
    report_failure("a scrape failed", ValueError("secret"))
    report("here", ValueError())
    assert _messages(caplog) == [
        "a scrape failed: ValueError at an unknown line",
        "a metric was lost in here: ValueError at an unknown line",
    ]
