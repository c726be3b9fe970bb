"""Interceptors: what each of them did, how long it took by itself, and that it noticed nothing of being watched."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from importlib import import_module
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.sdk.interceptors.interception import name_of

from ..points import ERROR, Points
from . import example, setups
from .generation import V2, VERSION, ClientSession, SDKError, Server, memory_streams, types
from .setups import SETUPS, Setup
from .test_endings import HEADERS, INITIALIZE, httpx, low_level

Collect = Callable[[], Points]
Middleware = Callable[[Any, Any], Awaitable[Any]]

ACTIONS = "mcp.interceptor.actions"
ERRORS = "mcp.interceptor.errors"
DURATION = "mcp.interceptor.duration"

HERE = [each for each in SETUPS if each.name in ("memory", "http", "http-json", "memory-2026", "http-2026")]

only_2 = pytest.mark.skipif(not V2, reason="mcp 1.x has no middleware and no extensions")
has_body_limit = pytest.mark.skipif(
    VERSION < (1, 30) or VERSION == (2, 0), reason="this mcp release does not limit the body"
)


def actions(points: Points, interceptor: str) -> dict[str, float]:
    """What an interceptor did."""
    return points.by("action", ACTIONS, {"interceptor": interceptor})


def own_time(points: Points, interceptor: str) -> dict[str, list[float]]:
    """How often and how long an interceptor was busy, by phase."""
    return {
        str(point.attributes["phase"]): [point.value, point.total]
        for point in points.select(DURATION, {"interceptor": interceptor})
    }


def tool(context: Any) -> bool:
    """Whether a message is a tool call; the client asks other things by itself."""
    return context.method == "tools/call"


LONG = 1.0
"""Seconds that are somebody else's: a busy machine makes an interceptor's own time longer, but not by that much."""


async def call_with(setup: Setup, middleware: Middleware, name: str = "ok", arguments: Any = None) -> Any:
    """Call a tool of the example server through one more middleware; the result, or the error."""
    async with setups.connect(setup) as link:
        # What the client would ask on its own, before the middleware is there.
        await link.session.list_tools()
        low_level(link.server).middleware.append(middleware)
        try:
            return await link.session.call_tool(name, arguments or {})
        except SDKError as error:
            return error


async def low_level_call(handler: Any, *middleware: Middleware) -> Any:
    """Call a tool that is ``handler`` through some middleware, in memory; the result, or the error."""
    server = Server("low", on_call_tool=handler, on_list_tools=no_tools)
    server.middleware.extend(middleware)
    async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, far[0], far[1], server.create_initialization_options())
        async with ClientSession(near[0], near[1]) as session:
            await session.initialize()
            try:
                return await session.call_tool("any", {})
            except SDKError as error:
                return error


async def no_tools(context: Any, params: Any) -> Any:
    """A list handler: the client asks for the schema of what it called."""
    return types.ListToolsResult(tools=[])


async def done(context: Any, params: Any) -> Any:
    """A tool handler."""
    return types.CallToolResult(content=[types.TextContent(type="text", text="done")])


def text(result: Any) -> str:
    return result.content[0].text


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_only_looks_continues(setup: Setup, collect: Collect) -> None:
    async def looks(context: Any, call_next: Any) -> Any:
        return await call_next(context)

    assert text(anyio.run(call_with, setup, looks)) == "fine"
    points = collect()
    assert actions(points, "looks") == {"continue": 1}
    assert {phase: count for phase, (count, _) in own_time(points, "looks").items()} == {"request": 1, "response": 1}
    assert points.sum(ERRORS) == 0


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_rewrites_the_context_modifies(setup: Setup, collect: Collect) -> None:
    async def rewrites(context: Any, call_next: Any) -> Any:
        return await call_next(replace(context, params={**context.params, "name": "slow", "arguments": {"seconds": 0}}))

    assert text(anyio.run(call_with, setup, rewrites)) == "slept"
    assert actions(collect(), "rewrites") == {"modify": 1}


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_returns_another_result_modifies(setup: Setup, collect: Collect) -> None:
    async def redacts(context: Any, call_next: Any) -> Any:
        result = await call_next(context)
        return {**result, "content": [{"type": "text", "text": "redacted"}]} if tool(context) else result

    assert text(anyio.run(call_with, setup, redacts)) == "redacted"
    assert actions(collect(), "redacts") == {"modify": 1}


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_answers_itself_short_circuits_and_has_no_response_phase(
    setup: Setup, collect: Collect
) -> None:
    async def answers(context: Any, call_next: Any) -> Any:
        content = types.TextContent(type="text", text="cached")
        return types.CallToolResult(content=[content], structured_content={"result": "cached"})

    assert text(anyio.run(call_with, setup, answers)) == "cached"
    points = collect()
    assert actions(points, "answers") == {"short_circuit": 1}
    assert list(own_time(points, "answers")) == ["request"]


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_vetoes_rejects(setup: Setup, collect: Collect) -> None:
    async def vetoes(context: Any, call_next: Any) -> Any:
        raise SDKError(code=-32001, message="not today")

    error = anyio.run(call_with, setup, vetoes)
    assert (error.error.code, error.error.message) == (-32001, "not today")
    points = collect()
    assert actions(points, "vetoes") == {"reject": 1}
    assert points.sum(ERRORS) == 0


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_a_middleware_that_raises_is_an_error_with_its_class_name(setup: Setup, collect: Collect) -> None:
    async def crashes(context: Any, call_next: Any) -> Any:
        await call_next(context)
        raise LookupError("its own bug")

    assert isinstance(anyio.run(call_with, setup, crashes), SDKError)
    points = collect()
    assert actions(points, "crashes") == {"error": 1}
    assert points.by(ERROR, ERRORS, {"interceptor": "crashes"}) == {"LookupError": 1}
    # Those around it raised nothing of their own.
    assert set(actions(points, "OpenTelemetryMiddleware")) == {"continue"}
    assert points.sum(ERRORS) == 1


@only_2
@pytest.mark.parametrize("setup", HERE, ids=str)
def test_the_time_of_a_middleware_is_its_own(setup: Setup, collect: Collect) -> None:
    async def busy(context: Any, call_next: Any) -> Any:
        # 2.0 to 2.2 list the tools themselves before they call one.
        if not tool(context):
            return await call_next(context)
        await anyio.sleep(0.1)
        result = await call_next(context)
        await anyio.sleep(0.2)
        return result

    assert text(anyio.run(call_with, setup, busy, "slow", {"seconds": LONG})) == "slept"
    time_of = own_time(collect(), "busy")
    assert 0.1 <= time_of["request"][1] < LONG
    assert 0.2 <= time_of["response"][1] < LONG


@only_2
def test_nested_middleware_are_timed_apart(collect: Collect) -> None:
    async def outer(context: Any, call_next: Any) -> Any:
        return await call_next(context)

    async def inner(context: Any, call_next: Any) -> Any:
        if tool(context):
            await anyio.sleep(LONG)
        return await call_next(context)

    anyio.run(low_level_call, done, outer, inner)
    points = collect()
    assert own_time(points, "outer")["request"][1] < LONG
    assert own_time(points, "inner")["request"][1] >= LONG


@only_2
def test_what_a_retry_waits_between_its_calls_is_its_own_time(collect: Collect) -> None:
    tries: list[Any] = []

    async def fails_once(context: Any, params: Any) -> Any:
        await anyio.sleep(LONG)
        tries.append(context)
        if len(tries) == 1:
            raise RuntimeError("not yet")
        return await done(context, params)

    async def retries(context: Any, call_next: Any) -> Any:
        try:
            return await call_next(context)
        except RuntimeError:
            await anyio.sleep(0.1)
            return await call_next(context)

    assert text(anyio.run(low_level_call, fails_once, retries)) == "done"
    points = collect()
    assert actions(points, "retries") == {"continue": points.sum(ACTIONS, {"interceptor": "retries"})}
    time_of = own_time(points, "retries")
    assert time_of["request"][1] < LONG
    assert 0.1 <= time_of["response"][1] < LONG


@only_2
def test_a_hedge_is_charged_for_nothing_while_a_call_is_running(collect: Collect) -> None:
    async def slow(context: Any, params: Any) -> Any:
        await anyio.sleep(2 * LONG)
        return await done(context, params)

    async def hedges(context: Any, call_next: Any) -> Any:
        if not tool(context):
            return await call_next(context)
        results: list[Any] = []

        async def one() -> None:
            results.append(await call_next(context))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            await anyio.sleep(LONG)
            tasks.start_soon(one)
        return results[0]

    assert text(anyio.run(low_level_call, slow, hedges)) == "done"
    points = collect()
    assert set(actions(points, "hedges")) == {"continue"}
    assert sum(total for _, total in own_time(points, "hedges").values()) < LONG


@only_2
def test_a_call_that_was_left_behind_does_not_disturb(collect: Collect) -> None:
    left = anyio.Event()

    async def slow(context: Any, params: Any) -> Any:
        await anyio.sleep(0.1)
        left.set()
        return await done(context, params)

    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:

            async def impatient(context: Any, call_next: Any) -> Any:
                if not tool(context):
                    return await call_next(context)
                tasks.start_soon(call_next, context)
                await anyio.sleep(0.02)
                return await done(context, None)

            assert text(await low_level_call(slow, impatient)) == "done"

    anyio.run(scenario)
    points = collect()
    assert left.is_set()
    assert actions(points, "impatient")["modify"] == 1
    assert own_time(points, "impatient")["request"][0] == points.sum(ACTIONS, {"interceptor": "impatient"})


@only_2
def test_a_handlers_exception_passes_through_as_the_same_object(collect: Collect) -> None:
    boom = RuntimeError("in the handler")
    seen: list[BaseException] = []

    async def fails(context: Any, params: Any) -> Any:
        raise boom

    async def notes(context: Any, call_next: Any) -> Any:
        try:
            return await call_next(context)
        except Exception as error:
            seen.append(error)
            raise

    class Notes:
        async def __call__(self, context: Any, call_next: Any) -> Any:
            return await notes(context, call_next)

    anyio.run(low_level_call, fails, notes, Notes())
    assert [each is boom for each in seen] == [True, True]
    points = collect()
    for name in ("notes", "Notes", "OpenTelemetryMiddleware"):
        assert set(actions(points, name)) == {"continue"}
        # Its time is recorded all the same.
        assert own_time(points, name)["response"][0] == actions(points, name)["continue"]
    assert points.sum(ERRORS) == 0


@only_2
def test_a_group_around_the_handlers_exception_is_not_the_middlewares_error(collect: Collect) -> None:
    async def fails(context: Any, params: Any) -> Any:
        raise RuntimeError("in the handler")

    async def groups(context: Any, call_next: Any) -> Any:
        result: list[Any] = []

        async def one() -> None:
            result.append(await call_next(context))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
        return result[0]

    anyio.run(low_level_call, fails, groups)
    assert set(actions(collect(), "groups")) == {"continue"}


@only_2
def test_a_middleware_that_makes_up_for_an_exception_modifies(collect: Collect) -> None:
    async def fails(context: Any, params: Any) -> Any:
        raise RuntimeError("in the handler")

    async def recovers(context: Any, call_next: Any) -> Any:
        try:
            return await call_next(context)
        except RuntimeError:
            return await done(context, None)

    assert text(anyio.run(low_level_call, fails, recovers)) == "done"
    assert actions(collect(), "recovers")["modify"] == 1


@only_2
def test_an_error_of_the_sdk_from_within_is_not_the_middlewares_veto(collect: Collect) -> None:
    async def refuses(context: Any, params: Any) -> Any:
        raise SDKError(code=-32002, message="no such thing")

    async def looks(context: Any, call_next: Any) -> Any:
        return await call_next(context)

    assert anyio.run(low_level_call, refuses, looks).error.code == -32002
    assert set(actions(collect(), "looks")) == {"continue"}


@only_2
def test_a_middleware_that_returns_an_error_reply_rejects(collect: Collect) -> None:
    async def replies(context: Any, call_next: Any) -> Any:
        return types.ErrorData(code=-32001, message="no") if tool(context) else await call_next(context)

    assert anyio.run(low_level_call, done, replies).error.code == -32001
    assert actions(collect(), "replies")["reject"] == 1


@only_2
@pytest.mark.parametrize("seconds", [0, 5], ids=["in the handler", "in the middleware"])
def test_a_cancellation_passes_through_as_continue(seconds: float, collect: Collect) -> None:
    seen: list[BaseException] = []

    async def waits(context: Any, call_next: Any) -> Any:
        if not tool(context):
            return await call_next(context)
        try:
            await anyio.sleep(seconds)
            return await call_next(context)
        except BaseException as error:
            seen.append(error)
            raise

    async def scenario() -> None:
        async with setups.connect(HERE[0]) as link:
            await link.session.list_tools()
            low_level(link.server).middleware.append(waits)
            with anyio.move_on_after(0.2):
                await link.session.call_tool("slow", {"seconds": 5})
            while not seen:
                await anyio.sleep(0.01)

    anyio.run(scenario)
    assert [isinstance(each, Exception) for each in seen] == [False]
    points = collect()
    assert set(actions(points, "waits")) == {"continue"}
    assert points.sum(ERRORS) == 0
    assert own_time(points, "waits")["request"][0] == actions(points, "waits")["continue"]


@only_2
def test_notifications_are_intercepted_too(collect: Collect) -> None:
    methods: list[str] = []

    async def drops(context: Any, call_next: Any) -> Any:
        if context.request_id is None:
            methods.append(context.method)
            return None
        return await call_next(context)

    async def scenario() -> None:
        async with setups.connect(HERE[0]) as link:
            low_level(link.server).middleware.append(drops)
            for _ in range(3):
                await link.session.send_notification(types.RootsListChangedNotification())
            await link.session.list_tools()
            while methods.count("notifications/roots/list_changed") < 3:
                await anyio.sleep(0.01)

    anyio.run(scenario)
    # The last one of the handshake may still be on its way when the middleware comes.
    assert methods.count("notifications/roots/list_changed") == 3
    assert actions(collect(), "drops") == {"short_circuit": len(methods), "continue": 1}


@only_2
def test_what_a_middleware_sets_in_the_context_reaches_the_handler_and_nothing_of_it_stays(collect: Collect) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[tuple[str, Any]] = []

    async def handler(context: Any, params: Any) -> Any:
        seen.append((variable.get(), anyio.get_current_task().id))
        return await done(context, params)

    async def sets(context: Any, call_next: Any) -> Any:
        if not tool(context):
            return await call_next(context)
        token = variable.set("set")
        try:
            result = await call_next(context)
            seen.append((variable.get(), anyio.get_current_task().id))
            return result
        finally:
            variable.reset(token)

    anyio.run(low_level_call, handler, sets)
    assert [value for value, _ in seen] == ["set", "set"]
    assert seen[0][1] == seen[1][1]


@only_2
def test_the_middleware_of_the_sdk_itself_is_there_by_name(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(HERE[0]) as link:
            await link.session.send_ping()

    anyio.run(scenario)
    points = collect()
    # initialize, notifications/initialized, ping
    assert actions(points, "OpenTelemetryMiddleware") == {"continue": 3}
    assert actions(points, "RequestStateBoundary") == {"continue": 3}


@only_2
def test_a_server_made_before_instrument_is_seen(collect: Collect) -> None:
    MCPInstrumentor().uninstrument()
    server = example.build()
    low = low_level(server)

    async def looks(context: Any, call_next: Any) -> Any:
        return await call_next(context)

    low.middleware.append(looks)
    reader = InMemoryMetricReader()
    MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                await session.send_ping()

    anyio.run(scenario)
    assert actions(Points.of(reader), "looks") == {"continue": 3}


@only_2
def test_a_message_under_way_survives_uninstrument(collect: Collect) -> None:
    async def uninstruments(context: Any, call_next: Any) -> Any:
        if tool(context):
            MCPInstrumentor().uninstrument()
        return await call_next(context)

    async def after(context: Any, call_next: Any) -> Any:
        return await call_next(context)

    assert text(anyio.run(low_level_call, done, uninstruments, after)) == "done"


@only_2
def test_the_interceptor_of_an_extension_is_seen_and_one_that_does_not_intercept_is_not(collect: Collect) -> None:
    base: Any = import_module("mcp.server.extension").Extension

    class Quiet(base):
        identifier = "test.example/quiet"

    class Looking(base):
        identifier = "test.example/looking"

        async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
            await anyio.sleep(0.1)
            return await call_next(ctx)

    class Vetoing(base):
        identifier = "test.example/vetoing"

        async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
            if params.name == "ok":
                raise SDKError(code=-32001, message="no")
            return await call_next(ctx)

    server = example.build(extensions=[Quiet(), Looking(), Vetoing()])
    low = low_level(server)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                await session.list_tools()
                with pytest.raises(SDKError):
                    await session.call_tool("ok", {})
                await session.call_tool("slow", {"seconds": LONG})

    anyio.run(scenario)
    points = collect()
    assert actions(points, "Quiet") == {}
    assert actions(points, "Looking") == {"continue": 2}
    assert actions(points, "Vetoing") == {"reject": 1, "continue": 1}
    count, total = own_time(points, "Looking")["request"]
    assert count == 2
    assert 0.2 <= total < LONG


@only_2
def test_an_extension_that_answers_itself_short_circuits(collect: Collect) -> None:
    base: Any = import_module("mcp.server.extension").Extension

    class Answering(base):
        identifier = "test.example/answering"

        async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
            content = types.TextContent(type="text", text="answered")
            return types.CallToolResult(content=[content], structured_content={"result": "answered"})

    server = example.build(extensions=[Answering()])
    low = low_level(server)

    async def scenario() -> None:
        async with memory_streams() as (near, far), anyio.create_task_group() as tasks:
            tasks.start_soon(low.run, far[0], far[1], low.create_initialization_options())
            async with ClientSession(near[0], near[1]) as session:
                await session.initialize()
                assert text(await session.call_tool("fail", {})) == "answered"

    anyio.run(scenario)
    assert actions(collect(), "Answering") == {"short_circuit": 1}


class _Interceptor:
    """Every way a middleware can be given."""

    async def __call__(self, context: Any, call_next: Any) -> Any: ...

    async def method(self, context: Any, call_next: Any) -> Any: ...

    @classmethod
    async def of_class(cls, context: Any, call_next: Any) -> Any: ...

    @staticmethod
    async def static(context: Any, call_next: Any) -> Any: ...


async def _function(context: Any, call_next: Any) -> Any: ...


_anonymous: Middleware = lambda context, call_next: call_next(context)  # noqa: E731


@pytest.mark.parametrize(
    ("interceptor", "name"),
    [
        (_function, "_function"),
        (_Interceptor(), "_Interceptor"),
        (_Interceptor, "_Interceptor"),
        (_Interceptor().method, "_Interceptor.method"),
        (_Interceptor.of_class, "_Interceptor.of_class"),
        (_Interceptor.static, "static"),
        (functools.partial(_function), "_function"),
        (functools.partial(functools.partial(_Interceptor().method)), "_Interceptor.method"),
        (_anonymous, "<lambda>"),
    ],
)
def test_an_interceptor_has_a_name_whatever_it_is(interceptor: Any, name: str) -> None:
    assert name_of(interceptor) == name


def http_app(build: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A streamable HTTP application; 1.x takes its settings with the server."""
    if V2:
        return example.build(**(build or {})).streamable_http_app(**settings)
    return example.build(**(build or {}), **settings).streamable_http_app()


