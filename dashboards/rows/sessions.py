"""Who is connected, is alive, and how does it end?"""

from __future__ import annotations

from typing import Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Role

from ..panels import Kind, Panel, Query, Row, Unit, legend
from ..promql import RANGE, equals, or_zero, ratio, total
from ..sides import (
    Side,
    ask,
    during,
    per_minute,
)


def sessions_and_connections(side: Side) -> Row:
    """Who is connected, and how does it end?"""
    active = total(ask.select(c.SESSIONS_ACTIVE))
    created = (
        Query(per_minute(c.SESSIONS_CREATED, by=(c.PROTOCOL_VERSION,)), f"created {legend(c.PROTOCOL_VERSION)}"),
        *((Query(or_zero(per_minute(c.SESSIONS_EVICTED, by=())), "evicted"),) if side.role is Role.SERVER else ()),
    )
    return Row(
        "Sessions and connections",
        (
            Panel(
                "Sessions",
                "Open now, by server and transport.",
                Kind.TIME,
                Unit.NUMBER,
                (
                    Query(
                        total(ask.select(c.SESSIONS_ACTIVE), c.SERVER_NAME, c.TRANSPORT),
                        legend(c.SERVER_NAME, c.TRANSPORT),
                    ),
                ),
                stacked=True,
                empty="no sessions",
            ),
            Panel(
                "Sessions created" + (" and evicted" if side.role is Role.SERVER else ""),
                "Per minute, by the revision of the protocol they agreed on."
                + (" Evicted are those that were idle for too long." if side.role is Role.SERVER else ""),
                Kind.TIME,
                Unit.PER_MINUTE,
                created,
                empty="no sessions",
            ),
            Panel(
                "Leak hint: sessions against requests",
                "Sessions that grow while requests do not are not closed by anybody.",
                Kind.TIME,
                Unit.NUMBER,
                (
                    Query(active, "sessions"),
                    Query(f"{total(ask.rate(c.REQUESTS_TOTAL))} * 60", "requests per minute", right=True),
                ),
                empty="no sessions",
            ),
            Panel(
                "Connections",
                "Open now, by transport and mode: a stateless one is a single HTTP exchange.",
                Kind.TIME,
                Unit.NUMBER,
                (
                    Query(
                        total(ask.select(c.CONNECTIONS_ACTIVE), c.TRANSPORT, c.SESSION_MODE),
                        legend(c.TRANSPORT, c.SESSION_MODE),
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Connections opened",
                "Per minute.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.CONNECTIONS_TOTAL, by=(c.TRANSPORT, c.SESSION_MODE)),
                        legend(c.TRANSPORT, c.SESSION_MODE),
                    ),
                ),
            ),
            Panel(
                "Connection errors",
                "Per minute: what failed before it was a request. A class of exception, an HTTP status, or a code.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.CONNECTION_ERRORS, by=(c.TRANSPORT, c.ERROR_TYPE)),
                        legend(c.TRANSPORT, c.ERROR_TYPE),
                    ),
                ),
                stacked=True,
                empty="no errors",
            ),
            Panel(
                "Age of sessions at their end",
                "Half of them, and 95 of 100, lasted no longer, in the time range.",
                Kind.BARS,
                Unit.AGE,
                tuple(
                    Query(
                        ask.quantile_with_births(each, c.SESSION_DURATION, by=(c.TRANSPORT,), over=RANGE),
                        f"p{round(100 * each)} {legend(c.TRANSPORT)}",
                    )
                    for each in (0.5, 0.95)
                ),
                empty="none ended",
            ),
            Panel(
                "How sessions ended",
                "In the time range: closed is well, peer_lost and error are not.",
                Kind.BARS,
                Unit.NUMBER,
                (Query(during(c.SESSION_DURATION, by=(c.STATUS,), part="count"), legend(c.STATUS)),),
                empty="none ended",
            ),
            Panel(
                "How connections ended",
                "In the time range, with their mean age in seconds.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(
                        f"{during(c.CONNECTION_DURATION, by=(c.TRANSPORT, c.STATUS), part='count')} > 0",
                        "Connections",
                    ),
                    Query(
                        ask.mean(c.CONNECTION_DURATION, by=(c.TRANSPORT, c.STATUS), over=RANGE),
                        "Mean age",
                        Unit.AGE,
                    ),
                ),
                empty="none ended",
                keys={c.TRANSPORT: "Transport", c.STATUS: "Ended"},
                sort="Connections",
            ),
            Panel(
                "Sessions by the conventions",
                f"{side.sessions.name}: the mean age of sessions that ended in the time range, by network and error.",
                Kind.TABLE,
                Unit.NUMBER,
                (
                    Query(
                        f"{during(side.sessions, by=_SESSION_KEYS, part='count')} > 0",
                        "Sessions",
                    ),
                    Query(ask.mean(side.sessions, by=_SESSION_KEYS, over=RANGE), "Mean age", Unit.AGE),
                ),
                width=24,
                height=6,
                empty="none ended",
                keys=dict(zip(_SESSION_KEYS, ("Protocol", "Network", "Error"), strict=True)),
                sort="Sessions",
            ),
        ),
    )


_SESSION_KEYS: Final = (c.PROTOCOL_VERSION, c.NETWORK_TRANSPORT, c.ERROR_TYPE)


def liveness() -> Row:
    """Are the peers alive?"""
    lost = during(c.CONNECTION_DURATION, equals(c.STATUS, "peer_lost"), part="count")
    ended = during(c.CONNECTION_DURATION, part="count")
    return Row(
        "Liveness",
        (
            Panel(
                "Checks",
                "Per minute: pings sent (outbound) and answered (inbound), keep-alives written into open streams. "
                "Neither SDK pings by itself.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (
                    Query(
                        per_minute(c.HEARTBEAT_CHECKS, by=(c.KIND, c.DIRECTION)),
                        legend(c.KIND, c.DIRECTION),
                    ),
                ),
            ),
            Panel(
                "Peers found dead",
                "Per minute, by the way it was found out.",
                Kind.TIME,
                Unit.PER_MINUTE,
                (Query(per_minute(c.DEAD_DETECTED, by=(c.REASON,)), legend(c.REASON)),),
                stacked=True,
                empty="none",
            ),
            Panel(
                "Share of connections that lost their peer",
                "Of the connections that ended in the time range.",
                Kind.STAT,
                Unit.RATIO,
                (Query(ratio(lost, ended), "lost"),),
                levels={0.05: "yellow", 0.2: "red"},
                highest=1.0,
                empty="none ended",
            ),
        ),
    )
