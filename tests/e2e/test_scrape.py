"""An unchanged MCP server under ``opentelemetry-instrument``: its page, and what a real Prometheus reads there."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..sdk import example, setups
from ..sdk.generation import SDKError, StdioServerParameters, stdio_client, streamable_http_client
from ..sdk.http import HEADERS, httpx
from ..sdk.wire import Wire
from .processes import PATIENCE_SECONDS, Start
from .prometheus import prometheus, query

ROOT = Path(__file__).parents[2]
# With JSON responses a client's connections are reused, so that its page has every metric of the pool.
HTTP_SERVER = """
import sys, uvicorn
from tests.sdk import example, setups
from tests.sdk.generation import V2
setup = next(each for each in setups.SETUPS if each.name == "http-json")
app = setups.http_app(example.build(**({} if V2 else setup.settings)), setup)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical", timeout_graceful_shutdown=1)
"""
CLIENT = """
import sys, anyio
from tests.sdk import setups
from tests.sdk.generation import streamable_http_client
from tests.e2e.test_scrape import use
async def main():
    async with setups.client_over(streamable_http_client(sys.argv[1])) as session:
        await use(session)
        await anyio.to_thread.run_sync(sys.stdin.read)
anyio.run(main)
"""

# The three labels of the scope are on every sample.
SCOPE = ["otel_scope_name", "otel_scope_schema_url", "otel_scope_version"]
CONNECTION = ["mcp_role", "mcp_session_mode", "mcp_transport"]
SESSION = ["mcp_protocol_version", "mcp_role", "mcp_server_name", "mcp_transport"]
REQUEST = [
    "gen_ai_prompt_name",
    "gen_ai_tool_name",
    "mcp_direction",
    "mcp_method_name",
    "mcp_role",
    "mcp_server_name",
    "mcp_transport",
    "status",
]
MESSAGE = ["mcp_direction", "mcp_method_name", "mcp_role", "mcp_transport"]
OPERATION = [
    "error_type",
    "gen_ai_operation_name",
    "gen_ai_prompt_name",
    "gen_ai_tool_name",
    "mcp_method_name",
    "mcp_protocol_version",
    "network_protocol_name",
    "network_transport",
    "rpc_response_status_code",
]
MESSAGE_SIZE = REQUEST[:-1]
MESSAGE_KIND = ["mcp_direction", "mcp_role", "mcp_transport"]
PEER = ["server_address", "server_port"]


def histogram(name: str, labels: list[str]) -> dict[str, list[str]]:
    return {f"{name}_bucket": sorted([*labels, "le"]), f"{name}_count": labels, f"{name}_sum": labels}


ON_EVERY_PAGE = {
    "mcp_connections_total": CONNECTION,
    "mcp_connections_active": CONNECTION,
    "mcp_sessions_created_total": SESSION,
    "mcp_sessions_active": SESSION,
    "mcp_requests_total": sorted([*REQUEST, "error_type"]),
    **histogram("mcp_request_duration_seconds", REQUEST),
    "mcp_requests_active": MESSAGE,
    "mcp_notifications_total": MESSAGE,
    **histogram("mcp_request_size_bytes", MESSAGE_SIZE),
    **histogram("mcp_response_size_bytes", MESSAGE_SIZE),
    "mcp_session_heartbeat_checks_total": ["kind", *MESSAGE_KIND],
    "mcp_session_dead_detected_total": ["mcp_role", "mcp_transport", "reason"],
    "mcp_task_spawns_total": ["mcp_role"],
    "mcp_memory_usage_bytes": [],
}
SERVER_PAGE = {
    **ON_EVERY_PAGE,
    "mcp_sessions_evicted_total": ["mcp_transport", "reason"],
    "mcp_connection_errors_total": ["error_type", "mcp_role", "mcp_transport"],
    "mcp_interceptor_actions_total": ["action", "interceptor"],
    **histogram("mcp_interceptor_duration_seconds", ["interceptor", "phase"]),
    **histogram("mcp_server_operation_duration_seconds", OPERATION),
    # What a server whose first session has ended shows as well.
    **histogram("mcp_connection_duration_seconds", [*CONNECTION, "status"]),
    **histogram("mcp_session_duration_seconds", [*SESSION, "status"]),
    **histogram(
        "mcp_server_session_duration_seconds",
        ["mcp_protocol_version", "network_protocol_name", "network_transport"],
    ),
}
CLIENT_PAGE = {
    **ON_EVERY_PAGE,
    **histogram("mcp_client_operation_duration_seconds", sorted(OPERATION + PEER)),
    "mcp_pool_connections_created_total": ["pool"],
    "mcp_pool_connections_reused_total": ["pool"],
    "mcp_pool_connections_idle": ["pool"],
    **histogram("mcp_pool_wait_duration_seconds", ["pool"]),
}


async def use(session: Any) -> None:
    """Something for every label."""
    await session.list_tools()
    await session.list_prompts()
    await session.call_tool("ok", {})
    await session.call_tool("fail", {})
    await session.get_prompt("greeting")
    with pytest.raises(SDKError):
        await example.raw(session, "no/such/method", {})


def names_and_labels(page: str) -> dict[str, list[str]]:
    """Sample names of the page that are ours, with their label keys."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.startswith("mcp_"):
                assert set(SCOPE) <= set(sample.labels), sample
                found.setdefault(sample.name, set()).update(sample.labels)
    return {name: sorted(labels - set(SCOPE)) for name, labels in found.items()}


