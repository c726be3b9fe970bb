"""``python -m tests.e2e.mixed_server PORT RECORD``: the example over HTTP, and a record of its messages.

``/mcp`` answers as JSON, so that a client's connections are reused; ``/guarded/mcp`` wants a bearer token.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import uvicorn

from ..sdk import example
from ..sdk.generation import V2

_JSON = {"json_response": True}


class Verifier:
    """Takes every token but one, which is too much for it."""

    async def verify_token(self, token: str) -> Any:
        if token == "crash":
            raise ConnectionError("the introspection endpoint is down")
        kind: Any = import_module("mcp.server.auth.provider").AccessToken
        return kind(token=token, client_id="test", scopes=["use"], resource="http://127.0.0.1/mcp")


def _app(**build: Any) -> Any:
    if V2:
        return example.build(**build).streamable_http_app(**_JSON)
    return example.build(**build, **_JSON).streamable_http_app()


def _guarded() -> Any:
    kind: Any = import_module("mcp.server.auth.settings").AuthSettings
    # Later releases want to be told.
    told = {"validate_token_resource": False} if "validate_token_resource" in kind.model_fields else {}
    url = "http://127.0.0.1/"
    settings = kind(issuer_url=url, resource_server_url=f"{url}mcp", required_scopes=["use"], **told)
    return _app(auth=settings, token_verifier=Verifier())


def record(app: Any, path: str) -> Any:
    """The application, with the bodies it receives and sends written down as ``tests.sdk.tap`` writes lines."""
    lines = open(path, "a", buffering=1)  # noqa: SIM115 (open as long as the process)

    def write(body: bytes, to_server: bool) -> None:
        if body:
            entry = {"to_server": to_server, "line": body.decode(errors="replace"), "time": time.time()}
            lines.write(json.dumps(entry) + "\n")

    async def recorded(scope: Any, receive: Any, send: Any) -> None:
        asked, answered = bytearray(), bytearray()

        async def receive_recorded() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                asked.extend(message.get("body", b""))
                if not message.get("more_body"):
                    write(bytes(asked), True)
                    asked.clear()
            return message

        async def send_recorded(message: Any) -> None:
            if message["type"] == "http.response.body":
                answered.extend(message.get("body", b""))
                if not message.get("more_body"):
                    write(bytes(answered), False)
            await send(message)

        await app(scope, receive_recorded, send_recorded)

    return recorded


def main(port: int, path: str) -> None:
    """Serve until the end."""
    plain, guarded = _app(), _guarded()
    main_app = record(plain, path)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with plain.router.lifespan_context(plain), guarded.router.lifespan_context(guarded):
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"].startswith("/guarded"):
            await guarded({**scope, "path": scope["path"].removeprefix("/guarded")}, receive, send)
        else:
            await main_app(scope, receive, send)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
