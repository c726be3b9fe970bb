"""``mcp.connection.errors``: every failure and refusal of a transport, once, under its most specific cause."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from enum import IntEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import pytest

from ..points import ERROR, ROLE, TRANSPORT, Points
from . import example, setups
from .generation import V2, ClientSession, StdioServerParameters, sse_client, stdio_client, streamable_http_client
from .http import HEADERS, INITIALIZE, failing_app, httpx, low_level, manager
from .setups import SETUPS

Collect = Callable[[], Points]
HTTP = next(each for each in SETUPS if each.name == "http")
SSE = next(each for each in SETUPS if each.name == "sse")


def errors(points: Points, role: str) -> dict[str, float]:
    """The connection errors of a role by cause."""
    return points.by(ERROR, "mcp.connection.errors", {ROLE: role})


def refused(collect: Collect, status: int, post: dict[str, Any], **settings: Any) -> Points:
    """Serve the example over streamable HTTP, post something to it, expect the status; the points."""

    async def scenario() -> None:
        async with manager(example.build(), **settings) as (_, url), httpx.AsyncClient() as http:
            reply = await http.post(url, **post)
            assert reply.status_code == status, reply.text

    anyio.run(scenario)
    points = collect()
    assert points.sum("mcp.requests.total") == 0
    return points


@pytest.mark.parametrize(
    ("status", "error", "post"),
    [
        (400, "-32700", {"content": b"{", "headers": HEADERS}),
        (404, "404", {"json": INITIALIZE, "headers": HEADERS | {"mcp-session-id": "gone"}}),
        (400, "400", {"json": INITIALIZE | {"method": "ping"}, "headers": HEADERS}),
        (406, "406", {"json": INITIALIZE, "headers": {"accept": "text/plain"}}),
    ],
    ids=["unparsable", "unknown session", "no session", "not acceptable"],
)
def test_what_a_server_refuses_before_it_is_a_request_is_one_error(
    status: int, error: str, post: dict[str, Any], collect: Collect
) -> None:
    points = refused(collect, status, post)
    assert errors(points, "server") == {error: 1}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {"streamable_http": 1}


@pytest.mark.every_release
def test_what_is_no_message_is_one_error_of_the_application_that_the_sdk_makes(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.serve(setups.http_app(example.build(), HTTP)) as base, httpx.AsyncClient() as http:
            reply = await http.post(f"{base}/mcp", content=b"{", headers=HEADERS)
            assert reply.status_code == 400, reply.text

    anyio.run(scenario)
    points = collect()
    assert points.by(ERROR, "mcp.connection.errors", {ROLE: "server", TRANSPORT: "streamable_http"}) == {"-32700": 1}


def test_a_manager_of_the_applications_own_class_is_known_for_what_it_is(collect: Collect) -> None:
    class Own(import_module("mcp.server.streamable_http_manager").StreamableHTTPSessionManager):
        pass

    async def scenario() -> None:
        app = Own(app=low_level(example.build()))
        entry = getattr(app, "asgi_app", app.handle_request)
        async with app.run(), setups.serve(entry) as base, httpx.AsyncClient() as http:
            await http.post(f"{base}/mcp", content=b"{", headers=HEADERS)

    anyio.run(scenario)
    assert collect().by(TRANSPORT, "mcp.connection.errors") == {"streamable_http": 1}


def test_a_body_over_the_limit_is_one_error(collect: Collect) -> None:
    points = refused(collect, 413, {"json": INITIALIZE, "headers": HEADERS}, max_request_body_size=10)
    assert errors(points, "server") == {"413": 1}


@pytest.mark.parametrize(
    ("status", "header"), [(421, {"host": "evil.example"}), (403, {"origin": "http://evil.example"})]
)
def test_a_host_or_origin_that_is_not_allowed_is_one_error(
    status: int, header: dict[str, str], collect: Collect
) -> None:
    security: Any = import_module("mcp.server.transport_security").TransportSecuritySettings(
        enable_dns_rebinding_protection=True, allowed_hosts=["127.0.0.1:*"], allowed_origins=["http://127.0.0.1:*"]
    )
    points = refused(
        collect,
        status,
        {"json": INITIALIZE, "headers": HEADERS | header},
        security_settings=security,
    )
    assert errors(points, "server") == {str(status): 1}


def test_a_session_over_the_limit_is_one_error(collect: Collect) -> None:
    async def scenario() -> None:
        async with manager(example.build(), max_sessions=1) as (_, url), httpx.AsyncClient() as http:
            assert (await http.post(url, json=INITIALIZE, headers=HEADERS)).status_code == 200
            assert (await http.post(url, json=INITIALIZE, headers=HEADERS)).status_code == 503

    anyio.run(scenario)
    points = collect()
    assert errors(points, "server") == {"503": 1}
    assert points.sum("mcp.sessions.created") == 1


class Verifier:
    """Knows one token, which is good for nothing."""

    async def verify_token(self, token: str) -> Any:
        module = import_module("mcp.server.auth.provider")
        return module.AccessToken(token=token, client_id="c", scopes=[]) if token == "known" else None


@pytest.mark.parametrize(("status", "header"), [(401, {}), (403, {"authorization": "Bearer known"})])
def test_a_missing_token_or_scope_is_one_error(status: int, header: dict[str, str], collect: Collect) -> None:
    settings: Any = import_module("mcp.server.auth.settings").AuthSettings(
        issuer_url="http://127.0.0.1/", resource_server_url="http://127.0.0.1/", required_scopes=["all"]
    )

    async def scenario() -> None:
        server = example.build(auth=settings, token_verifier=Verifier())
        async with setups.serve(server.streamable_http_app()) as base, httpx.AsyncClient() as http:
            reply = await http.post(f"{base}/mcp", json=INITIALIZE, headers=HEADERS | header)
            assert reply.status_code == status

    anyio.run(scenario)
    points = collect()
    assert errors(points, "server") == {str(status): 1}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {"streamable_http": 1}


def test_garbage_posted_to_an_sse_server_is_one_error(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.connect(SSE) as link, httpx.AsyncClient() as http:
            await link.session.call_tool("ok", {})
            base = link.url.rsplit("/", 1)[0]
            reply = await http.post(f"{base}/messages/?session_id={'0' * 32}", json=INITIALIZE)
            assert reply.status_code == 404

    anyio.run(scenario)
    points = collect()
    assert errors(points, "server") == {"404": 1}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {"sse": 1}


def test_a_get_that_is_not_allowed_and_a_probe_that_is_refused_are_no_errors(collect: Collect) -> None:
    probe: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {}}
    routed = {"mcp-protocol-version": "2026-07-28", "mcp-method": "server/discover"}

    async def scenario() -> None:
        settings: dict[str, Any] = {} if V2 else {"stateless_http": True}
        app = setups.http_app(example.build(**settings), HTTP)
        async with setups.serve(app) as base, httpx.AsyncClient() as http:
            await http.post(f"{base}/mcp", json=probe, headers=HEADERS | routed)
            await http.get(f"{base}/mcp", headers={"mcp-protocol-version": "2026-07-28", "accept": "text/html"})
            await http.delete(f"{base}/mcp", headers={"mcp-protocol-version": "2026-07-28"})

    if V2:
        anyio.run(scenario)
        assert errors(collect(), "server") == {}
    else:
        anyio.run(scenario)
        # 1.x answers the GET with 406, which is a refusal; the probe and the DELETE are not counted.
        assert set(errors(collect(), "server")) <= {"406", "400"}


class Status(IntEnum):
    """As Python 3.10 shows the members of ``http.HTTPStatus``, which the SDK answers with: by their names."""

    NO = 400

    def __str__(self) -> str:
        return f"Status.{self.name}"


def test_a_status_with_a_name_is_shown_as_the_number(collect: Collect, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both sides: what the server is answered with reaches its ``send``, and the client's ``status_code``."""
    responses = import_module("starlette.responses")
    original = responses.Response.__init__

    def named(self: Any, content: Any = None, status_code: int = 200, *args: Any, **kwargs: Any) -> None:
        original(self, content, Status.NO if status_code == 400 else status_code, *args, **kwargs)

    monkeypatch.setattr(responses.Response, "__init__", named)
    points = refused(collect, 400, {"json": INITIALIZE | {"method": "ping"}, "headers": HEADERS})
    assert errors(points, "server") == {"400": 1}


