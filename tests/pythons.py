"""``make pythons``: a part of the tests (tox.ini, ``[pythons]``) on every Python at hand, and docs/pythons.md.

Each interpreter runs them with both generations of the SDK. As root on Debian, so does the newest Python that Debian
has, in a root folder (newest_python.sh). What is not at hand is left out, and the page says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
RESULTS = PROJECT / "build" / "pythons"
NEWEST = PROJECT / "build" / "newest-python"
PAGE = PROJECT / "docs" / "pythons.md"

PYTHONS = ("py310", "py311", "py312", "py313")
GENERATIONS = ("mcp1", "mcp2")
ONE_REQUEST_RUNS = int(os.environ.get("EXIT_RUNS", "300"))

_HEADS = ("Python", "mcp", "passed", "skipped", "failed", "one-request runs", "minutes")


@dataclass(frozen=True)
class Result:
    """What one environment has brought; without a report it could not be made, or its interpreter is not there."""

    environment: str
    report: Path

    def row(self) -> tuple[str, ...]:
        python, generation = self.environment.split("-")
        version = f"3.{python.removeprefix('py3')}"
        if not self.report.exists():
            return (version, generation.removeprefix("mcp") + ".x", "not run", "", "", "", "")
        suite = next(ElementTree.parse(self.report).iter("testsuite"))
        counts = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        failed = counts["failures"] + counts["errors"]
        passed = counts["tests"] - failed - counts["skipped"]
        known = {each.get("name"): each.get("value", "") for each in suite.iter("property")}
        return (
            known.get("python", version),
            known.get("mcp", ""),
            str(passed),
            str(counts["skipped"]),
            str(failed),
            str(ONE_REQUEST_RUNS),
            f"{float(suite.get('time', '0')) / 60:.0f}",
        )

    @property
    def has_passed(self) -> bool:
        return self.report.exists() and self.row()[4] == "0"


def tox(environment: str, report: Path) -> None:
    """Run one environment of tox; its report is there afterwards, unless it could not be made."""
    report.unlink(missing_ok=True)
    variables = {**os.environ, **_variables(report)}
    subprocess.run([sys.executable, "-m", "tox", "run", "-e", environment], cwd=PROJECT, env=variables, check=False)


def newest() -> list[Result]:
    """Run both generations on Debian's newest Python; nothing without root or debootstrap."""
    script = [str(PROJECT / "tests" / "newest_python.sh"), str(NEWEST)]
    ask = "import sys; print('py%d%d' % sys.version_info[:2])"
    asked = subprocess.run([*script, "python3", "-c", ask], capture_output=True, text=True, check=False)
    if asked.returncode:
        sys.stderr.write(asked.stderr)
        return []
    results: list[Result] = []
    for environment in (f"{asked.stdout.split()[-1]}-{generation}" for generation in GENERATIONS):
        inside = Path("/project/build/pythons", f"{environment}.xml")
        variables = [f"{name}={value}" for name, value in _variables(inside).items()]
        command = f"make .venv/stamp && .venv/bin/tox run -e {environment}"
        subprocess.run([*script, "env", *variables, "sh", "-c", command], check=False)
        # The next run lays the project anew.
        report = RESULTS / inside.name
        report.unlink(missing_ok=True)
        if (found := NEWEST / inside.relative_to("/")).exists():
            report.write_bytes(found.read_bytes())
        results.append(Result(environment, report))
    return results


def page(results: list[Result]) -> str:
    """The page's table."""
    rows = [_HEADS, tuple("---" for _ in _HEADS), *(result.row() for result in results)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _variables(report: Path) -> dict[str, str]:
    return {
        "PYTEST_ADDOPTS": f"--junitxml={report}",
        "EXIT_RUNS": str(ONE_REQUEST_RUNS),
        "TEST_WORKERS": os.environ.get("TEST_WORKERS", "logical"),
    }


def main() -> int:
    RESULTS.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for environment in (f"{python}-{generation}" for python in PYTHONS for generation in GENERATIONS):
        report = RESULTS / f"{environment}.xml"
        tox(environment, report)
        results.append(Result(environment, report))
    results += newest()
    begin, end = "<!-- begin results -->", "<!-- end results -->"
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    PAGE.write_text(f"{before}\n\nRun on {time.strftime('%Y-%m-%d')}.\n\n{page(results)}\n\n{after}", encoding="utf-8")
    return 0 if all(result.has_passed for result in results if result.report.exists()) else 1


if __name__ == "__main__":
    sys.exit(main())
