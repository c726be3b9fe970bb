"""What does it cost?"""

from __future__ import annotations

from opentelemetry_instrumentation_mcp.metrics import catalogue as c

from ..panels import Kind, Panel, Query, Row, Unit, legend
from ..promql import PRESENCE, total
from ..sides import (
    Side,
    ask,
)


def process(side: Side) -> Row:
    """What does it cost?"""
    tasks = total(ask.rate(c.TASK_SPAWNS))
    return Row(
        "Process",
        (
            Panel(
                "Memory",
                "Resident memory of each process.",
                Kind.TIME,
                Unit.BYTES,
                (Query(total(ask.select(c.MEMORY_USAGE), "instance"), "{{instance}}"),),
            ),
            Panel(
                "Tasks started",
                "By the SDK for messages, per second. More than some per request is a change in the SDK.",
                Kind.TIME,
                Unit.PER_SECOND,
                (
                    Query(total(ask.rate(c.TASK_SPAWNS), c.ROLE), legend(c.ROLE)),
                    Query(f"{tasks} / ({total(ask.rate(c.REQUESTS_TOTAL))} > 0)", "per request"),
                ),
            ),
            Panel(
                "Uptime",
                "How long each process has been there. A line that begins anew is a restart. Only a scrape gives the "
                "start of a process: what is sent by OTLP is not here.",
                Kind.TIME,
                Unit.AGE,
                (
                    Query(
                        f"time() - max by (instance) ({ask.named('process_start_time_seconds')} and on (job, instance) "
                        f"{ask.select(PRESENCE)})",
                        "{{instance}}",
                    ),
                ),
                empty="not scraped, or not told on this system",
            ),
        ),
    )
