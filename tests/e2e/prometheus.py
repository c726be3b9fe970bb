"""A real Prometheus, started by a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .processes import read


@contextmanager
def prometheus(directory: Path, port: int, **job: Any) -> Generator[str]:
    """A Prometheus with one job, scraped every half second; yields its URL.

    Args:
        directory: Where its configuration and data go.
        port: Where it listens.
        **job: Where its targets come from, as Prometheus' configuration has it.
    """
    configuration = directory / "prometheus.yml"
    settings = {"global": {"scrape_interval": "500ms"}, "scrape_configs": [{"job_name": "mcp", **job}]}
    # JSON is YAML.
    configuration.write_text(json.dumps(settings))
    with configured_prometheus(configuration, port) as base:
        yield base


@contextmanager
def configured_prometheus(configuration: Path, port: int) -> Generator[str]:
    """A Prometheus with a configuration of its own; its data goes beside that."""
    binary = shutil.which("prometheus")
    if binary is None:
        reason = "prometheus is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    command = [
        binary,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={configuration.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def query(base: str, expression: str) -> float | None:
    """The value of an instant query; None while there is none."""
    try:
        answer = json.loads(read(f"{base}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
    except OSError:
        return None
    rows = answer["data"]["result"]
    return float(rows[0]["value"][1]) if rows else None
