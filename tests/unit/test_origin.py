"""Which processes are helpers of ``multiprocessing``, by the command lines that Python gives them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opentelemetry_instrumentation_mcp.distro.origin import is_helper

HELPERS = """
import json, multiprocessing, time
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

def command(pid):
    # As long as it has not come to its own program, the command line is this one's, or empty.
    path = Path(f"/proc/{pid}/cmdline")
    while b"import main" not in path.read_bytes():
        time.sleep(0.01)
    return path.read_bytes().decode().split("\\0")[:-1]

if __name__ == "__main__":
    forkserver.ensure_running()
    helpers = forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid
    print(json.dumps([command(pid) for pid in helpers]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_processes_that_this_python_starts_for_itself_are_helpers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "helpers.py"
    script.write_text(HELPERS)
    commands: list[list[str]] = json.loads(subprocess.check_output([sys.executable, str(script)], timeout=60))

    assert len(commands) == 2
    for command in commands:
        monkeypatch.setattr(sys, "orig_argv", command)
        assert is_helper(), command


@pytest.mark.parametrize(
    "code",
    [
        # CPython 3.10.13 to 3.13.0.
        "from multiprocessing.forkserver import main; main(3, 5, ['__main__'], **{'sys_path': ['/app']})",
        "from multiprocessing.resource_tracker import main;main(3)",
        # CPython 3.14.10.
        "import sys; from multiprocessing.forkserver import main; "
        "main(3, 5, ['__main__'], sys_argv=sys.argv[1:], **{'sys_path': ['/app'], 'authkey_r': 7})",
    ],
)
def test_so_are_those_of_other_releases(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-B", "-c", code, "/app/server.py"])

    assert is_helper()


@pytest.mark.parametrize(
    "code",
    [
        "from multiprocessing.forkserver import ensure_running; ensure_running(); import server",
        "import server; server.main()  # from multiprocessing.forkserver import main; main()",
        "import sys; from server import main; main(3)",
    ],
)
def test_a_program_of_somebody_elses_is_none(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", code])

    assert not is_helper()
