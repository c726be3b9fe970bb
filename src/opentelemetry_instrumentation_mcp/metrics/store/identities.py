"""The identities of connections: a bounded number of them, and the series of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..labels import OTHER, Target, bounded_version
from ..vocabulary import Address, Role, Transport
from .bounds import Bounds
from .method_metrics import Identity, IdentityMetrics
from .metric_buffers import MetricBuffers

_MOST_IDENTITIES: Final = 256
"""Identities one recorder keeps apart. A server chooses its name and revision anew for each client that connects."""

Opening = tuple[Role, Transport, str | None, str | None, Address | None, str]
"""What is known about a connection when it opens: the fields of an :class:`~.method_metrics.Identity`, unbounded."""


class IdentityTable:
    """Finds the series of identities.

    Args:
        buffers: Where their buffers are made.
        bounds: The tables that what a peer says goes through.
    """

    def __init__(self, buffers: MetricBuffers, bounds: Bounds) -> None:
        self._buffers = buffers
        self._bounds = bounds
        self._series: dict[Identity, IdentityMetrics] = {}
        self._openings: dict[Opening, IdentityMetrics] = {}
        self._listed: set[tuple[Role, str | None, Target]] = set()

    def opened(self, known: Opening) -> IdentityMetrics:
        """The series of a connection that opens."""
        return self._openings.get(known) or self._series_for(known)

    def identified(self, identity: Identity, server_name: object, protocol_version: object) -> IdentityMetrics:
        """The series of an identity about which more is known now."""
        name = self._bounds.servers.admit(server_name) if isinstance(server_name, str) else identity.server_name
        version = bounded_version(protocol_version) or identity.protocol_version
        if name == identity.server_name and version == identity.protocol_version:
            return self._series_of(identity)
        known = Identity(identity.role, identity.transport, name, version, identity.address, identity.crash_code)
        return self._series_of(known)

    def mark_listed(self, identity: Identity, target: Target) -> None:
        """A listing of this server passed by: its unlisted names are not registered."""
        self._listed.add((identity.role, identity.server_name, target))

    def is_listed(self, identity: Identity, target: Target) -> bool:
        """Whether a listing of this server ever passed by."""
        return (identity.role, identity.server_name, target) in self._listed

    def _series_for(self, known: Opening) -> IdentityMetrics:
        role, transport, server_name, protocol_version, address, crash_code = known
        identity = Identity(
            role,
            transport,
            self._bounds.servers.admit(server_name) if server_name is not None else None,
            bounded_version(protocol_version),
            self._bounds.address(address),
            crash_code,
        )
        series = self._series_of(identity)
        identity = series.identity
        if (server_name, protocol_version, address) == (
            identity.server_name,
            identity.protocol_version,
            identity.address,
        ):
            # Only what is bounded is remembered.
            self._openings[known] = series
        return series

    def _series_of(self, identity: Identity) -> IdentityMetrics:
        series = self._series.get(identity)
        if series is None:
            if len(self._series) >= _MOST_IDENTITIES:
                name, address = identity.server_name, identity.address
                folded_name, folded_address = name and OTHER, address and Address(OTHER, None)
                if (name, address) != (folded_name, folded_address):
                    return self._series_of(replace(identity, server_name=folded_name, address=folded_address))
            series = self._series.setdefault(identity, IdentityMetrics(identity, self._buffers))
        return series
