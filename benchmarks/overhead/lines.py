"""How the driver reaches what it drives: plain pipes and sockets, so that it takes as little time as it can.

A line makes calls, several at once if it is asked to, and tells how long each of them took.
"""

from __future__ import annotations

import asyncio
import json
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from .. import messages
from ..example import LARGE, tool_name

LINE_LIMIT: Final = 2**26
"""Bytes of one line: a stdio server answers in one, however much it is."""


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


@dataclass(frozen=True)
class Traffic:
    """What is called.

    Attributes:
        tools: How many tools take turns.
        sessions: How many sessions of an HTTP server take turns.
        size: Bytes of a large result; 0 calls the tools that echo.
        rate: Calls per second; None is one after the other without a pause.
    """

    tools: int = 1
    sessions: int = 1
    size: int = 0
    rate: float | None = None

    def call(self, number: int, *, modern: bool = False) -> str:
        """The call with the id ``number``."""
        if self.size:
            return messages.call(number, modern=modern, tool=LARGE, arguments={"size": self.size})
        return messages.call(number, modern=modern, tool=tool_name(number % self.tools))

    def check(self, answer: bytes) -> None:
        """Raise unless this is the answer."""
        if not self.size:
            messages.check(answer)
        elif len(answer) < self.size:
            raise RuntimeError(f"not {self.size} bytes, but {answer[:500]!r}")


async def _in_turns(
    call: Callable[[int], Awaitable[None]], count: int, at_once: int, rate: float | None
) -> list[float]:
    """Make ``count`` calls, ``at_once`` of them in flight all the time, or at most ``rate`` a second."""
    seconds: list[float] = []
    start = time.perf_counter()
    left = count

    async def caller(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if rate:
                await asyncio.sleep(start + (count - left) / rate - time.perf_counter())
            begin = time.perf_counter()
            await call(number)
            seconds.append(time.perf_counter() - begin)

    await asyncio.gather(*(caller(number) for number in range(at_once)))
    return seconds


class Pipes:
    """A stdio server, in a session of the handshake era."""

    def __init__(self, stdin: StreamWriter, stdout: StreamReader, traffic: Traffic) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._traffic = traffic
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
        self._send(self._traffic.call(self._number))
        self._traffic.check(await answer)

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        return await _in_turns(self._call, count, at_once, self._traffic.rate)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._stdin.close()


class Posts:
    """A streamable HTTP server: sessions of the handshake era, or 2026-07-28 with none."""

    def __init__(self, port: int, traffic: Traffic, *, modern: bool) -> None:
        self._port = port
        self._traffic = traffic
        self._modern = modern
        self._headers: list[Mapping[str, str]] = []
        self._number = 0
        self._connections: dict[int, tuple[StreamReader, StreamWriter]] = {}

    async def open(self) -> None:
        """Do the handshakes, if there are any."""
        if self._modern:
            self._headers.append(messages.MODERN_HEADERS)
            return
        for _ in range(self._traffic.sessions):
            await self._initialize()

    async def _initialize(self) -> None:
        head, _ = await self._post(0, messages.HEADERS, messages.INITIALIZE)
        session = next((line[15:] for line in head.splitlines() if line.lower().startswith("mcp-session-id:")), None)
        if session is None:
            raise ConnectionError(f"no session: {head}")
        self._headers.append(messages.session_headers(session.strip()))
        await self._post(0, self._headers[-1], messages.INITIALIZED)

    async def _post(self, number: int, headers: Mapping[str, str], body: str) -> tuple[str, bytes]:
        connection = self._connections.get(number)
        if connection is None:
            connection = await asyncio.open_connection("127.0.0.1", self._port, limit=LINE_LIMIT)
            self._connections[number] = connection
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
        headers = self._headers[self._number % len(self._headers)]
        _, content = await self._post(connection, headers, self._traffic.call(self._number, modern=self._modern))
        self._traffic.check(content)

    async def calls(self, count: int, at_once: int = 1) -> list[float]:
        return await _in_turns(self._call, count, at_once, self._traffic.rate)

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
