"""A Prometheus beside the demo, with the configuration and the rules that `opentelemetry-mcp-dashboards write` gives.

It runs where Prometheus is installed (Debian: apt-get install prometheus). `make test` installs it as root, and leaves
one without web pages in .venv for everybody else.
"""

import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

SHIPPED_INTERVAL, DEMO_INTERVAL = "15s", "5s"  # nobody waits a quarter of a minute for a point
QUERIES = {
    "calls by tool": "sum by (gen_ai_tool_name, status) (rate(mcp_requests_total[1m])) > 0",
    "p95 by tool": "histogram_quantile(0.95, sum by (le, gen_ai_tool_name)"
    " (rate(mcp_request_duration_seconds_bucket[1m])))",
}


class Monitoring:
    """The files of a Prometheus, and how to start it.

    Args:
        directory: Where the files go; made if it does not exist.
        port: Where it listens.
    """

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self._port = port

    @staticmethod
    def is_possible() -> bool:
        return shutil.which("prometheus") is not None

    @property
    def targets(self) -> Path:
        """Where the processes of the demo say where their pages are."""
        return self.directory / "prometheus" / "targets"

    def prepare(self) -> tuple[str, ...]:
        """Write the files; returns the command to run."""
        command = Path(sys.executable).with_name("opentelemetry-mcp-dashboards")
        subprocess.run([command, "write", self.directory], check=True, stdout=subprocess.DEVNULL)
        # The demo has no server with a known address, and no time.
        (self.targets / "servers.yml").unlink()
        configuration = self.directory / "prometheus" / "prometheus.yml"
        settings = configuration.read_text().replace(f"_interval: {SHIPPED_INTERVAL}", f"_interval: {DEMO_INTERVAL}")
        configuration.write_text(settings)
        return (
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        )

    def places(self) -> dict[str, str]:
        """What to open, by what is to be seen there; Prometheus has to be up."""
        return {
            **self._pages(),
            f"Grafana: import, with {self.url} as the data source": str(self.directory / "grafana" / "mcp-server.json"),
            "Grafana: the clients' side": str(self.directory / "grafana" / "mcp-client.json"),
        }

    def _pages(self) -> dict[str, str]:
        # Debian's Prometheus has older pages, at a path of their own. Its binary alone, without the rest of the
        # package, has no pages at all.
        base = next((base for base in (self.url, f"{self.url}/classic") if self._answers(f"{base}/alerts")), None)
        if base is None:
            return {
                "Prometheus: only its API, since its web pages are not installed": f"{self.url}/api/v1/targets",
            }
        shown = {"g0.tab": "0", "g0.range_input": "15m"}
        graphs = {
            f"Prometheus: {title}": f"{base}/graph?{urllib.parse.urlencode({'g0.expr': query, **shown})}"
            for title, query in QUERIES.items()
        }
        return {"Prometheus": self.url, "Prometheus: alerts, with what to do": f"{base}/alerts", **graphs}

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5).close()
        except OSError:
            return False
        return True
