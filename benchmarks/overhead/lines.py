"""How the driver reaches what it drives: plain pipes and sockets, so that it takes as little time as it can.

A line makes calls, several at once if it is asked to, and tells how long each of them took.
"""

from __future__ import annotations

import asyncio
import json
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from .. import messages


class Line(Protocol):
    """A way to make calls."""

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        """Make calls; the seconds each took, as far as they can be seen from here.

        Raises:
            RuntimeError: A call failed.
            ConnectionError: Nobody is there any more.
        """
        ...

    async def close(self) -> None:
        """Hang up."""
        ...


async def _in_turns(call: Callable[[int], Awaitable[None]], count: int, at_once: int) -> list[float]:
    """Make ``count`` calls, ``at_once`` of them in flight all the time."""
    seconds: list[float] = []
    left = count

    async def caller(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begin = time.perf_counter()
            await call(number)
            seconds.append(time.perf_counter() - begin)

    await asyncio.gather(*(caller(number) for number in range(at_once)))
    return seconds


class Pipes:
    """A stdio server, in a session of the handshake era."""

    def __init__(self, stdin: StreamWriter, stdout: StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Do the handshake."""
        self._send(messages.INITIALIZE)
        answer = await self._stdout.readline()
        if b'"result"' not in answer:
            raise ConnectionError(f"no session: {answer!r}")
        self._send(messages.INITIALIZED)
        self._reading = asyncio.create_task(self._read())

    def _send(self, text: str) -> None:
        self._stdin.write(text.encode() + b"\n")

    async def _read(self) -> None:
        async for line in self._stdout:
            self._waiting.pop(json.loads(line)["id"]).set_result(line)
        for waiting in self._waiting.values():
            waiting.set_exception(ConnectionError("the server has ended"))

    async def _call(self, _: int) -> None:
        self._number += 1
        self._waiting[self._number] = answer = asyncio.get_running_loop().create_future()
        self._send(messages.call(self._number))
        messages.check(await answer)

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        return await _in_turns(self._call, count, at_once)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._stdin.close()


class Posts:
    """A streamable HTTP server: a session of the handshake era, or 2026-07-28 with none."""

    def __init__(self, port: int, *, modern: bool) -> None:
        self._port = port
        self._modern = modern
        self._headers: Mapping[str, str] = messages.MODERN_HEADERS
        self._number = 0
        self._connections: dict[int, tuple[StreamReader, StreamWriter]] = {}

    async def open(self) -> None:
        """Do the handshake, if there is one."""
        if self._modern:
            return
        head, _ = await self._post(0, messages.HEADERS, messages.INITIALIZE)
        session = next((line[15:] for line in head.splitlines() if line.lower().startswith("mcp-session-id:")), None)
        if session is None:
            raise ConnectionError(f"no session: {head}")
        self._headers = messages.session_headers(session.strip())
        await self._post(0, self._headers, messages.INITIALIZED)

    async def _post(self, number: int, headers: Mapping[str, str], body: str) -> tuple[str, bytes]:
        connection = self._connections.get(number)
        if connection is None:
            connection = self._connections[number] = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"content-length: {len(body)}\r\n"
        writer.write(f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n{length}{fields}\r\n{body}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = await _body(reader, head)
        if "connection: close" in head:
            writer.close()
            del self._connections[number]
        return head, content

    async def _call(self, connection: int) -> None:
        self._number += 1
        _, content = await self._post(connection, self._headers, messages.call(self._number, modern=self._modern))
        messages.check(content)

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        return await _in_turns(self._call, count, at_once)

    async def close(self) -> None:
        for _, writer in self._connections.values():
            writer.close()


async def _body(reader: StreamReader, head: str) -> bytes:
    """What follows the header fields of an answer."""
    if "transfer-encoding: chunked" not in head:
        length = next((line[15:] for line in head.splitlines() if line.startswith("content-length:")), "0")
        return await reader.readexactly(int(length))
    content = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        content += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return content


class Orders:
    """A program that makes the calls itself, one after the other, as many as it is told."""

    def __init__(self, stdin: StreamWriter, stdout: StreamReader) -> None:
        self._stdin = stdin
        self._stdout = stdout

    async def open(self) -> None:
        """Wait until it has its session."""
        await self._expect(b"ready\n")

    async def _expect(self, word: bytes) -> None:
        if (answer := await self._stdout.readline()) != word:
            raise ConnectionError(f"not {word!r}, but {answer!r}")

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        self._stdin.write(b"%d\n" % count)
        await self._expect(b"done\n")
        return []

    async def close(self) -> None:
        self._stdin.close()
