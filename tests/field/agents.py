"""Client libraries from PyPI, against ``everything.py`` over stdio and over streamable HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from .environments import BUILD, CONSOLE, ROOT, Missing, install, releases, variables
from .loopback import PROGRAM, serving
from .subjects import V2, Agent
from .wire import EVERYTHING, NOTIFICATIONS, REQUEST_BYTES, REQUESTS, differences, exported, on_the_wire

_SECONDS: Final = 240
_PROGRAMS: Final = Path(__file__).with_name("programs.py")
_TAP: Final = ROOT / "tests" / "sdk" / "tap.py"


def _once(agent: Agent, binaries: Path, server: Path, http: bool, instrumented: bool) -> dict[str, Any]:
    kind = "http" if http else "stdio"
    folder = BUILD / "runs" / agent.name / kind / ("instrumented" if instrumented else "bare")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record, result, output = folder / "record.jsonl", folder / "result.json", folder / "stderr.txt"
    stdio = [str(server / "python"), str(_TAP), str(record), str(server / "python"), str(PROGRAM)]
    context = serving(server, folder / "server.txt", str(record)) if http else nullcontext("")
    with context as url, output.open("wb") as stderr:
        command = [str(binaries / "python"), str(_PROGRAMS), agent.name, str(result), *([url] if http else stdio)]
        if instrumented:
            command.insert(0, str(binaries / "opentelemetry-instrument"))
        more = {**agent.environment, **(CONSOLE if instrumented else {})}
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=variables(**more),
                timeout=_SECONDS,
                check=False,
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = "still there"
    outcome = json.loads(result.read_text()) if result.exists() else None
    return {"code": code, "outcome": outcome, "record": record, "output": output}


def try_agent(agent: Agent, built: Path) -> list[dict[str, Any]]:
    """One library, over stdio and HTTP, bare and instrumented."""
    rows: list[dict[str, Any]] = []
    try:
        server = install("servers-2", built, V2, "uvicorn")
        binaries = install(agent.name, built, *agent.packages)
    except Missing as error:
        return [{"name": agent.packages[0], "missing": str(error)}]
    # A package can have an extra.
    package = agent.packages[0].split("[", 1)[0]
    installed = releases(binaries, package, *(name for name in ("mcp", "fastmcp") if name != package))
    for http in (False, True):
        row: dict[str, Any] = {"name": package, "over": "HTTP" if http else "stdio", "releases": installed}
        bare, measured = (_once(agent, binaries, server, http, instrumented) for instrumented in (False, True))
        rows.append(row)
        if bare["outcome"] is None or not measured["record"].exists():
            said = bare["output"].read_text(errors="replace").strip().splitlines()[-1:]
            row["missing"] = f"it does not work without us either (exit status {bare['code']}) {''.join(said)[:200]}"
            continue
        wire = on_the_wire(measured["record"], "client")
        # The tap of HTTP sees bodies that are POSTed.
        parts = (REQUESTS, NOTIFICATIONS, REQUEST_BYTES) if http else EVERYTHING
        found = differences(wire, exported(measured["output"], "client"), parts)
        if bare["code"] != measured["code"]:
            found.append(f"exit status {measured['code']}, {bare['code']} bare")
        if bare["outcome"] != measured["outcome"]:
            found.append("other results than bare")
        row.update(requests=sum(wire[REQUESTS].values()), code=measured["code"], differences=found)
    return rows
