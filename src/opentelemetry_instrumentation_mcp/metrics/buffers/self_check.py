"""When the histogram writer is compared with the public API: once in a process, as soon as it has loaded the SDK."""

from __future__ import annotations

import logging
from importlib import import_module

from . import histogram_writer

_logger = logging.getLogger("opentelemetry_instrumentation_mcp")


def check() -> None:
    """Compare both ways, once in a process, as soon as it has loaded the SDK. Takes about 2 ms. Never raises."""
    if histogram_writer.verdict() is not None or not histogram_writer.is_sdk_loaded():
        return
    agrees, reason = False, "they differ"
    try:
        # Not imported before: it loads the SDK.
        agrees = bool(import_module(".histogram_comparison", __package__).agree())
    except Exception as error:
        reason = repr(error)
    histogram_writer.settle(agrees)
    if not agrees:
        _logger.info("histograms are recorded value by value; in bulk does not fit this OpenTelemetry SDK: %s", reason)
