"""Another package's instrumentation as one more column, in an environment of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import venv

from ..example import SDK_VERSION
from .subjects import ROOT, Launch, instrumented_by


def prepare(requirement: str) -> Launch | None:
    """Install a package beside the same SDK; None, with the reason on stderr, if that does not work.

    It is launched as its users would: by ``opentelemetry-instrument`` with the stock distro and Prometheus exporter.
    """
    directory = ROOT / "build" / f"peer-mcp-{SDK_VERSION}-{re.sub(r'[^A-Za-z0-9.]+', '-', requirement)}"
    python = directory / "bin" / "python"
    if not (directory / "stamp").exists():
        print(f"installing {requirement}", file=sys.stderr)
        packages = [f"mcp == {SDK_VERSION}", requirement, "opentelemetry-distro", "opentelemetry-exporter-prometheus"]
        try:
            venv.create(directory, clear=True, with_pip=False)
            pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *packages]
            subprocess.run(pip, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no column for {requirement}: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
            return None
        (directory / "stamp").touch()
    variables = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    return Launch(requirement, instrumented_by(python), variables, has_page=True)
