"""The fastmcp server that tests run, for fastmcp 2, 3 and 4."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import anyio

NAME = "fast"


def build(name: str = NAME, *middleware: Any) -> Any:
    """A ``FastMCP`` of the fastmcp package with two prompts, a resource, and tools that end in different ways."""
    server: Any = import_module("fastmcp").FastMCP(name, middleware=middleware)

    async def ok() -> str:
        return "fine"

    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    async def fail() -> str:
        raise ValueError("this tool always fails")

    def greeting() -> str:
        return "hello"

    def readme() -> str:
        return "text"

    for tool in (ok, slow, fail):
        server.tool(tool)
    server.prompt(greeting)
    server.resource("memo://readme")(readme)
    return server
