"""Which format and encoding a scraper gets for its headers."""

from __future__ import annotations

import gzip

import pytest

from opentelemetry_instrumentation_mcp.distro.listener import Request
from opentelemetry_instrumentation_mcp.distro.pages import Pages

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
PLAIN_1 = "text/plain; version=1.0.0; charset=utf-8; escaping="
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What Prometheus 2 and 3 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html, */*;q=0.8", PLAIN),
        ("nonsense", PLAIN),
        (",;,=;q", PLAIN),
        ("text/plain", PLAIN),
        ("text/plain;version=abc", PLAIN),
        ("text/plain;version=1.0.0;escaping=dots", f"{PLAIN_1}dots"),
        ("application/openmetrics-text", OPEN),
        ("Application/OpenMetrics-Text", OPEN),
        ("application/openmetrics-text; version=1.0.0", f"{OPEN}; escaping=underscores"),
        ('application/openmetrics-text; version="1.0.0"', f"{OPEN}; escaping=underscores"),
        ("application/openmetrics-text; version=1.0.0; escaping=nonsense", f"{OPEN}; escaping=underscores"),
        ("application/openmetrics-text; version=1.0.0; escaping=allow-utf-8", f"{OPEN}; escaping=allow-utf-8"),
        (PROMETHEUS_2, f"{OPEN}; escaping=underscores"),
        (PROMETHEUS_3, f"{OPEN}; escaping=allow-utf-8"),
        # A version that is none, or that nobody speaks.
        ("application/openmetrics-text; version=abc", PLAIN),
        ("application/openmetrics-text; version=", PLAIN),
        ("application/openmetrics-text; version=1.x", PLAIN),
        ("application/openmetrics-text; version=\u00b2.0.0", PLAIN),
        ("application/openmetrics-text; version=0.0.1", PLAIN),
        ("application/openmetrics-text; version=9.9.9", PLAIN),
        ("application/openmetrics-text; version=" + "1" * 10_000, PLAIN),
        ("application/openmetrics-text; version=abc, application/openmetrics-text", OPEN),
        # What the scraper does not want, or wants less.
        ("application/openmetrics-text;q=0, */*", PLAIN),
        ("application/openmetrics-text;q=0.000", PLAIN),
        ("application/openmetrics-text; Q=0", PLAIN),
        ("application/openmetrics-text;q=nan", PLAIN),
        ("application/openmetrics-text;q=", PLAIN),
        ("application/openmetrics-text;q=0.1, text/plain;version=0.0.4;q=0.9", PLAIN),
        ("text/plain;version=0.0.4;q=0.1, application/openmetrics-text;q=0.9", OPEN),
        ("text/plain;q=0, application/openmetrics-text;q=0", PLAIN),
        ("*/*, application/openmetrics-text", OPEN),
    ],
)
def test_the_format(accept: str, content_type: str) -> None:
    page = Pages().own(Request(accept))

    assert page.content_type == content_type
    assert page.body.endswith(b"# EOF\n") == ("openmetrics" in content_type)


@pytest.mark.parametrize(
    ("encoding", "is_packed"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=abc", False),
        ("identity;q=0, gzip;q=1.0", True),
        ("br, *", False),
        (";,q=", False),
    ],
)
def test_the_encoding(encoding: str, is_packed: bool) -> None:
    page = Pages().own(Request("", encoding))

    assert page.headers == ((("Content-Encoding", "gzip"),) if is_packed else ())
    assert b"# HELP" in (gzip.decompress(page.body) if is_packed else page.body)
