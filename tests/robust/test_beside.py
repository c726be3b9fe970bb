"""Other instrumentations of the same process, switched on before ours and after it: counts stay exact, all works on.

They are not installed with the other tests; ``tox -e mcp1-beside,mcp2-beside`` has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from ..sdk.generation import V2
from ..sdk.setups import HERE, SETUPS

CONTRIB = ["starlette", "httpx", "asyncio", "threading"]
OTHERS = {
    "contrib": (CONTRIB, "opentelemetry.instrumentation.starlette"),
    "openinference": (["openinference"], "openinference.instrumentation.mcp"),
    # Their instrumentation of mcp does not know 2.x.
    **({} if V2 else {"traceloop": (["traceloop"], "opentelemetry.instrumentation.mcp")}),
}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_instrumentation_changes_no_count(other: str, order: str) -> None:
    names, module = OTHERS[other]
    if not _is_installed(module):
        pytest.skip(f"{module} is not installed")
    sequence = [*names, "ours"] if order == "before" else ["ours", *names]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    environment["PYTHONPATH"] = str(HERE.parent.parent)
    command = [sys.executable, "-W", "ignore", "-m", "tests.robust.beside", ",".join(sequence)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    calls = 3 * len([each for each in SETUPS if each.transport != "stdio"])
    expected: dict[str, Any] = {"server": calls, "client": calls, "active": [], "calls": calls, "after": calls}
    assert json.loads(done.stdout) == expected
