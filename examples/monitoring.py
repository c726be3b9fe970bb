"""A Prometheus beside the demo, with the configuration and the rules that `opentelemetry-mcp-dashboards write` gives.

It runs where Prometheus is installed (Debian: apt-get install prometheus; `make test` also leaves one in .venv).
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
        pages = self._pages()
        shown = {"g0.tab": "0", "g0.range_input": "15m"}
        graphs = {
            f"Prometheus: {title}": f"{pages}/graph?{urllib.parse.urlencode({'g0.expr': query, **shown})}"
            for title, query in QUERIES.items()
        }
        return {
            "Prometheus": self.url,
            "Prometheus: alerts, with what to do": f"{pages}/alerts",
            **graphs,
            f"Grafana: import, with {self.url} as the data source": str(self.directory / "grafana" / "mcp-server.json"),
            "Grafana: the clients' side": str(self.directory / "grafana" / "mcp-client.json"),
        }

    def _pages(self) -> str:
        """Debian's Prometheus has the pages of old, in a place of their own."""
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{self.url}/alerts", timeout=5).close()
        except OSError:
            return f"{self.url}/classic"
        return self.url
