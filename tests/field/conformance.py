"""The official conformance suite against ``everything.py``, check by check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final

from .environments import BUILD, Missing, install, releases, variables
from .loopback import serving

_SECONDS: Final = 900


def _checks(folder: Path, node: Path, url: str) -> dict[str, list[str]]:
    """The statuses of each check, by scenario and id."""
    suite = node / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [node / "node_modules" / ".bin" / "node", suite, "server", "--url", url, "--suite", "all", "-o", folder]
    with (folder / "suite.txt").open("wb") as output:
        # Its exit status says that a check failed.
        subprocess.run(
            [*map(str, command)], stdout=output, stderr=output, env=variables(), timeout=_SECONDS, check=False
        )
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*/checks.json")):
        # The folder of a scenario ends with the time.
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", path.parent.name)
        for check in json.loads(path.read_text()):
            found.setdefault(f"{scenario}/{check['id']}", []).append(check["status"])
    return {name: sorted(statuses) for name, statuses in found.items()}


def try_sdk(sdk: str, environment: str, built: Path, node: Path) -> dict[str, Any]:
    """The suite against one generation of the SDK, bare and instrumented."""
    row: dict[str, Any] = {"name": sdk.replace(" == ", " ")}
    try:
        binaries = install(environment, built, sdk, "uvicorn")
        checks: dict[bool, dict[str, list[str]]] = {}
        for instrumented in (False, True):
            folder = BUILD / "runs" / f"conformance-{environment}" / ("instrumented" if instrumented else "bare")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            with serving(binaries, folder / "server.txt", instrumented=instrumented) as url:
                checks[instrumented] = _checks(folder, node, url)
    except (Missing, subprocess.TimeoutExpired) as error:
        return {**row, "missing": str(error)}
    if not checks[False]:
        return {**row, "missing": "the suite wrote no check"}
    found = [
        f"{name}: {checks[True].get(name)}, {checks[False].get(name)} bare"
        for name in sorted({*checks[False], *checks[True]})
        if checks[False].get(name) != checks[True].get(name)
    ]
    statuses = Counter(status for each in checks[False].values() for status in each)
    return {**row, "releases": releases(binaries, "mcp"), "checks": dict(statuses), "differences": found}
