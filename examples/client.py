"""An MCP client with a little of everything: quick, failing, slow, cancelled and timed out calls.

opentelemetry-instrument python client.py http://127.0.0.1:8000/mcp
SERVER_METRICS_PORT=9465 opentelemetry-instrument python client.py stdio_server.py
"""

import argparse
import contextlib
import os
import random
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


def server_parameters(script: str) -> StdioServerParameters:
    # Of the environment, stdio_client() hands on little more than HOME and PATH. The server is to be measured as this
    # process is, so it gets OTEL_* too, and a port of its own: both processes show a page.
    env = {key: value for key, value in os.environ.items() if key == "PATH" or key.startswith("OTEL_")}
    env["OTEL_SERVICE_NAME"] = "demo-stdio-server"
    env["OTEL_EXPORTER_PROMETHEUS_PORT"] = os.environ["SERVER_METRICS_PORT"]
    return StdioServerParameters(command="opentelemetry-instrument", args=["python", script], env=env)


@contextlib.asynccontextmanager
async def connect(target: str) -> AsyncGenerator[ClientSession, None]:
    transport = streamable_http_client(target) if "://" in target else stdio_client(server_parameters(target))
    # 1.x has a third thing to give over HTTP, the way to ask for the session id.
    async with transport as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        yield session


async def quick_calls(session: ClientSession, end: float) -> None:
    while time.monotonic() < end:
        await session.call_tool("add", {"a": random.randint(0, 99), "b": random.randint(0, 99)})
        await session.call_tool("divide", {"a": 1.0, "b": random.randint(0, 4)})  # by 0 it fails
        await anyio.sleep(0.05)


async def slow_calls(session: ClientSession, end: float) -> None:
    while time.monotonic() < end:
        await session.call_tool("sleep", {"seconds": random.uniform(0.2, 1.0)})


async def impatient_calls(session: ClientSession, end: float) -> None:
    # The session's own timer gives up on this one. What it raises is McpError in 1.x and MCPError in 2.x, what it wants
    # a timedelta or seconds.
    patience: Any = timedelta(seconds=0.3) if version("mcp").startswith("1.") else 0.3
    with contextlib.suppress(Exception):
        await session.call_tool("sleep", {"seconds": 1.0}, read_timeout_seconds=patience)
    # On these the caller gives up.
    while time.monotonic() < end:
        with anyio.move_on_after(0.3):
            await session.call_tool("sleep", {"seconds": 1.0})
        await anyio.sleep(1)


async def main(target: str, seconds: float, stay: bool) -> None:
    end = time.monotonic() + seconds
    async with connect(target) as session:
        async with anyio.create_task_group() as calls:
            for traffic in (quick_calls, slow_calls, impatient_calls):
                calls.start_soon(traffic, session, end)
        print("done", flush=True)
        if stay:
            await anyio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An MCP client that makes calls of all kinds.")
    parser.add_argument("target", help="the URL of an HTTP server, or the Python script of a stdio server")
    parser.add_argument("--seconds", type=float, default=15, help="how long to make calls; inf is possible")
    parser.add_argument("--stay", action="store_true", help="then stay connected, so that the metrics can be read")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(main, options.target, options.seconds, options.stay)
