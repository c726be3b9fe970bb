"""Every fast path stands in for a function that is as it was when the path was written, on this Python and this SDK.

Without this a release could send every message the slow way, and only a figure would show it. A release that changes
such a function fails here: the path is brought up to date, or it goes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest

import opentelemetry_instrumentation_mcp
from opentelemetry_instrumentation_mcp.adapters import http_edge, sizes
from opentelemetry_instrumentation_mcp.metrics import bulk
from opentelemetry_instrumentation_mcp.patching import names_in

from .generation import V2, types

SOURCE = Path(opentelemetry_instrumentation_mcp.__file__).parent


def _of(module: str, path: str) -> Any:
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _of_2x() -> Iterator[tuple[str, Any, frozenset[str]]]:
    from opentelemetry_instrumentation_mcp.adapters.interceptors import chain  # noqa: PLC0415
    from opentelemetry_instrumentation_mcp.adapters.v2 import dispatcher, untraced  # noqa: PLC0415

    sdk = _of("mcp.shared.jsonrpc_dispatcher", "JSONRPCDispatcher")
    for name, known in {
        "_dispatch": dispatcher._DISPATCH,
        "_dispatch_request": dispatcher._DISPATCH_REQUEST,
        "_handle_request": dispatcher._HANDLE_REQUEST,
        "_write": dispatcher._WRITE,
        "_write_result": dispatcher._WRITE_RESULT,
    }.items():
        yield name, getattr(sdk, name), known
    yield "validate_json", types.jsonrpc_message_adapter.validate_json, sizes._VALIDATE
    for kind in ("Request", "Response", "Error"):
        yield kind, getattr(types, f"JSONRPC{kind}").model_dump_json, sizes._DUMP
    yield "otel_span", unwrap(_of("mcp.shared._otel", "otel_span")), untraced._OTEL_SPAN
    yield "inject_trace_context", _of("mcp.shared._otel", "inject_trace_context"), untraced._INJECT
    yield "extract_trace_context", _of("mcp.shared._otel", "extract_trace_context"), untraced._EXTRACT
    yield "OpenTelemetryMiddleware", _of("mcp.server._otel", "OpenTelemetryMiddleware.__call__"), untraced._MIDDLEWARE
    composer = _of("mcp.server.runner", "ServerRunner._compose_server_middleware")
    yield "_compose_server_middleware", composer, chain._COMPOSER


def _of_1x() -> Iterator[tuple[str, Any, frozenset[str]]]:
    from opentelemetry_instrumentation_mcp.adapters.v1 import session  # noqa: PLC0415

    yield "model_validate_json", types.JSONRPCMessage.model_validate_json, sizes._VALIDATE_V1
    yield "model_dump_json", types.JSONRPCMessage.model_dump_json, sizes._DUMP
    stream = _of("anyio.streams.memory", "MemoryObjectReceiveStream")
    yield "__anext__", stream.__anext__, session._ANEXT


ROWS = list(_of_2x() if V2 else _of_1x())


@pytest.mark.every_release
@pytest.mark.parametrize(("name", "function", "known"), ROWS, ids=[row[0] for row in ROWS])
def test_what_a_fast_path_stands_in_for_is_as_known(name: str, function: Any, known: frozenset[str]) -> None:
    assert names_in(function) == known


@pytest.mark.every_release
def test_the_validator_and_the_serializer_are_pydantics_own() -> None:
    model = types.JSONRPCRequest if V2 else types.JSONRPCMessage
    assert type(model.__pydantic_serializer__).__name__ == "SchemaSerializer"
    validator = types.jsonrpc_message_adapter.validator if V2 else model.__pydantic_validator__
    assert type(validator).__name__ == "SchemaValidator"


@pytest.mark.every_release
def test_the_guard_of_the_bodys_size_is_watched_as_the_edge_where_there_is_one() -> None:
    security = import_module("mcp.server.transport_security")
    limit = getattr(security, "RequestBodyLimitMiddleware", None)
    assert limit is None or http_edge.is_edge(limit)


@pytest.mark.every_release
def test_values_are_handed_to_histograms_in_bulk() -> None:
    from opentelemetry_instrumentation_mcp.metrics import bulk_check  # noqa: PLC0415

    assert bulk_check.agree()
    bulk.check()
    assert bulk._verdict is True


def test_every_comparison_with_a_function_of_somebody_elses_is_looked_at_here() -> None:
    found: dict[str, int] = {}
    for module in SOURCE.glob("adapters/**/*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "names_in":
                place = str(module.relative_to(SOURCE / "adapters"))
                found[place] = found.get(place, 0) + 1
    assert found == {
        "http_edge.py": 2,
        "interceptors/chain.py": 1,
        "sizes.py": 3,
        "v1/session.py": 1,
        "v2/dispatcher.py": 1,
        "v2/untraced.py": 4,
    }
