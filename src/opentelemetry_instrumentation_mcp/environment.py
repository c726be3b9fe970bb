"""Standard variables that more than one part reads."""

import os


def sdk_is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED is ``true`` (OpenTelemetry specification, "General SDK Configuration")."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
