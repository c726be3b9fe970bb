"""The files that are made, by their names in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from . import alerts, client, grafana, rules, server

DIRECTORY: Final = Path(__file__).parents[1] / "src" / "opentelemetry_instrumentation_mcp" / "dashboards"
_HEAD: Final = "# {} of opentelemetry-distro-mcp. Made by `python -m dashboards` from the metric catalogue.\n"


def generated() -> dict[str, str]:
    """Every generated file and what is in it."""
    return {
        "grafana/mcp-server.json": grafana.to_json(server.DASHBOARD),
        "grafana/mcp-client.json": grafana.to_json(client.DASHBOARD),
        "prometheus/mcp-recording.rules.yml": rules.to_yaml(rules.RECORDINGS, _HEAD.format("Recording rules")),
        "prometheus/mcp-alerts.rules.yml": rules.to_yaml(alerts.ALERTS, _HEAD.format("Alerting rules")),
    }
