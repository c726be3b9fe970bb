"""One trace through three processes and both generations of the SDK, by a collector that nobody here wrote.

An agent calls a tool of an HTTP server, which asks a stdio server. The middle one is of one generation, the others are
of the other one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ..sdk.generation import V2
from ..spans import CLIENT, SERVER, FoundSpan
from . import environments
from .conftest import NewPython
from .processes import PATIENCE_SECONDS, Launch
from .receiver import Receiver, receiving
from .test_last_interval import STDIO_SERVER, end
from .test_otlp import WITH_OTLP, rotel
from .test_scrape import wait_for_http

ROOT = Path(__file__).parents[2]


def other_generation() -> Path:
    """The site-packages of an environment that has the other generation of the SDK."""
    python = environments.other_python()
    if python is None:
        if os.environ.get("CI") and V2:
            pytest.fail("there is no environment with the other generation of the SDK")
        pytest.skip(f"no environment with the other generation of the SDK ({environments.OTHER_PYTHON} can name one)")
    return python.parent.parent / environments.SITE_PACKAGES.relative_to(sys.prefix)


def by_name(spans: Iterable[FoundSpan]) -> dict[tuple[str, str, str], FoundSpan]:
    """Spans by service, kind and name: one of each."""
    found: dict[tuple[str, str, str], FoundSpan] = {}
    for span in spans:
        key = (span.service, span.kind, span.name.removeprefix("MCP send "))
        assert key not in found, key
        found[key] = span
    return found


def wait_for(receiver: Receiver, count: int) -> list[FoundSpan]:
    """Every span, as soon as there are that many; the processes that make them have ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(spans := receiver.spans()) < count:
        assert time.monotonic() < deadline, sorted((span.service, span.kind, span.name) for span in spans)
        time.sleep(0.05)
    # rotel sends what it has got five times a second.
    time.sleep(0.5)
    return receiver.spans()


@pytest.mark.parametrize(("middle", "protocol"), [(2, "grpc"), (1, "http/protobuf")])
def test_one_trace_leads_through_three_processes(
    launch: Launch, python: NewPython, tmp_path: Path, free_ports: list[int], middle: int, protocol: str
) -> None:
    here, there = python(without=WITH_OTLP), python(without=WITH_OTLP, source=other_generation())
    interpreters = {2: here, 1: there} if V2 else {1: here, 2: there}
    server_python, other_python = interpreters[middle], interpreters[3 - middle]
    grpc_port, http_port, port = free_ports
    with receiving() as receiver:
        forward = ("--exporter", "otlp", "--otlp-exporter-endpoint", receiver.grpc)
        with rotel(tmp_path, grpc_port, http_port, *forward):
            telemetry = {
                "PYTHONPATH": str(ROOT),
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_METRIC_EXPORT_INTERVAL": "60000",
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{grpc_port if protocol == 'grpc' else http_port}",
            }
            launcher = str(other_python.with_name("opentelemetry-instrument"))
            stdio = (launcher, str(other_python), "-c", STDIO_SERVER)
            relay = ("-m", "tests.e2e.relay")
            server = launch(
                *relay, "serve", str(port), *stdio, interpreter=server_python, **telemetry, OTEL_SERVICE_NAME="http"
            )
            wait_for_http(port)
            url = f"http://127.0.0.1:{port}/mcp"
            agent = launch(*relay, "ask", url, interpreter=other_python, **telemetry, OTEL_SERVICE_NAME="agent")
            assert agent.finish() == 0, agent.stderr
            end(server, "SIGTERM")
            # Three requests on each of two connections, both sides of each; the agent's own; three of notifications.
            spans = by_name(wait_for(receiver, 16))

    # What was measured says in which span.
    for service, metric, kind in (
        ("agent", "mcp.client.operation.duration", CLIENT),
        ("http", "mcp.server.operation.duration", SERVER),
        ("http", "mcp.client.operation.duration", CLIENT),
        ("stdio", "mcp.server.operation.duration", SERVER),
    ):
        (own,) = (span.id for key, span in spans.items() if key[:2] == (service, kind) and "tools/call" in span.name)
        assert receiver.exemplars(service, metric, "tools/call") == {own}
    # A notification of 2.x takes no context with it.
    requests = {key: span for key, span in spans.items() if "notifications/" not in key[2]}
    assert {span.trace for span in requests.values()} == {spans["agent", "INTERNAL", "agent"].trace}
    parents = {
        key: next((k for k, each in spans.items() if each.id == span.parent), None) for key, span in spans.items()
    }
    agent_span, handler = ("agent", "INTERNAL", "agent"), ("http", SERVER, "tools/call relay")
    expected: dict[tuple[str, str, str], Any] = {agent_span: None}
    for client, peer, above, tool in (("agent", "http", agent_span, "relay"), ("http", "stdio", handler, "ok")):
        # The last is the client's own, before it checks the result.
        for name in ("initialize", f"tools/call {tool}", "tools/list"):
            expected[client, CLIENT, name] = above
            expected[peer, SERVER, name] = (client, CLIENT, name)
    assert {key: parents[key] for key in requests} == expected
    version = {service: 3 - middle for service in ("agent", "stdio")} | {"http": middle}
    for (service, kind, _), span in requests.items():
        if kind != "INTERNAL":
            scope = "mcp-python-sdk" if version[service] == 2 else "opentelemetry_instrumentation_mcp"
            assert span.scope == scope, span
            transport = "pipe" if service == "stdio" or (service, kind) == ("http", CLIENT) else "tcp"
            assert span.attributes["network.transport"] == transport, span
            assert span.status == "UNSET", span
