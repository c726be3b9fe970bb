"""The next release adds a parameter, or gives an attribute another name: calls end as bare, and no number is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from . import changed
from .generation import V2

pytestmark = pytest.mark.timeout(240)

SETUPS = ("memory", "sse", "http", *(("memory-2026", "http-2026", "http-json-2026") if V2 else ("websocket",)))

_SHARED = {
    "connect_sse", "handle_request", "handle_post_message", "validate_request", "terminate", "_handle_delete_request",
    "_handle_post_request", "handle_get_stream", "terminate_session", "stdio_client", "sse_client", "send_request"
}  # fmt: skip
_V1 = {
    "_handle_message", "_handle_request", "_received_request", "_handle_incoming", "send_notification",
    "_send_response", "_received_notification", "websocket_client"
}  # fmt: skip
_V2 = {
    "_dispatch", "_dispatch_request", "_dispatch_notify", "_write", "_write_result", "_spawn", "_settle_unanswered",
    "_handle_request", "send_raw_request", "_compose_server_middleware", "_apply_middleware", "serve_one",
    "handle_modern_request", "_tool_input_schema", "check_accept_headers", "_resolve_abandoned_request",
    "_resolve_pending", "_make_context", "modern_on_request", "adopt", "otel_span", "inject_trace_context",
    "extract_trace_context", "_bind_interceptor"
}  # fmt: skip
ADDED = _SHARED | (_V2 if V2 else _V1)
ALONE = [
    "_dispatch", "_dispatch_request", "_write", "_write_result", "_spawn", "_handle_request",
    "_compose_server_middleware"
] if V2 else []  # fmt: skip
"""Where what is done in their place has to go on without the others having changed."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same of a copy in which nothing has changed."""
    return changed.run(tmp_path_factory.mktemp("sdk"), changed.with_parameters(()), SETUPS)[0]


def test_the_traffic_has_every_status(reference: dict[str, Any]) -> None:
    statuses = {row[4] for rows in reference["counted"].values() for row in rows if row[0] == "mcp.requests.total"}
    assert statuses >= {"ok", "tool_error", "client_error", "server_error", "cancelled", "timeout"}
    assert reference["instrumented"] == reference["bare"]


@pytest.mark.parametrize("names", [sorted(ADDED), *([name] for name in ALONE)], ids=lambda names: names[0])
def test_a_parameter_that_is_added_and_given_goes_through(
    names: list[str], reference: dict[str, Any], tmp_path: Path
) -> None:
    # What is done in the SDK's place is done for all streams alike.
    setups = SETUPS if len(names) > 1 else ("memory", "sse")
    found, seen, log = changed.run(tmp_path, changed.with_parameters(names), setups)
    assert seen == set(names)
    for setup in setups:
        assert found["instrumented"][setup] == found["bare"][setup] == reference["bare"][setup]
        assert found["counted"][setup] == reference["counted"][setup]
    assert "a metric was lost" not in log


RENAMED_SETUPS = ("sse", "http", *(("memory-2026", "http-json-2026") if V2 else ("websocket",)))
"""One for each way in which messages come in."""

# What is called something else, and whether requests are counted all the same.
RENAMED = {
    "_closed": True, "_peer": False, "sink": True, "_in_flight": True, "_pending": True, "_dispatch": True,
    "_resolve_pending": True, "_write": False, "_write_result": True, "_settle_unanswered": True, "_spawn": True,
    "_handle_request": True, "message_metadata": False, "_handle_post_request": True, "_resolve_abandoned_request": True
} if V2 else {
    "_request_id": True, "_handle_message": True, "_handle_post_request": True, "_init_options": True
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMED)
def test_what_is_called_something_else_costs_what_depends_on_it(
    name: str, reference: dict[str, Any], tmp_path: Path
) -> None:
    found, seen, _ = changed.run(tmp_path, changed.renamed(name), RENAMED_SETUPS)
    assert seen == {name}
    for setup in RENAMED_SETUPS:
        assert found["instrumented"][setup] == found["bare"][setup] == reference["bare"][setup]
        expected, counted = (
            Counter({tuple(row[:-1]): int(row[-1]) for row in each["counted"][setup]}) for each in (reference, found)
        )
        # Absent, or right.
        assert counted - expected == Counter(), (setup, [*(expected - counted)])
        if RENAMED[name]:
            assert {key for key in expected - counted if key[0] == "mcp.requests.total"} == set(), setup
