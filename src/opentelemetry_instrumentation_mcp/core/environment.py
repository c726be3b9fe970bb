"""Standard variables that more than one part of the package reads."""

from __future__ import annotations

import os


def sdk_is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED is ``true`` (OpenTelemetry specification, "General SDK Configuration")."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def configuration_file() -> str | None:
    """OTEL_CONFIG_FILE (OpenTelemetry specification, "Declarative configuration"); None when it is unset."""
    return os.environ.get("OTEL_CONFIG_FILE", "").strip() or None
