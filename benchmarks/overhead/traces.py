"""The column with spans: all metrics and a Prometheus page as ever, and one call in ten traced and sent over OTLP.

python -m benchmarks.overhead.traces PORT

is where they are sent to: a process that takes whatever it gets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .subjects import PATIENCE, ROOT, Launch, fetch, free_port, instrumented_by

NAME: Final = "with spans"
RATIO: Final = 0.1
"""How many of the calls are sampled."""


@contextmanager
def launch() -> Generator[Launch | None]:
    """How to run a program with spans, while there is somebody to send them to; None without an exporter for them."""
    if not _is_installed():
        print(f"no column {NAME}: opentelemetry-exporter-otlp-proto-http is not installed", file=sys.stderr)
        yield None
        return
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.overhead.traces", str(port)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as process:
        try:
            _wait(port)
            variables = {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": str(RATIO),
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            }
            yield Launch(NAME, instrumented_by(Path(sys.executable)), variables, has_page=True)
        finally:
            process.kill()


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _wait(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fetch(f"http://127.0.0.1:{port}", timeout=PATIENCE).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise ConnectionError("nobody takes the spans")


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