async def initialize(app: Any, **headers: str) -> int:
    """POST an ``initialize`` to an application; the status of the answer."""
    async with setups.serve(app) as base, httpx.AsyncClient() as client:
        response = await client.post(f"{base}/mcp", json=INITIALIZE, headers={**HEADERS, **headers})
    return int(response.status_code)


def post(app: Any, **headers: str) -> int:
    return anyio.run(functools.partial(initialize, app, **headers))


def test_a_request_with_a_host_that_is_not_allowed_is_rejected_by_the_transport_security(collect: Collect) -> None:
    security: Any = import_module("mcp.server.transport_security").TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=["127.0.0.1:*"]
    )
    started = time.perf_counter()
    assert post(http_app(transport_security=security)) == 200
    assert post(http_app(transport_security=security), host="evil.example") == 421
    elapsed = time.perf_counter() - started
    points = collect()
    assert actions(points, "TransportSecurityMiddleware") == {"continue": 1, "reject": 1}
    [phase] = own_time(points, "TransportSecurityMiddleware").items()
    assert phase[0] == "request"
    assert phase[1][0] == 2
    assert 0 < phase[1][1] < elapsed


class Verifier:
    """Knows one token; everything else it is asked has its own end."""

    async def verify_token(self, token: str) -> Any:
        if token == "crash":
            raise ConnectionError("the introspection endpoint is down")
        if token == "malformed":
            raise import_module("starlette.authentication").AuthenticationError("not a token")
        if token == "unknown":
            return None
        await anyio.sleep(LONG)
        kind: Any = import_module("mcp.server.auth.provider").AccessToken
        scopes = ["use"] if token == "good" else []
        return kind(token=token, client_id="test", scopes=scopes, resource="http://127.0.0.1/mcp")


