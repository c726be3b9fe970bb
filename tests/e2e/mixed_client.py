"""``python -m tests.e2e.mixed_client REPORT SECONDS NOWHERE COMMAND URL...``: a client with a little of everything.

``COMMAND`` is how a stdio server is started, as JSON. When its calls are made it writes how many of each tool there
were, and stays connected until its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio

from ..sdk import example, setups
from ..sdk.generation import V2, SDKError, StdioServerParameters, stdio_client, streamable_http_client

CALLS_PER_SECOND = 10
called: Counter[str] = Counter()


async def call(session: Any, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> None:
    called[tool] += 1
    await session.call_tool(tool, arguments or {}, **options)


async def everything(session: Any, asks_back: bool) -> None:
    """Requests of every kind, method and fate."""
    await session.list_tools()
    await session.list_prompts()
    await session.get_prompt("greeting")
    with contextlib.suppress(SDKError):
        await session.get_prompt("broken")
    await session.read_resource("memo://readme")
    await session.send_ping()
    with contextlib.suppress(SDKError):
        await example.raw(session, "no/such/method", {})
    for _ in range(3):
        await call(session, "fail")
    await call(session, "large", {"size": 20_000})
    await call(session, "tell", progress_callback=_ignore)
    if asks_back:
        await call(session, "ask")
        with contextlib.suppress(SDKError):
            patience: Any = 0.1 if V2 else timedelta(seconds=0.1)
            await call(session, "slow", {"seconds": 0.5}, read_timeout_seconds=patience)


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    pass


async def steadily(session: Any, seconds: float) -> None:
    """So many calls a second, whatever each takes."""
    begun = time.monotonic()
    for number in range(int(seconds * CALLS_PER_SECOND)):
        await anyio.sleep(max(0.0, begun + number / CALLS_PER_SECOND - time.monotonic()))
        await call(session, "ok")


async def come_and_go(url: str, modern: bool) -> None:
    async with setups.client_over(streamable_http_client(url)) as session:
        await session.list_tools()
    if modern:
        async with import_module("mcp").Client(url) as client:
            await call(client, "ok")


async def use(transport: Any, seconds: float, asks_back: bool, done: anyio.Event, users: list[Any]) -> None:
    async with setups.client_over(transport) as session:
        # What a series shows first is no increase, so there is everything once before and once during the calls.
        await everything(session, asks_back)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(steadily, session, seconds)
            await anyio.sleep(seconds / 2)
            await everything(session, asks_back)
        users.pop()
        await done.wait()


async def main(report: Path, seconds: float, nowhere: str, command: list[str], urls: list[str]) -> None:
    with contextlib.suppress(Exception):
        async with setups.client_over(streamable_http_client(nowhere)):
            pass
    for url in urls:
        # Only the first server is sure to be of this generation; one of 1.x refuses what 2.x asks to find that out.
        await come_and_go(url, modern=V2 and url is urls[0])
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    done = anyio.Event()
    transports = [*((streamable_http_client(url), False) for url in urls), (stdio_client(parameters), True)]
    users: list[Any] = list(transports)
    async with anyio.create_task_group() as tasks:
        for transport, asks_back in transports:
            tasks.start_soon(use, transport, seconds, asks_back, done, users)
        while users:
            await anyio.sleep(0.05)
        report.write_text(json.dumps(called))
        await anyio.to_thread.run_sync(sys.stdin.read)
        done.set()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), sys.argv[5:])