NO_METHODS = ("OPTIONS", "PUT", "PATCH")
"""With which nobody speaks MCP. A browser asks by OPTIONS whether it may post at all."""


@pytest.mark.parametrize("path", ["/mcp", "/messages/"])
@pytest.mark.parametrize("method", [*NO_METHODS, "HEAD"])
def test_a_method_that_is_no_part_of_the_protocol_is_one_error(method: str, path: str, collect: Collect) -> None:
    setup = HTTP if path == "/mcp" else SSE

    async def scenario() -> None:
        app = setups.http_app(example.build(), setup)
        async with setups.serve(app) as base, httpx.AsyncClient() as http:
            reply = await http.request(method, base + path, headers={"access-control-request-method": "POST"})
            assert reply.status_code == 405

    anyio.run(scenario)
    points = collect()
    assert errors(points, "server") == {"405": 1}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {setup.transport: 1}
    assert points.sum("mcp.requests.total") == 0
    assert points.sum("mcp.connections.active") == 0


@pytest.mark.skipif(not V2, reason="mcp 1.x does not speak it")
@pytest.mark.parametrize("method", NO_METHODS)
def test_a_method_that_2026_07_28_does_not_know_is_one_error(method: str, collect: Collect) -> None:
    async def scenario() -> None:
        app = setups.http_app(example.build(), HTTP)
        async with setups.serve(app) as base, httpx.AsyncClient() as http:
            reply = await http.request(method, f"{base}/mcp", headers={"mcp-protocol-version": "2026-07-28"})
            assert reply.status_code == 405

    anyio.run(scenario)
    points = collect()
    assert errors(points, "server") == {"405": 1}
    assert points.sum("mcp.requests.total") == 0


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), (None, 405)])
def test_a_preflight_that_fails_is_one_error_whatever_the_answer(
    origin: str | None, status: int, collect: Collect
) -> None:
    """The browser keeps the answer from the page; the server's operator is the only one who can see it."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "mcp-protocol-version"}

    async def scenario() -> None:
        app = setups.http_app(example.build(), HTTP)
        async with setups.serve(app) as base, httpx.AsyncClient() as http:
            headers = asked | {"origin": origin or base}
            assert (await http.options(f"{base}/mcp", headers=headers)).status_code == status

    anyio.run(scenario)
    assert errors(collect(), "server") == {str(status): 1}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_get_or_delete_that_an_sse_server_does_not_take_is_no_error(method: str, collect: Collect) -> None:
    async def scenario() -> None:
        app = setups.http_app(example.build(), SSE)
        async with setups.serve(app) as base, httpx.AsyncClient() as http:
            assert (await http.request(method, f"{base}/messages/")).status_code == 405

    anyio.run(scenario)
    assert errors(collect(), "server") == {}


def test_an_unparsable_line_is_one_error_of_a_stdio_server(tmp_path: Path) -> None:
    report = tmp_path / "points.json"

    async def scenario() -> None:
        command = [sys.executable, "-m", "tests.sdk.stdio_server", str(report)]
        environment = {**os.environ, "PYTHONPATH": str(setups.HERE.parent.parent)}
        async with await anyio.open_process(command, env=environment, stderr=None) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            await server.stdin.send(json.dumps(INITIALIZE).encode() + b"\n")
            await server.stdout.receive()
            for line in (b"no json at all\n", b'{"json": "but no message"}\n'):
                await server.stdin.send(line)
            await anyio.sleep(0.2)
            await server.stdin.aclose()
            with anyio.fail_after(10):
                await server.wait()

    anyio.run(scenario)
    points = Points.from_json(json.loads(report.read_text()))
    assert errors(points, "server") == {"ValidationError": 2}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {"stdio": 2}


def test_a_server_that_cannot_be_started_is_one_error_and_no_connection(collect: Collect) -> None:
    async def scenario() -> None:
        parameters = StdioServerParameters(command="/no/such/program", args=[])
        with pytest.raises(OSError, match="No such file"):
            async with stdio_client(parameters):
                pass

    anyio.run(scenario)
    points = collect()
    assert errors(points, "client") == {"FileNotFoundError": 1}
    assert points.sum("mcp.connections.total") == 0


def test_a_server_that_talks_garbage_is_one_error_a_line(collect: Collect) -> None:
    async def scenario() -> None:
        program = "import sys; print('hello'); print('world'); sys.stdout.flush(); sys.stdin.read()"
        parameters = StdioServerParameters(command=sys.executable, args=["-c", program])
        async with stdio_client(parameters) as (read, write), ClientSession(read, write):
            await anyio.sleep(0.5)

    anyio.run(scenario)
    assert errors(collect(), "client") == {"ValidationError": 2}


def test_a_server_that_is_not_there_is_one_error(collect: Collect) -> None:
    """What surfaces at the caller is a cancellation; the cause is counted, once."""

    async def scenario() -> None:
        with pytest.raises(BaseException):  # noqa: B017  # ConnectError, in a group.
            async with setups.client_over(streamable_http_client("http://127.0.0.1:9/mcp")):
                pass
        with pytest.raises(BaseException):  # noqa: B017
            async with setups.client_over(sse_client("http://127.0.0.1:9/sse")):
                pass

    anyio.run(scenario)
    points = collect()
    assert errors(points, "client") == {"ConnectError": 2}
    assert points.by(TRANSPORT, "mcp.connection.errors") == {"streamable_http": 1, "sse": 1}


@pytest.mark.parametrize("status", [403, 500, 503])
def test_an_http_error_is_one_error_of_the_client(status: int, collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.serve(failing_app(status)) as base:
            with pytest.raises(BaseException):  # noqa: B017
                async with setups.client_over(streamable_http_client(f"{base}/mcp")) as session:
                    await session.call_tool("ok", {})
            with pytest.raises(BaseException):  # noqa: B017
                async with setups.client_over(sse_client(f"{base}/sse")):
                    pass

    anyio.run(scenario)
    points = collect()
    assert points.sum("mcp.connection.errors", {TRANSPORT: "streamable_http", ERROR: str(status)}) == 1
    assert points.sum("mcp.connection.errors", {TRANSPORT: "sse"}) == 1


@pytest.mark.skipif(not V2, reason="mcp 1.x has no limit on events")
def test_an_event_over_the_limit_is_one_error(collect: Collect) -> None:
    async def scenario() -> None:
        async with setups.serve(setups.http_app(example.build(), HTTP)) as base:
            transport = streamable_http_client(f"{base}/mcp", max_sse_event_size=2_000)
            async with setups.client_over(transport) as session:
                with pytest.raises(Exception, match="SSE stream failed"):
                    await session.call_tool("large", {"size": 5_000})

    anyio.run(scenario)
    points = collect()
    [error] = points.select("mcp.connection.errors", {ROLE: "client"})
    assert error.value == 1
    assert "SSE" in error.attributes[ERROR]
    lost = {ROLE: "client", "mcp.method.name": "tools/call"}
    assert points.by("status", "mcp.requests.total", lost) == {"connection_lost": 1}


class Auth(httpx.Auth):
    """Gives its token when it is asked for one."""

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        response = yield request
        if response.status_code == 401:
            request.headers["authorization"] = "Bearer good"
            yield request


def token_asked(request: Any) -> Any:
    """What asks the same server for a token; it is JSON as well, and larger than some messages."""
    body = {"grant_type": "client_credentials", "assertion": "x" * 500}
    return httpx.Request("POST", request.url.copy_with(path="/token", query=None), json=body)


class Beforehand(Auth):
    """Gets a token for every request first."""

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        yield token_asked(request)
        request.headers["authorization"] = "Bearer good"
        yield request


class Afterwards(Auth):
    """Gets one when it is asked for it."""

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        response = yield request
        if response.status_code == 401:
            yield token_asked(request)
            request.headers["authorization"] = "Bearer good"
            yield request


class Anew(Auth):
    """Says the same again, in a request of its own."""

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        response = yield request
        if response.status_code == 401:
            headers = {**request.headers, "authorization": "Bearer good"}
            yield httpx.Request(request.method, request.url, headers=headers, content=request.content)


def guarded(app: Any, forbidden: bytes | None = None) -> Any:
    """Asks every POST for a token, and gives one; with a token everything is allowed but what is ``forbidden``."""

    async def answer(receive: Any, send: Any, status: int) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
        elif scope["path"] == "/token":
            await answer(receive, send, 200)
        elif b"authorization" not in dict(scope["headers"]):
            await answer(receive, send, 401)
        elif forbidden is None:
            await app(scope, receive, send)
        else:
            messages = [await receive()]
            if forbidden in messages[0]["body"]:
                await answer(partial(anyio.sleep, 0), send, 403)
            else:

                async def again() -> Any:
                    return messages.pop() if messages else await receive()

                await app(scope, again, send)

    return guard


@pytest.mark.parametrize("auth", [Auth, Beforehand, Afterwards, Anew])
@pytest.mark.parametrize("setup", [HTTP, SSE], ids=str)
def test_a_token_that_is_asked_for_and_given_is_no_error_and_measured_once(
    setup: setups.Setup, auth: type[Auth], collect: Collect
) -> None:
    async def scenario() -> None:
        async with (
            setups.serve(guarded(setups.http_app(example.build(), setup))) as base,
            httpx.AsyncClient(auth=auth(), timeout=10) as http,
        ):
            if setup is SSE:
                transport = sse_client(f"{base}/sse", auth=auth())
            else:
                transport = streamable_http_client(f"{base}/mcp", http_client=http)
            async with setups.client_over(transport) as session:
                await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert errors(points, "client") == {}
    for role in ("client", "server"):
        sizes = points.select("mcp.request.size", {ROLE: role, "mcp.method.name": "tools/call"})
        assert [point.value for point in sizes] == [1]
    totals = {
        role: sum(point.total for point in points.select("mcp.request.size", {ROLE: role}))
        for role in ("client", "server")
    }
    assert totals["client"] == totals["server"]


def test_a_request_that_goes_out_when_its_caller_has_gone_is_measured(collect: Collect) -> None:
    class Slow(httpx.Auth):
        async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
            if b"tools/call" in request.content:
                await anyio.sleep(0.3)
            yield request

    async def scenario() -> None:
        app = setups.http_app(example.build(), HTTP)
        async with (
            setups.serve(app) as base,
            httpx.AsyncClient(auth=Slow(), timeout=10) as http,
            setups.client_over(streamable_http_client(f"{base}/mcp", http_client=http)) as session,
        ):
            with anyio.move_on_after(0.1):
                await session.call_tool("ok", {})
            await anyio.sleep(0.5)

    anyio.run(scenario)
    sizes = {"mcp.method.name": "tools/call"}
    client, server = (collect().sum("mcp.request.size", {ROLE: role, **sizes}) for role in ("client", "server"))
    assert client == server


@pytest.mark.parametrize("auth", [Auth, Beforehand, Afterwards, Anew])
def test_what_is_forbidden_in_spite_of_a_token_is_what_the_last_answer_says(auth: type[Auth], collect: Collect) -> None:
    async def scenario() -> None:
        app = guarded(setups.http_app(example.build(), HTTP), forbidden=b"tools/call")
        async with setups.serve(app) as base, httpx.AsyncClient(auth=auth(), timeout=10) as http:
            with suppress(Exception, anyio.get_cancelled_exc_class()):
                async with setups.client_over(streamable_http_client(f"{base}/mcp", http_client=http)) as session:
                    await session.call_tool("ok", {})

    anyio.run(scenario)
    points = collect()
    assert errors(points, "client") == {"403": 1}
    calls = points.by("status", "mcp.requests.total", {ROLE: "client", "mcp.method.name": "tools/call"})
    assert calls == {"client_error": 1}


@pytest.mark.parametrize(("status", "cause"), [(500, "500"), (200, "ValidationError")])
def test_an_answer_that_is_json_but_no_message_is_one_error(status: int, cause: str, collect: Collect) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            code = status if scope["method"] == "POST" else 405
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": code, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"detail": "no"}'})

    async def scenario() -> None:
        async with setups.serve(app) as base:
            with anyio.move_on_after(2), suppress(BaseException):
                async with setups.client_over(streamable_http_client(f"{base}/mcp")):
                    pass

    anyio.run(scenario)
    assert errors(collect(), "client") == {cause: 1}