def guarded(verifier: Verifier) -> Any:
    """An application that wants a bearer token."""
    kind: Any = import_module("mcp.server.auth.settings").AuthSettings
    # Later releases want to be told.
    told = {"validate_token_resource": True} if "validate_token_resource" in kind.model_fields else {}
    settings = kind(
        issuer_url="http://127.0.0.1/", resource_server_url="http://127.0.0.1/mcp", required_scopes=["use"], **told
    )
    return http_app({"auth": settings, "token_verifier": verifier})


def test_a_request_without_a_token_is_rejected_once_and_by_the_guard_that_answers(collect: Collect) -> None:
    assert post(guarded(Verifier())) == 401
    points = collect()
    assert actions(points, "RequireAuthMiddleware") == {"reject": 1}
    assert actions(points, "BearerAuthBackend") == {"continue": 1}
    assert actions(points, "Verifier") == {}
    assert own_time(points, "RequireAuthMiddleware") == {}
    assert list(own_time(points, "BearerAuthBackend")) == ["request"]


@pytest.mark.parametrize(("token", "status"), [("unknown", 401), ("powerless", 403)])
def test_a_bad_token_is_rejected_by_the_guard_that_answers(token: str, status: int, collect: Collect) -> None:
    assert post(guarded(Verifier()), authorization=f"Bearer {token}") == status
    points = collect()
    assert actions(points, "RequireAuthMiddleware") == {"reject": 1}
    assert actions(points, "BearerAuthBackend") == {"continue": 1}
    assert actions(points, "Verifier") == {"continue": 1}
    assert points.sum(ERRORS) == 0


