"""The guard, and the hand-written ``try`` statements that stand in its place.

:data:`BY_HAND` names every ``try`` that reports a failure itself, by the reason why no guard is there. The list may
only shrink: a test fails for one that is not in it, and for an entry that is not there any more. To renew it, print it,
put it in the place of the old one, and run ``ruff format``::

    python -m tests.unit.test_fail_open
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import opentelemetry_instrumentation_mcp
from opentelemetry_instrumentation_mcp.core import fail_open
from opentelemetry_instrumentation_mcp.core.fail_open import QUIET_SECONDS, contained, guard, report, report_failure

from ..robust import injection

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


CATCHES_OTHERS: Final = "it has other handlers, or catches something else than Exception"
DOES_MORE: Final = "it does something else on failure than to report, or reports only some failures"
HOT: Final = "it is in the way of a measurement, where a guard costs another call"
ITSELF: Final = "it is the guard"
NONE: Final = "a guard would do"

BY_HAND: Final[Mapping[str, tuple[str, ...]]] = {
    # 6
    CATCHES_OTHERS: (
        "distro.endpoint Endpoint._return",
        "distro.listener _Exchange._scrape",
        "distro.pages _Place.keep",
        "distro.siblings Family.ask",
        "distro.siblings _answer",
        "sdk.outbound reset",
    ),
    # 5
    DOES_MORE: (
        "distro.listener Listener._serve",
        "distro.listener Listener._start_making",
        "distro.prometheus PrometheusReader._wake",
        "sdk.interceptors.guards _edge.guard",
        "sdk.v2.dispatcher _dispatch._dispatch",
    ),
    # 60
    HOT: (
        "metrics.buffers.value_buffer RowBuffer.keep",
        "metrics.events Recorder.open",
        "metrics.events Recorder.pooled",
        "metrics.events Recorder.task_started",
        "metrics.store.connection Connection.begin",
        "metrics.store.connection Connection.close",
        "metrics.store.connection Connection.close_exchange",
        "metrics.store.connection Request.end",
        "metrics.store.interceptors Interceptor.dealt",
        "patching.arguments Parameter.change",
        "patching.arguments Parameter.is_given",
        "patching.arguments Parameter.of",
        "patching.arguments Parameter.put",
        "sdk.http_client Post.of",
        "sdk.http_client _factory.on_request",
        "sdk.http_client _factory.on_response",
        "sdk.http_client _handle_post.handle_post_request",
        "sdk.http_client _on_request",
        "sdk.http_client _on_response",
        "sdk.http_edge Answer.finished",
        "sdk.http_edge Answer.send",
        "sdk.http_edge watch",
        "sdk.http_pool _handle_first",
        "sdk.http_pool _handle_request.handle_async_request",
        "sdk.http_pool _send_request_headers.send_request_headers",
        "sdk.interceptors.chain _compose._compose_server_middleware",
        "sdk.interceptors.guards _AnswerBehind.app",
        "sdk.interceptors.guards _AnswerBehind.left",
        "sdk.interceptors.guards _Gate.decide",
        "sdk.interceptors.guards _edge.guard",
        "sdk.interceptors.guards _validate_request.validate_request",
        "sdk.interceptors.interception Interceptors.of",
        "sdk.interceptors.interception through",
        "sdk.sizes _dump.model_dump_json",
        "sdk.sizes _measured.model_dump_json",
        "sdk.sizes _validate.validate_json",
        "sdk.sizes _validate_v1.model_validate_json",
        "sdk.v1.session SessionObserver.received",
        "sdk.v1.session SessionObserver.sending",
        "sdk.v1.session SessionObserver.settle",
        "sdk.v2.direct _handle_requests.on_request_seen",
        "sdk.v2.dispatcher _spawn._spawn",
        "sdk.v2.dispatcher _write._write",
        "sdk.v2.dispatcher _write_result._write_result",
        "sdk.v2.exchange _Exchange.finished",
        "sdk.v2.exchange _Exchange.goes_out",
        "sdk.v2.exchange _check_accept_headers.check_accept_headers",
        "sdk.v2.exchange _open",
        "sdk.v2.exchange _serve_one.serve_one",
        "sdk.v2.exchange _serve_one.serve_one",
        "sdk.v2.exchange _serve_one.serve_one",
        "sdk.v2.messages answered",
        "sdk.v2.seam DispatcherSide.closed",
        "sdk.v2.seam RunWith.watched_notifications",
        "sdk.v2.seam side_of",
        "sdk.v2.untraced UntracedMiddleware.idle_context",
        "sdk.v2.untraced _extract_trace_context.extract_trace_context",
        "sdk.v2.untraced _inject_trace_context.inject_trace_context",
        "sdk.v2.untraced _otel_span.otel_span",
        "sdk.v2.untraced _restore",
    ),
    # 1
    ITSELF: ("core.fail_open guard.__call__.guarded",),
}
"""Where a failure is reported by hand: the module and the function, once for each handler, by the reason."""

_SOURCE: Final = Path(opentelemetry_instrumentation_mcp.__file__).parent
_REPORTS: Final = ("report", "report_failure")
_HOT_PARTS: Final = ("metrics.", "sdk.", "patching.arguments ")


def _is_report(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REPORTS


def _reason(place: str, statement: ast.Try, handler: ast.ExceptHandler) -> str:
    if place.startswith("core.fail_open "):
        return ITSELF
    caught = handler.type.id if isinstance(handler.type, ast.Name) else ""
    if len(statement.handlers) > 1 or caught != "Exception":
        return CATCHES_OTHERS
    # What is returned can as well be returned behind a guard.
    body = [each for each in handler.body if not isinstance(each, ast.Return)]
    if len(body) > 1 or not isinstance(body[0], ast.Expr) or not _is_report(body[0].value):
        return DOES_MORE
    return HOT if place.startswith(_HOT_PARTS) else NONE


def _by_hand(node: ast.AST, module: str, name: str = "") -> Iterator[tuple[str, str]]:
    """The reason and the place of each handler that reports a failure."""
    for child in ast.iter_child_nodes(node):
        is_named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        inner = f"{name}.{child.name}".lstrip(".") if is_named else name
        if isinstance(child, ast.Try):
            place = f"{module} {inner}"
            reporting = [each for each in child.handlers if any(map(_is_report, ast.walk(each)))]
            yield from ((_reason(place, child, handler), place) for handler in reporting)
        yield from _by_hand(child, module, inner)


def _all_by_hand() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for path in sorted(_SOURCE.rglob("*.py")):
        module = path.relative_to(_SOURCE).with_suffix("").as_posix().replace("/", ".")
        found += _by_hand(ast.parse(path.read_text(encoding="utf-8")), module)
    return sorted(found)


def test_what_reports_a_failure_by_hand_has_a_reason() -> None:
    found = Counter(_all_by_hand())
    known = Counter((reason, place) for reason, places in BY_HAND.items() for place in places)
    assert NONE not in BY_HAND
    assert sorted((found - known).elements()) == [], "write it as a guard, or see the reasons"
    assert sorted((known - found).elements()) == [], "this is gone: take it out of the list"


@pytest.mark.parametrize(
    ("handlers", "module", "reason"),
    [
        ("except Exception as error: report_failure('x', error)", "distro.flush", NONE),
        ("except Exception as error:\n  report_failure('x', error)\n  return 1", "core.stdout", NONE),
        ("except Exception as error:\n  report('x', error)\n  return 1", "sdk.v1.session", HOT),
        ("except Exception as error:\n  report_failure('x', error)\n  sleep(1)", "distro.flush", DOES_MORE),
        ("except Exception as error:\n  if error: report_failure('x', error)", "distro.flush", DOES_MORE),
        ("except OSError as error: report_failure('x', error)", "distro.flush", CATCHES_OTHERS),
        ("except KeyError: pass\nexcept Exception as error: report('x', error)", "metrics.labels", CATCHES_OTHERS),
    ],
)
def test_a_hand_written_guard_is_found(handlers: str, module: str, reason: str) -> None:
    tree = ast.parse(f"class C:\n def f(self):\n  try: work()\n  {handlers.replace(chr(10), chr(10) + '  ')}")
    assert list(_by_hand(tree, module)) == [(reason, f"{module} C.f")]


def test_fault_injection_fails_inside_a_guard_as_inside_a_try() -> None:
    by_hand = "def f():\n try:\n  work()\n except Exception as error:\n  report('x', error)"
    guarded = "def f():\n with guard('x'), suppress(OSError):\n  work()"
    other = "def f():\n with suppress(OSError):\n  work()"
    armed: list[str] = []
    for source in (by_hand, guarded, other):
        tree = ast.parse(source)
        injection.arm("m", "", tree.body)
        armed.append(ast.unparse(tree))
    assert "try:\n        __trip__" in armed[0]
    assert "suppress(OSError):\n        __trip__" in armed[1]
    assert "def f():\n    __trip__" in armed[2]


if __name__ == "__main__":
    rows = _all_by_hand()
    sys.stdout.write(f"# {len(rows)}\nBY_HAND: Final[Mapping[str, tuple[str, ...]]] = {{\n")
    for title in ("CATCHES_OTHERS", "DOES_MORE", "HOT", "ITSELF", "NONE"):
        places = [f'        "{place}",\n' for reason, place in rows if reason == globals()[title]]
        if places:
            sys.stdout.write(f"    # {len(places)}\n    {title}: (\n{''.join(places)}    ),\n")
    sys.stdout.write("}\n")
