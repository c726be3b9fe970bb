"""The oracle: what really crossed the wire, counted from its bytes (in memory: from the messages)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast


def fields(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one; not the package's, whose own may be what a test has broken."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class Wire:
    """JSON-RPC messages by direction and method.

    Attributes:
        asked: Requests the client sent.
        asked_back: Requests the server sent.
        told: Notifications the client sent.
        told_back: Notifications the server sent.
        request_bytes: Bytes of the client's requests (True) and of the server's (False).
        response_bytes: Bytes of the answers to the client's requests (True) and to the server's (False).
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.asked_back: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.told_back: Counter[str] = Counter()
        self.request_bytes: Counter[bool] = Counter()
        self.response_bytes: Counter[bool] = Counter()
        self._streams: list[bytearray] = []

    def message(self, data: Any, *, to_server: bool) -> None:
        """Count one decoded message."""
        message = fields(data)
        if "method" not in message:
            return
        method: str = message["method"]
        if "id" in message:
            (self.asked if to_server else self.asked_back)[method] += 1
        else:
            (self.told if to_server else self.told_back)[method] += 1

    def line(self, text: bytes | str, *, to_server: bool) -> None:
        """Count one line or body of JSON; anything else is not a message."""
        try:
            data = json.loads(text)
        except ValueError:
            return
        self.message(data, to_server=to_server)
        message = fields(data)
        size = len(text.strip() if isinstance(text, bytes) else text.strip().encode())
        if "id" in message and "method" in message:
            self.request_bytes[to_server] += size
        elif "result" in message or "error" in message:
            self.response_bytes[not to_server] += size

    def tap(self, app: Any) -> Any:
        """An ASGI application that counts what ``app`` receives and sends: JSON, SSE events and websocket frames."""

        async def tapped(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await app(scope, *self._frames(receive, send))
                return
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            body, reply = bytearray(), bytearray()
            self._streams.append(reply)

            async def receive_tapped() -> Any:
                message = await receive()
                if message["type"] == "http.request":
                    body.extend(message.get("body", b""))
                    if body and not message.get("more_body"):
                        self.line(bytes(body), to_server=True)
                        body.clear()
                return message

            async def send_tapped(message: Any) -> None:
                if message["type"] == "http.response.body":
                    reply.extend(message.get("body", b""))
                await send(message)

            await app(scope, receive_tapped, send_tapped)

        return tapped

    def _frames(self, receive: Any, send: Any) -> tuple[Any, Any]:
        async def receive_tapped() -> Any:
            message = await receive()
            if message["type"] == "websocket.receive":
                self.line(message["text"], to_server=True)
            return message

        async def send_tapped(message: Any) -> None:
            if message["type"] == "websocket.send":
                self.line(message["text"], to_server=False)
            await send(message)

        return receive_tapped, send_tapped

    def settle(self) -> Wire:
        """Count the responses seen so far; they can only be read once they are whole."""
        for reply in self._streams:
            text = bytes(reply)
            lines: Iterable[bytes] = text.splitlines()
            events = [line[5:].strip() for line in lines if line.startswith(b"data:")]
            for event in events or [text]:
                self.line(event, to_server=False)
        self._streams.clear()
        return self