def test_a_good_token_passes_every_guard_and_the_verifier_has_its_own_time(collect: Collect) -> None:
    verifier = Verifier()
    assert post(guarded(verifier), authorization="Bearer good") == 200
    points = collect()
    for name in ("RequireAuthMiddleware", "BearerAuthBackend", "Verifier", "TransportSecurityMiddleware"):
        assert actions(points, name) == {"continue": 1}
    assert own_time(points, "Verifier")["request"][1] >= LONG
    assert sum(total for _, total in own_time(points, "BearerAuthBackend").values()) < LONG
    # Watched, not changed.
    assert vars(verifier) == {}
    assert Verifier.verify_token.__module__ == __name__


def test_a_verifier_that_raises_is_an_error_of_the_verifier_alone(collect: Collect) -> None:
    assert post(guarded(Verifier()), authorization="Bearer crash") == 500
    points = collect()
    assert points.by("interceptor", ERRORS, {ERROR: "ConnectionError"}) == {"Verifier": 1}
    assert actions(points, "Verifier") == {"error": 1}
    assert actions(points, "BearerAuthBackend") == {"continue": 1}
    assert actions(points, "RequireAuthMiddleware") == {}


def test_a_verifier_that_refuses_as_starlette_wants_it_rejects(collect: Collect) -> None:
    assert post(guarded(Verifier()), authorization="Bearer malformed") == 400
    points = collect()
    assert actions(points, "Verifier") == {"reject": 1}
    assert points.sum(ERRORS) == 0


