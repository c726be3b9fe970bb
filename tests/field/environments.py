"""The environments under ``build/field``: made once, and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "field"
_SECONDS: Final = 400
_FRESH: Final[set[Path]] = set()
"""The environments that have this package as it is now."""


class Missing(Exception):
    """Something cannot be had here; the message says what was said about it."""


def run(*command: str | Path, cwd: Path = ROOT, seconds: float = _SECONDS) -> str:
    """Run a command to its end.

    Raises:
        Missing: It failed, or took too long.
    """
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(command[0]).name}: {type(error).__name__}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise Missing((lines or ["it failed"])[-1][:200])
    return done.stdout


def wheel() -> Path:
    """This package, as it is now."""
    shutil.rmtree(BUILD / "dist", ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", BUILD / "dist", ROOT)
    (built,) = (BUILD / "dist").glob("*.whl")
    return built


def install(environment: str, built: Path, *packages: str) -> Path:
    """Put packages, unless an earlier run has, and this one as it is now into an environment.

    Returns:
        Its ``bin``.

    Raises:
        Missing: A package cannot be had.
    """
    home = BUILD / environment
    python = home / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", home)
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    stamp = home / "installed.txt"
    done = stamp.read_text().splitlines() if stamp.exists() else []
    line = " ".join(packages)
    if line not in done:
        run(*pip, *packages, built)
        stamp.write_text("\n".join([*done, line]))
    if home not in _FRESH:
        # Of the same version every time.
        run(*pip, "--force-reinstall", "--no-deps", built)
        _FRESH.add(home)
    return home / "bin"


def releases(binaries: Path, *names: str) -> dict[str, str]:
    """Which releases of some packages are installed."""
    listing = json.loads(run(binaries / "python", "-m", "pip", "list", "--format", "json"))
    found = {each["name"].lower(): each["version"] for each in listing}
    return {name: found[name] for name in names if name in found}


def node() -> Path:
    """A Node with the TypeScript SDK and the conformance suite.

    Returns:
        The folder with its ``node_modules``.
    """
    home = BUILD / "node"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "client.mjs"):
        shutil.copy(Path(__file__).with_name(name), home)
    if not (home / "node_modules" / ".bin" / "conformance").exists():
        run("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", cwd=home)
    return home


def variables(**more: str) -> dict[str, str]:
    """The environment of a measured process: nothing of OpenTelemetry's but what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    return {**kept, **more}


CONSOLE: Final = {"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
"""Metrics go to stderr, the last ones when the process ends."""
