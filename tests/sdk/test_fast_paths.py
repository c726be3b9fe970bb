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
from opentelemetry_instrumentation_mcp.metrics.buffers import histogram_comparison
from opentelemetry_instrumentation_mcp.patching.patches import names_in
from opentelemetry_instrumentation_mcp.sdk import http_edge

from .generation import V2, types

SOURCE = Path(opentelemetry_instrumentation_mcp.__file__).parent


def _of(module: str, path: str) -> Any:
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _known(path: str) -> frozenset[str]:
    """The names that an adapter knows of a function."""
    module, _, name = path.rpartition(".")
    return _of(f"opentelemetry_instrumentation_mcp.sdk.{module}", name)


def _of_2x() -> Iterator[tuple[str, Any, str]]:
    dispatcher = _of("mcp.shared.jsonrpc_dispatcher", "JSONRPCDispatcher")
    for name in ("_dispatch", "_dispatch_request", "_handle_request", "_write", "_write_result"):
        yield name, getattr(dispatcher, name), f"v2.dispatcher.{name.upper()}"
    yield "validate_json", types.jsonrpc_message_adapter.validate_json, "sizes._VALIDATE"
    for kind in ("Request", "Response", "Error"):
        yield kind, getattr(types, f"JSONRPC{kind}").model_dump_json, "sizes._DUMP"
    yield "otel_span", unwrap(_of("mcp.shared._otel", "otel_span")), "v2.untraced._OTEL_SPAN"
    yield "inject_trace_context", _of("mcp.shared._otel", "inject_trace_context"), "v2.untraced._INJECT"
    yield "extract_trace_context", _of("mcp.shared._otel", "extract_trace_context"), "v2.untraced._EXTRACT"
    middleware = _of("mcp.server._otel", "OpenTelemetryMiddleware")
    yield "OpenTelemetryMiddleware", middleware.__call__, "v2.untraced._MIDDLEWARE"
    runner = _of("mcp.server.runner", "ServerRunner")
    yield "_compose_server_middleware", runner._compose_server_middleware, "interceptors.chain._COMPOSER"


def _of_1x() -> Iterator[tuple[str, Any, str]]:
    yield "model_validate_json", types.JSONRPCMessage.model_validate_json, "sizes._VALIDATE_V1"
    yield "model_dump_json", types.JSONRPCMessage.model_dump_json, "sizes._DUMP"
    yield "__anext__", _of("anyio.streams.memory", "MemoryObjectReceiveStream").__anext__, "v1.session._ANEXT"


ROWS = list(_of_2x() if V2 else _of_1x())


@pytest.mark.every_release
@pytest.mark.parametrize(("name", "function", "known"), ROWS, ids=[row[0] for row in ROWS])
def test_what_a_fast_path_stands_in_for_is_as_known(name: str, function: Any, known: str) -> None:
    assert names_in(function) == _known(known)


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
    assert histogram_comparison.agree()


def test_every_comparison_with_a_function_of_somebody_elses_is_looked_at_here() -> None:
    found: dict[str, int] = {}
    for module in SOURCE.glob("sdk/**/*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "names_in":
                place = str(module.relative_to(SOURCE / "sdk"))
                found[place] = found.get(place, 0) + 1
    assert found == {
        "http_edge.py": 2,
        "interceptors/chain.py": 1,
        "sizes.py": 3,
        "v1/session.py": 1,
        "v2/dispatcher.py": 1,
        "v2/untraced.py": 4,
    }