@has_body_limit
def test_a_body_over_the_limit_is_rejected_declared_or_not(collect: Collect) -> None:
    async def scenario() -> list[int]:
        async def chunks() -> Any:
            for _ in range(4):
                yield b"x" * 100

        app = http_app(max_request_body_size=300)
        async with setups.serve(app) as base, httpx.AsyncClient() as client:
            bodies: list[Any] = [b"x" * 400, chunks(), b"{}"]
            return [(await client.post(f"{base}/mcp", content=body, headers=HEADERS)).status_code for body in bodies]

    assert anyio.run(scenario) == [413, 413, 400]
    points = collect()
    assert actions(points, "RequestBodyLimitMiddleware") == {"reject": 2, "continue": 1}
    assert own_time(points, "RequestBodyLimitMiddleware") == {}


@has_body_limit
def test_a_gate_has_acted_before_the_stream_behind_it_ends(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(next(each for each in SETUPS if each.name == "http")) as link:
            # The standalone GET of the client is open, and stays so.
            await link.session.call_tool("ok", {})
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                posted = collect().sum(ACTIONS, {"interceptor": "RequestBodyLimitMiddleware", "action": "continue"})
                if posted > sum(link.wire.asked.values()) + sum(link.wire.told.values()):
                    return
                await anyio.sleep(0.02)
            raise AssertionError("the open stream was not counted")

    anyio.run(scenario)
