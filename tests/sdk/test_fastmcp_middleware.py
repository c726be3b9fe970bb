"""fastmcp's own middleware chain, where fastmcp 2, 3 or 4 is installed: the same words as for the SDK's."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import version
from typing import Any

import anyio
import pytest

from opentelemetry_instrumentation_mcp import MCPInstrumentor

from ..points import ERROR, Points
from . import setups
from .generation import V2, SDKError
from .test_endings import HEADERS, INITIALIZE, httpx
from .test_interceptors import ERRORS, actions, own_time

fastmcp: Any = pytest.importorskip("fastmcp")

Collect = Callable[[], Points]

MAJOR = int(version("fastmcp").split(".")[0])
Middleware: Any = import_module("fastmcp.server.middleware").Middleware
exceptions: Any = import_module("fastmcp.exceptions")

only_4 = pytest.mark.skipif(MAJOR < 4, reason="fastmcp 2 and 3 have no extensions that intercept")

entered: ContextVar[str] = ContextVar("entered", default="no")


def build(*middleware: Any) -> Any:
    """A server with two tools behind some middleware."""
    server = fastmcp.FastMCP("fast", middleware=middleware)

    async def ok() -> str:
        return entered.get()

    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "slept"

    async def fail() -> str:
        raise ValueError("this tool always fails")

    for each in (ok, slow, fail):
        server.tool(each)
    return server


def call(server: Any, name: str, arguments: dict[str, Any] | None = None) -> Any:
    """Call a tool in memory; the text of the result, or the error."""

    async def scenario() -> Any:
        async with fastmcp.Client(server) as client:
            try:
                result = await client.call_tool(name, arguments or {})
            except Exception as error:
                return error
            return result.content[0].text

    return anyio.run(scenario)


class Looks(Middleware):
    async def on_message(self, context: Any, call_next: Any) -> Any:
        return await call_next(context)


class Overrides(Middleware):
    """``__call__`` itself may be overridden."""

    async def __call__(self, context: Any, call_next: Any) -> Any:
        return await call_next(context)


class Sets(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        token = entered.set("yes")
        try:
            return await call_next(context)
        finally:
            entered.reset(token)


class Rewrites(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        message = context.message.model_copy(update={"name": "slow", "arguments": {"seconds": 0}})
        return await call_next(context.copy(message=message))


class Replaces(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        await call_next(context)
        return tool_result("replaced")


class Answers(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        return tool_result("answered")


class Vetoes(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        if V2:
            raise SDKError(code=-32001, message="not today")
        data = import_module("mcp.types").ErrorData(code=-32001, message="not today")
        raise SDKError(data)


class Denies(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        raise exceptions.ToolError("denied")


class Crashes(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        raise LookupError("its own bug")


class Sleeps(Middleware):
    async def on_call_tool(self, context: Any, call_next: Any) -> Any:
        await anyio.sleep(0.1)
        result = await call_next(context)
        await anyio.sleep(0.2)
        return result


async def function(context: Any, call_next: Any) -> Any:
    return await call_next(context)


def tool_result(text: str) -> Any:
    kind: Any = import_module("fastmcp.tools.tool" if MAJOR == 2 else "fastmcp.tools").__dict__["ToolResult"]
    return kind(content=text, structured_content={"result": text})


@pytest.mark.parametrize(
    ("middleware", "answer", "action"),
    [
        (Sets(), "yes", "continue"),
        (Rewrites(), "slept", "modify"),
        (Replaces(), "replaced", "modify"),
        (Answers(), "answered", "short_circuit"),
        (Vetoes(), "not today", "reject"),
        (Denies(), "denied", "reject"),
        (Crashes(), None, "error"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Middleware) else "",
)
def test_what_a_middleware_does_to_a_tool_call(middleware: Any, answer: str, action: str, collect: Collect) -> None:
    result = call(build(Looks(), middleware, Overrides()), "ok")
    assert answer is None or answer in str(result)
    points = collect()
    name = type(middleware).__name__
    # What it does not care about (the handshake, the client's own questions) it continues.
    assert actions(points, name)[action] >= 1
    assert actions(points, name).keys() <= {action, "continue"}
    if action != "continue":
        assert actions(points, name)[action] == 1
    assert actions(points, "Looks").keys() == {"continue"}
    assert actions(points, "Overrides").keys() <= {"continue"}
    assert points.by("interceptor", ERRORS) == ({"Crashes": 1} if action == "error" else {})
    assert points.by(ERROR, ERRORS) == ({"LookupError": 1} if action == "error" else {})


def test_every_kind_of_middleware_sees_the_same_messages_as_without_us(collect: Collect) -> None:
    seen: list[str] = []

    class Notes(Middleware):
        async def __call__(self, context: Any, call_next: Any) -> Any:
            seen.append(context.method)
            return await call_next(context)

    assert call(build(Notes(), function), "ok") == "no"
    points = collect()
    assert actions(points, "Notes") == {"continue": len(seen)}
    assert actions(points, "function") == {"continue": len(seen)}
    assert seen.count("tools/call") == 1


def test_the_time_of_a_middleware_is_its_own(collect: Collect) -> None:
    assert call(build(Looks(), Sleeps()), "slow", {"seconds": 1}) == "slept"
    points = collect()
    time_of = own_time(points, "Sleeps")
    # The tool's second is in none of them; a busy machine has the time between.
    assert 0.1 <= time_of["request"][1] < 1
    assert 0.2 <= time_of["response"][1] < 1
    assert sum(total for _, total in own_time(points, "Looks").values()) < 1


def test_the_exception_of_a_tool_passes_through_as_the_same_object(collect: Collect) -> None:
    seen: list[BaseException] = []

    class Notes(Middleware):
        async def on_call_tool(self, context: Any, call_next: Any) -> Any:
            try:
                return await call_next(context)
            except Exception as error:
                seen.append(error)
                raise

    assert "always fails" in str(call(build(Notes(), Looks(), Notes()), "fail"))
    assert len(seen) == 2
    assert seen[0] is seen[1]
    points = collect()
    assert actions(points, "Notes").keys() == {"continue"}
    assert points.sum(ERRORS) == 0


def test_a_server_without_middleware_is_not_slowed_down_and_one_with_is_not_changed(collect: Collect) -> None:
    mine = Looks()
    server = build(mine)
    before = list(server.middleware)
    assert call(server, "ok") == "no"
    assert [each is other for each, other in zip(server.middleware, before, strict=True)] == [True] * len(before)
    assert vars(mine) == {}
    MCPInstrumentor().uninstrument()
    assert call(server, "ok") == "no"


def test_uninstrument_leaves_nothing_in_fastmcp() -> None:
    module: Any = import_module("fastmcp.server.server")
    guard: Any = import_module("fastmcp.server.auth.middleware").RequireAuthMiddleware
    owners: list[Any] = [module.FastMCP, guard]

    def attributes() -> list[Any]:
        return [{**vars(each)} for each in owners]

    before = attributes()
    instrumentor = MCPInstrumentor()
    instrumentor.instrument()
    assert attributes()[0] != before[0]
    instrumentor.uninstrument()
    assert attributes() == before


def test_a_mounted_servers_middleware_counts_for_itself(collect: Collect) -> None:
    child = build(Sets())
    parent = fastmcp.FastMCP("parent", middleware=[Looks()])
    if MAJOR == 2:
        parent.mount(child, prefix="child")
    else:
        parent.mount(child, namespace="child")
    assert call(parent, "child_ok") == "yes"
    points = collect()
    assert actions(points, "Looks").keys() == {"continue"}
    assert actions(points, "Sets")["continue"] >= 1


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("unknown", 401), ("good", 200)])
def test_the_guards_in_front_of_a_fastmcp_server(token: str | None, status: int, collect: Collect) -> None:
    auth: Any = import_module("fastmcp.server.auth")

    class Provider(auth.TokenVerifier):
        async def verify_token(self, token: str) -> Any:
            return auth.AccessToken(token=token, client_id="test", scopes=[]) if token == "good" else None

    server = fastmcp.FastMCP("fast", auth=Provider())

    async def scenario() -> int:
        async with setups.serve(server.http_app()) as base, httpx.AsyncClient() as client:
            headers = {**HEADERS, **({"authorization": f"Bearer {token}"} if token else {})}
            return int((await client.post(f"{base}/mcp", json=INITIALIZE, headers=headers)).status_code)

    assert anyio.run(scenario) == status
    points = collect()
    assert actions(points, "RequireAuthMiddleware") == {"continue" if status == 200 else "reject": 1}
    assert actions(points, "BearerAuthBackend") == {"continue": 1}
    assert actions(points, "Provider") == ({"continue": 1} if token else {})


@only_4
def test_the_interceptor_of_an_extension_is_seen(collect: Collect) -> None:
    base: Any = import_module("fastmcp.server.extensions").ServerExtension

    class Quiet(base):
        identifier = "test.example/quiet"

    class Answering(base):
        identifier = "test.example/answering"

        async def intercept_tool_call(self, params: Any, context: Any, call_next: Any) -> Any:
            return tool_result("answered") if params.name == "fail" else await call_next()

    server = build()
    server.add_extension(Quiet())
    server.add_extension(Answering())
    assert call(server, "ok") == "no"
    assert call(server, "fail") == "answered"
    points = collect()
    assert actions(points, "Answering") == {"continue": 1, "short_circuit": 1}
    assert actions(points, "Quiet") == {}
