"""The SDK's own set-up from the environment, with three things changed.

``prometheus`` among the metrics exporters means our reader, ``console`` exporters write to stderr, and the resource
names this distro. Which exporters there are stays the environment's choice; this module has no defaults.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Final

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER

# Private by its name, and yet the class that the SDK's docstring tells distros to derive from.
from opentelemetry.sdk._configuration import _OTelSDKConfigurator  # pyright: ignore[reportPrivateUsage]
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from ..version import __version__

STANDARD_NAME: Final = "prometheus"
"""The exporter's name in OTEL_METRICS_EXPORTER (OpenTelemetry specification, "Exporter Selection")."""

OWN_NAME: Final = "mcp_prometheus"
"""The entry point of :class:`~.prometheus.PrometheusReader` in the group ``opentelemetry_metrics_exporter``."""

_EXPORTER_GROUPS: Final = (
    "opentelemetry_metrics_exporter",
    "opentelemetry_traces_exporter",
    "opentelemetry_logs_exporter",
)


class MCPConfigurator(_OTelSDKConfigurator):
    """Builds the SDK's providers from the environment, as the SDK's configurator does."""

    def _configure(self, **kwargs: Any) -> None:
        """Set up the SDK, or nothing at all when OTEL_SDK_DISABLED is ``true``.

        Args:
            **kwargs: As the SDK's configurator takes them. What a caller puts into ``resource_attributes`` or
                ``exporter_args_map`` wins over ours.

        Raises:
            RuntimeError: From the SDK, for an exporter that is not installed.
        """
        # The SDK would build its readers all the same, and ours would open a port with nothing behind it.
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return
        kwargs["resource_attributes"] = {
            "telemetry.distro.name": "opentelemetry-distro-mcp",
            "telemetry.distro.version": __version__,
            **(kwargs.get("resource_attributes") or {}),
        }
        kwargs["exporter_args_map"] = {**_console_to_stderr(), **(kwargs.get("exporter_args_map") or {})}
        with _own_reader_for_prometheus():
            # The SDK leaves its keywords without annotations.
            super()._configure(**kwargs)  # pyright: ignore[reportUnknownMemberType]


@contextmanager
def _own_reader_for_prometheus() -> Generator[None]:
    """Let the SDK read our reader's name; leave the standard one behind, for child processes inherit it.

    The SDK looks exporters up by what the variable says and has no argument that replaces the list.
    """
    chosen = os.environ.get(OTEL_METRICS_EXPORTER)
    if chosen is None:
        yield
        return
    names = (name.strip() for name in chosen.split(","))
    os.environ[OTEL_METRICS_EXPORTER] = ",".join(OWN_NAME if name == STANDARD_NAME else name for name in names)
    try:
        yield
    finally:
        os.environ[OTEL_METRICS_EXPORTER] = chosen


def _console_to_stderr() -> dict[type, dict[str, object]]:
    """The arguments of the SDK's ``console`` exporters; the stdout of a stdio server belongs to its protocol.

    Found by their entry points, because the one for logs has had two names and lives in a private module. Another
    package's exporter of that name is left alone: it may not take the argument.
    """
    return {
        entry_point.load(): {"out": sys.stderr}
        for group in _EXPORTER_GROUPS
        for entry_point in entry_points(group=group, name="console")
        if entry_point.module.startswith("opentelemetry.sdk.")
    }
