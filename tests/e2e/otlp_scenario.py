"""``python -m tests.e2e.otlp_scenario REPORT``: something for every metric, by a process that exports as it is told.

REPORT gets two accounts of it: what a second reader of the same provider saw, and for one connection what was counted
on the wire.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ..points import Points
from ..sdk import setups
from ..sdk.setups import SETUPS
from ..sdk.test_catalogue import meet_a_fault, talk
from ..sdk.test_exactness import exercise


async def _exercise() -> dict[str, Any]:
    setup = next(each for each in SETUPS if each.name == "sse")
    async with setups.connect(setup) as link:
        await exercise(link.session, setup)
    wire = link.wire.settle()
    return {"asked": wire.asked, "asked_back": wire.asked_back}


def main(report: str) -> None:
    provider = get_meter_provider()
    assert isinstance(provider, MeterProvider)
    reader = InMemoryMetricReader()
    provider.add_metric_reader(reader)
    anyio.run(talk)
    anyio.run(meet_a_fault)
    before = Points.of(reader)
    wire = anyio.run(_exercise)
    accounts = {"before": before.to_json(), "points": Points.of(reader).to_json(), "wire": wire}
    Path(report).write_text(json.dumps(accounts))


if __name__ == "__main__":
    main(sys.argv[1])
