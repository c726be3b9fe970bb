"""Prometheus' own checks of rules and expressions."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def promtool(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; without it the test skips, except where nobody would see that."""
    binary = shutil.which("promtool")
    if binary is None:
        reason = "promtool is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run([binary, *arguments], cwd=directory, capture_output=True, text=True, timeout=110)
