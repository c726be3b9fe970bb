"""The programs that are measured, as any application would have them: nothing here knows of OpenTelemetry.

python -m benchmarks.overhead.programs stdio
python -m benchmarks.overhead.programs http PORT
python -m benchmarks.overhead.programs memory
python -m benchmarks.overhead.programs client stdio|http|http-2026 [URL]

The first two are servers. The others hold a session and make calls: for every number read from stdin that many, then
they write ``done``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from .. import example
from ..example import ARGUMENTS, TOOL, V2


def _build() -> Any:
    return example.build(int(os.environ.get("BENCHMARK_TOOLS", "1")))


def serve_stdio() -> None:
    _build().run("stdio")


def serve_http(port: int) -> None:
    uvicorn = import_module("uvicorn")
    app = _build().streamable_http_app()
    # Its processes take turns, so a connection rests longer than the few seconds it may by default.
    patience = {"timeout_keep_alive": 3600, "timeout_graceful_shutdown": 1}
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", **patience)


async def obey(session: Any) -> None:
    """Make as many calls as stdin asks for, again and again until it ends."""
    print("ready", flush=True)
    # Between the orders nothing happens on the loop, so it may be held up.
    for order in sys.stdin:
        for _ in range(int(order)):
            answer = await session.call_tool(TOOL, ARGUMENTS)
            if answer.content[0].text != ARGUMENTS["text"]:
                raise RuntimeError(f"not the answer of the tool: {answer}")
        print("done", flush=True)


@asynccontextmanager
async def in_memory() -> AsyncGenerator[Any]:
    """A client and a server in this process, connected as the SDK does it."""
    server = _build()
    if V2:
        connected = import_module("mcp").Client(server)
    else:
        connected = import_module("mcp.shared.memory").create_connected_server_and_client_session(server)
    async with connected as client:
        yield client


@asynccontextmanager
async def over(transport: str, *target: str) -> AsyncGenerator[Any]:
    """A client session; its stdio server is a bare one, on the CPU of the environment's choice."""
    mcp = import_module("mcp")
    if transport == "stdio":
        stdio = import_module("mcp.client.stdio")
        # Without -I the launcher's directory would be found through PYTHONPATH and instrument the server as well.
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["BENCHMARK_ROOT"], **_cpu()}
        arguments = ["-m", "benchmarks.overhead.programs", "stdio"]
        streams = stdio.stdio_client(mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment))
    else:
        streams = import_module("mcp.client.streamable_http").streamable_http_client(target[0])
    async with streams as (read, write, *_), mcp.ClientSession(read, write) as session:
        await (session.discover() if transport == "http-2026" else session.initialize())
        yield session


def _cpu() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key == "BENCHMARK_SERVER_CPU"}


async def work(connected: Callable[..., Any], *arguments: str) -> None:
    async with connected(*arguments) as session:
        await obey(session)


def _put_spans_back() -> None:
    """Let mcp 2.x do for tracing what it does bare."""
    spans = import_module("mcp.shared._otel")
    for name in ("mcp.server._otel", "mcp.shared.jsonrpc_dispatcher"):
        module = import_module(name)
        for function in ("otel_span", "inject_trace_context", "extract_trace_context"):
            if hasattr(module, function):
                setattr(module, function, getattr(spans, function))


def main(kind: str, *arguments: str) -> None:
    if os.environ.get("BENCHMARK_SDK_SPANS"):
        _put_spans_back()
    if kind == "stdio":
        if (cpu := os.environ.get("BENCHMARK_SERVER_CPU")) is not None:
            os.sched_setaffinity(0, {int(cpu)})
        serve_stdio()
    elif kind == "http":
        serve_http(int(arguments[0]))
    else:
        worker: Awaitable[None] = work(in_memory) if kind == "memory" else work(over, *arguments)
        asyncio.run(worker)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
