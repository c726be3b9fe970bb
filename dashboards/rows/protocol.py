"""What is spoken, and what is asked back?"""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER

from ..panels import Kind, Panel, Query, Row, Unit, legend
from ..promql import among, differs, equals, or_zero, ratio, total
from ..sides import (
    Side,
    ask,
    during,
    per_minute,
    quantile_by,
)


def protocol(side: Side) -> Row:
    """What is spoken?"""
    era = "2026-07-28"
    modern = total(ask.rate(side.operations, equals(c.PROTOCOL_VERSION, era), part="count"))
    others = among(c.PROTOCOL_VERSION, "2024-.+", "2025-.+", OTHER)
    handshake = total(ask.rate(side.operations, others, part="count"))
    return Row(
        "Protocol",
        (
            Panel(
                "Messages by revision",
                f"{side.operations.name}: requests and notifications per second, by the revision of the protocol.",
                Kind.TIME,
                Unit.PER_SECOND,
                (
                    Query(
                        total(ask.rate(side.operations, part="count"), c.PROTOCOL_VERSION),
                        legend(c.PROTOCOL_VERSION),
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Eras",
                "Share of messages of the handshake revisions and of 2026-07-28, which has neither handshake nor ping.",
                Kind.TIME,
                Unit.RATIO,
                (
                    Query(ratio(f"({or_zero(handshake)})", f"({_either(handshake, modern)})"), "handshake"),
                    Query(ratio(f"({or_zero(modern)})", f"({_either(handshake, modern)})"), era),
                ),
                highest=1.0,
                stacked=True,
            ),
            Panel(
                "Connections by transport",
                "In the time range.",
                Kind.BARS,
                Unit.NUMBER,
                (
                    Query(
                        during(c.CONNECTIONS_TOTAL, by=(c.TRANSPORT, c.SESSION_MODE)),
                        legend(c.TRANSPORT, c.SESSION_MODE),
                    ),
                ),
            ),
            Panel(
                "Notifications",
                "Per minute, by method and direction.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        total(ask.rate(c.NOTIFICATIONS_TOTAL, among(c.DIRECTION, ".+")), c.METHOD, c.DIRECTION)
                        + " * 60",
                        legend(c.METHOD, c.DIRECTION),
                    ),
                ),
            ),
            Panel(
                "p95 by the conventions",
                f"{side.operations.name} by method: the numbers other MCP dashboards show.",
                Kind.TIME,
                Unit.SECONDS,
                (Query(quantile_by(0.95, side.operations, by=(c.METHOD,)), legend(c.METHOD)),),
            ),
            Panel(
                "Codes of error replies",
                f"{side.operations.name} with a JSON-RPC error code, in the time range.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(
                        f"{during(side.operations, differs(c.RPC_STATUS_CODE, ''), by=_CODE_KEYS, part='count')} > 0",
                        "Replies",
                    ),
                ),
                empty="no error replies",
                keys=dict(zip(_CODE_KEYS, ("Method", "Code"), strict=True)),
                sort="Replies",
            ),
            Panel(
                "Asked back",
                "The requests that go the other way (sampling, elicitation, roots, pings), per minute.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.REQUESTS_TOTAL, equals(c.DIRECTION, side.opposite.value), by=(c.METHOD, c.STATUS)),
                        legend(c.METHOD, c.STATUS),
                    ),
                ),
                width=12,
                empty="nothing is asked back",
            ),
            Panel(
                "p95 of what is asked back",
                f"{side.asked_back.name} by method. A person or a model may have to answer.",
                Kind.TIME,
                Unit.SECONDS,
                (Query(quantile_by(0.95, side.asked_back, by=(c.METHOD,)), legend(c.METHOD)),),
                width=12,
                empty="nothing is asked back",
            ),
        ),
    )


_CODE_KEYS: Final = (c.METHOD, c.RPC_STATUS_CODE)


def _either(first: str, second: str) -> str:
    return f"({or_zero(first)}) + ({or_zero(second)})"
