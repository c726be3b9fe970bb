"""Servers from PyPI, driven over stdio by the TypeScript SDK's client."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from ..sdk.tap import relay
from .environments import BUILD, CONSOLE, Missing, install, releases, run, variables
from .subjects import Server
from .wire import REQUESTS, differences, exported, on_the_wire

_SECONDS: Final = 180


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html><body><h1>A page</h1><p>Some text.</p></body></html>"
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@contextmanager
def _page() -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _converse(client: list[str], server: list[str], folder: Path, environment: dict[str, str], cwd: Path) -> int | str:
    """Connect a client with a server and record what they say, until the client is done and the server has ended.

    Returns:
        The exit status of the server, or what became of it.
    """
    lock, pipe = threading.Lock(), subprocess.PIPE
    with (folder / "record.jsonl").open("w") as record, (folder / "stderr.txt").open("wb") as stderr:
        started = subprocess.Popen(server, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, cwd=cwd)
        with started, subprocess.Popen(client, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as caller:
            assert started.stdin and started.stdout and caller.stdin and caller.stdout
            threads = [
                threading.Thread(target=relay, args=(caller.stdout, started.stdin, record, lock, True)),
                threading.Thread(target=relay, args=(started.stdout, caller.stdin, record, lock, False)),
            ]
            for thread in threads:
                thread.start()
            try:
                caller.wait(_SECONDS)
                # The client's output ends with it, and so the server's input.
                code: int | str = started.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                code = "still there"
            finally:
                caller.kill()
                started.kill()
                for thread in threads:
                    thread.join(10)
    return code


def _filled(params: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    text = json.dumps(params)
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", place)
    found: dict[str, Any] = json.loads(text)
    return found


def _once(server: Server, binaries: Path, node: Path, page: str, instrumented: bool) -> dict[str, Any]:
    folder = BUILD / "runs" / server.package / ("instrumented" if instrumented else "bare")
    work = BUILD / "work" / server.package
    for each in (folder, work):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    (work / "README.md").write_text("# Title\n\nSome text.\n")
    run("git", "init", "--quiet", cwd=work)
    run("git", "add", "README.md", cwd=work)
    author = ("-c", "user.name=field", "-c", "user.email=field@localhost", "-c", "commit.gpgsign=false")
    when = "2026-01-01T00:00:00+00:00"
    command = ("git", *author, "commit", "--quiet", "--date", when, "--message", "first")
    run("env", f"GIT_COMMITTER_DATE={when}", *command, cwd=work)
    places = {"work": str(work), "page": page}
    plan, result = folder / "plan.json", folder / "result.json"
    calls = [{"method": call.method, "params": _filled(call.params, places)} for call in server.calls]
    plan.write_text(json.dumps(calls))
    script, *arguments = (part.format(**places) for part in server.command)
    command = [str(binaries / script), *arguments]
    if instrumented:
        command.insert(0, str(binaries / "opentelemetry-instrument"))
    client = [str(node / "node_modules" / ".bin" / "node"), str(node / "client.mjs"), str(plan), str(result)]
    code = _converse(client, command, folder, variables(**(CONSOLE if instrumented else {})), work)
    outcomes = json.loads(result.read_text()) if result.exists() else None
    return {"code": code, "outcomes": outcomes, "folder": folder}


def try_server(server: Server, built: Path, node: Path) -> dict[str, Any]:
    """One server, bare and instrumented."""
    row: dict[str, Any] = {"name": server.package}
    try:
        binaries = install(server.environment, built, server.package, *filter(None, [server.sdk]))
    except Missing as error:
        return {**row, "missing": str(error)}
    row["releases"] = releases(binaries, server.package, "mcp", "fastmcp")
    with _page() as page:
        bare = _once(server, binaries, node, page, False)
        measured = _once(server, binaries, node, page, True)
    if bare["outcomes"] is None or "error" in bare["outcomes"][0]:
        return {**row, "missing": f"it does not start without us either (exit status {bare['code']})"}
    wire = on_the_wire(measured["folder"] / "record.jsonl", "server")
    found = differences(wire, exported(measured["folder"] / "stderr.txt", "server"))
    if bare["code"] != measured["code"]:
        found.append(f"exit status {measured['code']}, {bare['code']} bare")
    if bare["outcomes"] != measured["outcomes"]:
        found.append("other results than bare")
    return {**row, "requests": sum(wire[REQUESTS].values()), "code": measured["code"], "differences": found}
