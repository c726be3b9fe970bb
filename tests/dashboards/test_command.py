"""The command that hands the files out, as it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from opentelemetry_instrumentation_mcp.dashboards import shipped

COMMAND = str(Path(sys.executable).with_name("opentelemetry-mcp-dashboards"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60)


def test_it_lists_what_there_is() -> None:
    listed = run("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines() == list(shipped())
    assert {"grafana/mcp-server.json", "prometheus/mcp-alerts.rules.yml"} <= set(shipped())


@pytest.mark.parametrize("name", ["grafana/mcp-server.json", "mcp-server.json"])
def test_it_prints_one_file(name: str) -> None:
    shown = run("show", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == shipped()["grafana/mcp-server.json"]


def test_it_says_what_there_is_instead_of_what_there_is_not() -> None:
    shown = run("show", "mcp.json")
    assert (shown.returncode, shown.stdout) == (1, "")
    [line] = shown.stderr.splitlines()
    assert all(name in line for name in shipped())


def test_it_writes_all_of_them(tmp_path: Path) -> None:
    target = tmp_path / "new" / "monitoring"
    written = run("write", str(target))
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout.splitlines() == [str(target / name) for name in shipped()]
    assert {name: (target / name).read_text() for name in shipped()} == shipped()


def test_it_replaces_what_somebody_has_changed_only_if_it_is_told_to(tmp_path: Path) -> None:
    run("write", str(tmp_path))
    mine, gone = tmp_path / "prometheus" / "prometheus.yml", tmp_path / "grafana" / "mcp-client.json"
    mine.write_text("# mine\n")
    gone.unlink()

    refused = run("write", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "prometheus/prometheus.yml" in refused.stderr
    assert mine.read_text() == "# mine\n"
    assert not gone.exists()

    assert run("write", "--force", str(tmp_path)).returncode == 0
    assert mine.read_text() == shipped()["prometheus/prometheus.yml"]
    # Once more, as after every release that has changed nothing.
    assert run("write", str(tmp_path)).returncode == 0


def test_a_directory_that_cannot_be_made_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    written = run("write", str(tmp_path / "file" / "monitoring"))
    assert written.returncode == 1
    assert len(written.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    shown = subprocess.run(
        ["sh", "-c", f"{COMMAND} show mcp-server.json | head -c 100"], capture_output=True, text=True, timeout=60
    )
    assert shown.stdout == shipped()["grafana/mcp-server.json"][:100]
    assert shown.stderr == ""
