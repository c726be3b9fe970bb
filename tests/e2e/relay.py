"""Two of three processes that pass a call on, as any application would: nothing here knows of OpenTelemetry but a span.

python -m tests.e2e.relay serve PORT COMMAND...   an HTTP server whose tool asks a stdio server, started by COMMAND
python -m tests.e2e.relay ask URL                 an agent that calls that tool, in a span of its own
"""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
import uvicorn
from opentelemetry import trace

from ..sdk import setups
from ..sdk.generation import HighLevelServer, StdioServerParameters, stdio_client, streamable_http_client

SERVICE = "OTEL_SERVICE_NAME"


def serve(port: int, *command: str) -> None:
    server = HighLevelServer("relay")
    environment = {**os.environ, SERVICE: "stdio"}

    async def relay() -> str:
        parameters = StdioServerParameters(command=command[0], args=list(command[1:]), env=environment)
        async with setups.client_over(stdio_client(parameters)) as session:
            result: Any = await session.call_tool("ok", {})
        return str(result.content[0].text)

    server.add_tool(relay)
    app = server.streamable_http_app()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=1)


async def ask(url: str) -> None:
    with trace.get_tracer("agent").start_as_current_span("agent"):
        async with setups.client_over(streamable_http_client(url)) as session:
            result: Any = await session.call_tool("relay", {})
    assert result.content[0].text == "fine", result


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), *sys.argv[3:])
    else:
        anyio.run(ask, sys.argv[2])
