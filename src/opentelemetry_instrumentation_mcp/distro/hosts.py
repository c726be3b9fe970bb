"""Which names the ``Host`` of a request to a page on the loopback may have.

A web site can let its own name lead to 127.0.0.1, and read in a visitor's browser what is served there (DNS
rebinding). The browser then names the site in ``Host``. It cannot do that with an address, nor with a name that no
name server is asked for.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import socket
from typing import Final

from ..core.environment_variables import OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS

_logger = logging.getLogger(__name__)

_HOST: Final = re.compile(r"(?P<name>\[[^\[\]]*\]|[^:\[\]]+)(?::[0-9]*)?", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_LONGEST: Final = 300
_REFUSAL: Final = (
    "on the loopback the metrics page answers only to names of this machine and to those that "
    f"{OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS} lists"
)


def is_loopback(address: str) -> bool:
    """Whether an address is one that only this machine reaches."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


class Hosts:
    """The names that a page on the loopback answers to."""

    def __init__(self) -> None:
        """Read the names. A wrong one in the environment costs one warning line."""
        own = socket.gethostname().lower().rstrip(".")
        short = own.partition(".")[0]
        # No name server resolves any of these: `.local` is the local network's.
        self._names = {"localhost", "host.docker.internal", own, short, f"{short}.local", *_listed()}
        self._has_refused = False

    def allow(self, host: str) -> bool:
        """Whether ``host``, a name or an address with or without a port, means this machine. Nothing at all does."""
        host = host.strip()
        if not host:
            return True
        name = _name(host) if len(host) <= _LONGEST else None
        is_allowed = name is not None and (name in self._names or name.endswith(".localhost") or _is_address(name))
        if not is_allowed:
            # The client wrote this text, so it is logged at DEBUG only.
            _logger.debug("the metrics page is not for the host %.300r", host)
        return is_allowed

    def refusal(self) -> str:
        """The answer to another name; the first time it is logged as well."""
        if not self._has_refused:
            self._has_refused = True
            _logger.warning("a request was refused: %s", _REFUSAL)
        return _REFUSAL


def _name(host: str) -> str | None:
    """What stands before the port, in small letters; None for what is neither a name nor an address."""
    if _is_address(host):
        # An IPv6 address without brackets, which some clients send.
        return host
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    name = match["name"].lower()
    if name.startswith("["):
        return name[1:-1] if _is_address(name[1:-1]) else None
    name = name.removesuffix(".")
    return name if _NAME.fullmatch(name) else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _listed() -> list[str]:
    variable = OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS
    given = [text.strip() for text in os.environ.get(variable, "").split(",") if text.strip()]
    names = {text: _name(text) for text in given}
    good = [name for name in names.values() if name is not None]
    wrong = [text for text, name in names.items() if name is None]
    if wrong:
        using = ", ".join(good) or "none"
        _logger.warning("%s: %s is no host name; using %s", variable, ", ".join(map(repr, wrong)), using)
    return good