def wait_for_http(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the HTTP server did not start")


def test_the_names_and_labels_of_a_server_and_of_a_client(start: Start, free_ports: list[int]) -> None:
    port, server_metrics, client_metrics = free_ports
    path = {"PYTHONPATH": str(ROOT)}
    serve = HTTP_SERVER.replace("sys.argv[1]", str(port))
    server = start(serve, OTEL_EXPORTER_PROMETHEUS_PORT=str(server_metrics), **path)
    wait_for_http(port)
    url = f"http://127.0.0.1:{port}/mcp"

    async def come_and_go() -> None:
        async with setups.client_over(streamable_http_client(url)) as session:
            await use(session)
        async with httpx.AsyncClient() as http:
            await http.post(url, content=b"{", headers=HEADERS)

    anyio.run(come_and_go)
    client = start(CLIENT.replace("sys.argv[1]", repr(url)), OTEL_EXPORTER_PROMETHEUS_PORT=str(client_metrics), **path)

    # What is recorded last: the error reply to the client's last request, the end of the session the server had.
    client_page = client.scrape(f"http://localhost:{client_metrics}/metrics", 'rpc_response_status_code="-32')
    server_page = server.scrape(
        f"http://localhost:{server_metrics}/metrics", "mcp_server_session_duration_seconds_count"
    )

    assert names_and_labels(server_page) == SERVER_PAGE
    assert names_and_labels(client_page) == CLIENT_PAGE
    assert client.finish() == 0
    assert server.stdout == b""


def test_the_memory_of_the_page_is_the_operating_systems(start: Start, free_port: int) -> None:
    code = "from tests.sdk import example; example.build().run('stdio')"
    child = start(code, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), PYTHONPATH=str(ROOT))
    page = child.scrape(f"http://localhost:{free_port}/metrics", "mcp_memory_usage_bytes{")
    [line] = [line for line in page.splitlines() if line.startswith("mcp_memory_usage_bytes{")]
    told = float(line.split()[-1])
    assert told == pytest.approx(psutil.Process(child.process.pid).memory_info().rss, rel=0.1)


def test_a_real_prometheus_answers_with_the_number_of_requests_on_the_wire(
    tmp_path: Path, free_ports: list[int]
) -> None:
    metrics_port, prometheus_port, _ = free_ports
    record = tmp_path / "wire.jsonl"
    record.touch()
    launcher = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    server = [sys.executable, "-c", "from tests.sdk import example; example.build().run('stdio')"]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tests.sdk.tap", str(record), launcher, *server],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(metrics_port),
        },
    )

    async def scenario(base: str) -> tuple[int, dict[str, float | None]]:
        async with setups.client_over(stdio_client(parameters)) as session:
            await use(session)
            for _ in range(7):
                await session.call_tool("ok", {})
            wire = Wire()
            for row in record.read_text().splitlines():
                entry = json.loads(row)
                wire.line(entry["line"], to_server=entry["to_server"])
            asked = wire.asked.total()
            inbound = 'mcp_requests_total{mcp_role="server",mcp_direction="inbound"}'
            expressions = {
                "all": f"sum({inbound})",
                "ok": "sum(mcp_requests_total{gen_ai_tool_name='ok',status='ok'})",
                "timed": "sum(mcp_request_duration_seconds_count{mcp_role='server'})",
                "sessions": "sum(mcp_sessions_active)",
            }
            answers: dict[str, float | None] = {}
            with anyio.move_on_after(PATIENCE_SECONDS):
                while answers.get("all") != asked:
                    await anyio.sleep(0.25)
                    answers = {key: query(base, expression) for key, expression in expressions.items()}
            return asked, answers

    with prometheus(tmp_path, prometheus_port, static_configs=[{"targets": [f"127.0.0.1:{metrics_port}"]}]) as base:
        asked, answers = anyio.run(scenario, base)
    assert asked >= 14
    assert answers == {"all": asked, "ok": 8, "timed": asked, "sessions": 1}
