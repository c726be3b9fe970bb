"""Who sets this process up: a vendor's distro over ours, ours over the stock one.

``opentelemetry-instrument`` and the auto-instrumentation behind it take the first distro and the first configurator
that come up, in the order of the file system's directory, unless OTEL_PYTHON_DISTRO and OTEL_PYTHON_CONFIGURATOR name
them. So the launcher and our distro name ours where nobody else but the stock ones is there, and stand back where a
vendor's are: they delegate to them. A name that a user has put into these variables is never changed, unless nothing of
that name is installed.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import EntryPoint
from typing import Any, Final

from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.instrumentation.environment_variables import OTEL_PYTHON_CONFIGURATOR, OTEL_PYTHON_DISTRO

from .installed import entry_points

_logger = logging.getLogger(__name__)

NAME: Final = "mcp"
"""The name of our entry points in both groups."""

DISTROS: Final = "opentelemetry_distro"
CONFIGURATORS: Final = "opentelemetry_configurator"

_VARIABLES: Final = {DISTROS: OTEL_PYTHON_DISTRO, CONFIGURATORS: OTEL_PYTHON_CONFIGURATOR}
_OURS: Final = __name__.partition(".")[0] + "."
_STOCK: Final = "opentelemetry.distro:"
"""By the module, since a vendor's entry points may have the names of the stock ones."""


def vendors(group: str) -> list[EntryPoint]:
    """The entry points of a group that are neither ours nor the stock distro's, in the order they come up."""
    return [entry for entry in entry_points(group) if not entry.value.startswith((_OURS, _STOCK))]


def is_chosen(group: str) -> bool:
    """Whether the environment names ours."""
    return os.environ.get(_VARIABLES[group], "").strip() == NAME


def choose(group: str) -> None:
    """Name ours in the environment, unless it names another one.

    An empty variable counts as unset (OpenTelemetry specification); the auto-instrumentation would look for an entry
    point without a name.
    """
    if not os.environ.get(_VARIABLES[group], "").strip():
        os.environ[_VARIABLES[group]] = NAME


def prefer_this_distro() -> None:
    """Make sure that the process to come takes our distro, where the choice is between ours and the stock one.

    Otherwise nothing is changed but a variable that is empty or names what is not installed: it is taken away. The
    auto-instrumentation would set up nothing, and log nothing.
    """
    for group, variable in _VARIABLES.items():
        name = os.environ.get(variable)
        if name is None or entry_points(group, name):
            continue
        if name.strip():
            _logger.warning("%s=%r is not installed; using the default", variable, name)
        del os.environ[variable]
    if not any(vendors(group) for group in _VARIABLES):
        choose(DISTROS)


def delegate(group: str) -> Any | None:
    """A vendor's distro or configurator, for ours to stand back; None where ours is the one.

    Raises:
        Exception: Whatever the vendor's raises; without ours it would have come up, too.
    """
    if is_chosen(group):
        return None
    for entry_point in vendors(group):
        candidate = entry_point.load()()
        # The auto-instrumentation passes over what is no distro, too.
        if group != DISTROS or isinstance(candidate, BaseDistro):
            return candidate
    return None
