"""A client of one generation of the SDK at a server of the other: what it is refused, and how that is shown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import anyio
import pytest

from ..points import ERROR, METHOD, ROLE, STATUS, Points
from ..sdk.generation import V2
from . import environments

ROOT = Path(__file__).parents[2]

SERVER = """
import socket
import uvicorn
from tests.sdk import example, setups
app = setups.http_app(example.build(), next(each for each in setups.SETUPS if each.name == "http"))
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run([listening])
"""


@contextmanager
def served_by(python: Path) -> Generator[str]:
    """The example over streamable HTTP, served with another interpreter's SDK; its URL."""
    with subprocess.Popen([str(python), "-c", SERVER], stdout=subprocess.PIPE, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/mcp"
        finally:
            server.terminate()


@pytest.mark.skipif(not V2, reason="mcp 1.x makes no discovery")
def test_a_discovery_that_a_1x_server_refuses_is_shown_by_the_code_in_its_answer(
    collect: Callable[[], Points],
) -> None:
    python = environments.other_python()
    if python is None:
        pytest.skip(f"no environment with the other generation of the SDK ({environments.OTHER_PYTHON} can name one)")

    async def scenario(url: str) -> None:
        async with import_module("mcp").Client(url) as client:
            await client.call_tool("ok", {})

    with served_by(python) as url:
        anyio.run(scenario, url)
    points = collect()
    asked = {ROLE: "client", METHOD: "server/discover", STATUS: "client_error"}
    assert points.by(ERROR, "mcp.requests.total", asked) == {"-32600": 1}
    # To be refused is an answer.
    assert points.by(ERROR, "mcp.connection.errors") == {}
