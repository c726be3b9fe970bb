"""``python -m tests.field [NAME...]``: run what is named, or everything, and write docs/field.md."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from . import page
from .agents import try_agent
from .conformance import try_sdk
from .environments import BUILD, Missing, node, wheel
from .servers import try_server
from .subjects import AGENTS, SERVERS, V1, V2

RESULTS = BUILD / "results.json"


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def main(*names: str) -> None:
    """Run, and keep the results of what was not named."""
    # What is started ends in a ``finally``.
    signal.signal(signal.SIGTERM, _end)
    BUILD.mkdir(parents=True, exist_ok=True)
    built = wheel()
    try:
        home = node()
    except Missing as error:
        sys.exit(f"npm: {error}")
    runs: list[tuple[str, str, Callable[[], list[dict[str, Any]]]]] = [
        *(("servers", each.package, lambda each=each: [try_server(each, built, home)]) for each in SERVERS),
        *(
            (
                "conformance",
                environment,
                lambda sdk=sdk, environment=environment: [try_sdk(sdk, environment, built, home)],
            )
            for sdk, environment in ((V1, "servers-1"), (V2, "servers-2"))
        ),
        *(("agents", each.name, lambda each=each: try_agent(each, built)) for each in AGENTS),
    ]
    results: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if names and RESULTS.exists() else {}
    for part, name, run in runs:
        if names and name not in names and part not in names:
            continue
        try:
            rows = run()
        except Exception:
            # One that goes wrong in a new way does not stop the others.
            rows = [{"name": name, "missing": traceback.format_exc().splitlines()[-1]}]
        results.setdefault(part, {})[name] = page.dated(rows)
        RESULTS.write_text(json.dumps(results, indent=1))
        for row in rows:
            print(f"{row['name']} {row.get('over', '')}: {page.verdict(row)}", flush=True)
    page.write(results, [(part, name) for part, name, _ in runs])


if __name__ == "__main__":
    main(*sys.argv[1:])
