"""The server the SDK tests run: a tool, prompt or resource for every way a request can end."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from pydantic import BaseModel

from .generation import V2, Context, HighLevelServer, types

NAME = "example"


class Answer(BaseModel):
    """What the example elicits."""

    value: str


_MAKING = threading.Lock()


def build(name: str = NAME, **settings: Any) -> Any:
    """An ``MCPServer`` (2.x) or a ``FastMCP`` (1.x)."""
    # A server sets logging up when it is made, which is no business for two threads at once.
    with _MAKING:
        server = HighLevelServer(name, **settings)

    async def ok() -> str:
        return "fine"

    async def fail() -> str:
        raise ValueError("this tool always fails")

    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    async def large(size: int, text: str = "x") -> str:
        return text * size

    async def ask(ctx: Any) -> str:
        """Asks the client everything a server can ask."""
        session = ctx.session
        text = types.TextContent(type="text", text="hello")
        await session.create_message([types.SamplingMessage(role="user", content=text)], max_tokens=5)
        await session.list_roots()
        await session.send_ping()
        await ctx.elicit("value?", Answer)
        return "asked"

    async def tell(ctx: Any) -> str:
        """Reports its progress twice."""
        await ctx.report_progress(1, 2)
        await ctx.report_progress(2, 2)
        return "told"

    for tool in (ask, tell):
        # The SDK finds the parameter by its type, which is another class in each generation.
        tool.__annotations__["ctx"] = Context
    # Registered by call: a decorated function would be reported as unused.
    for tool in (ok, fail, slow, large, ask, tell):
        server.add_tool(tool)

    def greeting() -> str:
        return "hello"

    def broken() -> str:
        raise RuntimeError("this prompt cannot be rendered")

    def readme() -> str:
        return "text"

    server.prompt()(greeting)
    server.prompt()(broken)
    server.resource("memo://readme")(readme)
    return server


async def sample(context: Any, params: Any) -> Any:
    """The client's sampling callback."""
    text = types.TextContent(type="text", text="hi")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def elicit(context: Any, params: Any) -> Any:
    """The client's elicitation callback."""
    return types.ElicitResult(action="accept", content={"value": "x"})


async def roots(context: Any) -> Any:
    """The client's roots callback."""
    return types.ListRootsResult(roots=[])


CALLBACKS: dict[str, Any] = {
    "sampling_callback": sample,
    "elicitation_callback": elicit,
    "list_roots_callback": roots,
}


async def raw(session: Any, method: str, params: dict[str, Any] | None = None) -> Any:
    """Send any method with any parameters past the typed methods of the session."""
    if V2:
        request = types.Request[Any, str](method=method, params=params)
    else:
        request = types.Request[Any, str](method=method, params=params)
    return await session.send_request(request, types.EmptyResult)
