"""``make field`` compares what it says it compares, and sees a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

from ..field.wire import NOTIFICATIONS, REQUEST_BYTES, REQUESTS, RESPONSE_BYTES, differences, exported, on_the_wire

CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "größe"}}
ASKED: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "roots/list"}
ANSWERED: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "result": {}}
NOTED: dict[str, Any] = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def size(message: object) -> int:
    return len(json.dumps(message, ensure_ascii=False).encode())


def recorded(path: Path) -> Path:
    """Both sides ask, with the same id, and both answer."""
    rows = [(True, NOTED), (True, CALL), (False, ASKED), (True, ANSWERED), (False, {**ANSWERED, "result": {"a": 1}})]
    lines = [{"to_server": side, "line": json.dumps(message, ensure_ascii=False) + "\n"} for side, message in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_each_side_sees_the_wire_from_its_end(tmp_path: Path) -> None:
    record = recorded(tmp_path / "record.jsonl")
    server, client = on_the_wire(record, "server"), on_the_wire(record, "client")
    assert server[REQUESTS] == {"inbound tools/call": 1, "outbound roots/list": 1}
    assert client[REQUESTS] == {"outbound tools/call": 1, "inbound roots/list": 1}
    assert server[NOTIFICATIONS] == {"inbound notifications/initialized": 1}
    assert server[REQUEST_BYTES] == {"inbound tools/call": size(CALL), "outbound roots/list": size(ASKED)}
    assert server[RESPONSE_BYTES]["inbound tools/call"] == size({**ANSWERED, "result": {"a": 1}})
    assert server[RESPONSE_BYTES]["outbound roots/list"] == size(ANSWERED)


def test_what_was_exported_last_is_found_among_other_lines_and_compared(tmp_path: Path) -> None:
    output = tmp_path / "stderr.txt"
    with output.open("w") as stderr:
        stderr.write("a line of the server's\n{ not JSON\n")
        reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=stderr), export_interval_millis=3_600_000)
        provider = MeterProvider([reader])
        meter = provider.get_meter("test")
        requests, sizes = meter.create_counter("mcp.requests.total"), meter.create_histogram("mcp.request.size")
        inbound = {"mcp.role": "server", "mcp.direction": "inbound", "mcp.method.name": "tools/call"}
        requests.add(1, inbound)
        provider.force_flush()
        stderr.write("another line\n")
        requests.add(1, {**inbound, "status": "tool_error"})
        requests.add(5, {**inbound, "mcp.role": "client"})
        requests.add(0, {**inbound, "status": "ok", "mcp.method.name": "tools/list"})
        sizes.record(size(CALL), inbound)
        provider.shutdown()
    measured = exported(output, "server")
    assert measured[REQUESTS] == {"inbound tools/call": 2}
    assert measured[REQUEST_BYTES] == {"inbound tools/call": size(CALL)}
    wire = on_the_wire(recorded(tmp_path / "record.jsonl"), "server")
    assert differences(wire, wire) == []
    assert differences(wire, measured, [REQUESTS]) == [
        "requests of inbound tools/call: 1 on the wire, 2 measured",
        "requests of outbound roots/list: 1 on the wire, 0 measured",
    ]
