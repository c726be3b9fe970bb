"""An HTTP client of the SDK in this process, whose server is what its connections answer by themselves.

Everything down to the HTTP parser is the SDK's, httpx' and httpcore's; only the socket is missing, and with it what
makes the number of wake-ups differ from one run to the next.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

from ..example import ARGUMENTS, TOOL, V2
from ..messages import HANDSHAKE_VERSION

_httpx: Any = import_module("httpx2" if V2 else "httpx")
_httpcore: Any = import_module("httpcore2" if V2 else "httpcore")

_RESULTS: Final[dict[str, dict[str, Any]]] = {
    "initialize": {
        "protocolVersion": HANDSHAKE_VERSION,
        "capabilities": {},
        "serverInfo": {"name": "benchmark", "version": "0"},
    },
    "tools/list": {"tools": [{"name": TOOL, "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [{"type": "text", "text": ARGUMENTS["text"]}], "isError": False},
}


class _Connection(_httpcore.AsyncNetworkStream):
    """A connection to a server that answers every request it knows with JSON."""

    def __init__(self) -> None:
        self._asked = b""
        self._answer = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        answer, self._answer = self._answer[:max_bytes], self._answer[max_bytes:]
        return answer

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._asked += buffer
        head, end, body = self._asked.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if end and len(body) == int(headers.get(b"content-length", 0)):
            self._asked = b""
            self._answer = _answer(head, body)

    async def aclose(self) -> None:
        return

    def get_extra_info(self, info: str) -> Any:
        return None


def _answer(head: bytes, body: bytes) -> bytes:
    message: dict[str, Any] = json.loads(body) if head.startswith(b"POST") else {}
    if "id" not in message:
        status = b"202 Accepted" if message else b"405 Method Not Allowed"
        return b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % status
    reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"], "result": _RESULTS[message["method"]]}
    content = json.dumps(reply).encode()
    return (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 26 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
        b"content-type: application/json\r\nmcp-session-id: 0123456789abcdef\r\ncontent-length: %d\r\n\r\n%s"
        % (len(content), content)
    )


class _Backend(_httpcore.AsyncNetworkBackend):
    async def connect_tcp(self, *_: Any, **__: Any) -> _Connection:
        return _Connection()


@asynccontextmanager
async def session() -> AsyncGenerator[Any]:
    """A client session over streamable HTTP."""
    transport = _httpx.AsyncHTTPTransport()
    transport._pool._network_backend = _Backend()
    connect: Any = import_module("mcp.client.streamable_http").streamable_http_client
    async with (
        _httpx.AsyncClient(transport=transport) as http,
        connect("http://127.0.0.1:8000/mcp", http_client=http) as (read, write, *_),
        import_module("mcp").ClientSession(read, write) as client,
    ):
        await client.initialize()
        yield client
