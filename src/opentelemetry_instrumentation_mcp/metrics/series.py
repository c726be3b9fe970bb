"""The cells of what connections have in common: one set of series for each identity.

A request costs three appends: ``mcp.requests.active`` up and down, and one duration, whose cell feeds
``mcp.requests.total`` (its length), ``mcp.request.duration`` and the operation histogram of the conventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import catalogue
from .catalogue import Metric
from .handover import Cell
from .labels import OPEN_ENDED, OTHER, TARGETS, Target
from .outcome import OK, TOOL_ERROR, Outcome, error_reply
from .vocabulary import Address, Direction, Role, Transport

if TYPE_CHECKING:
    from .recorder import Recorder

_NETWORK: Final[dict[Transport, tuple[str | None, str | None]]] = {
    Transport.STDIO: ("pipe", None),
    Transport.SSE: ("tcp", "http"),
    Transport.STREAMABLE_HTTP: ("tcp", "http"),
    Transport.WEBSOCKET: ("tcp", "websocket"),
    Transport.IN_MEMORY: (None, None),
    Transport.OTHER: (None, None),
}
"""``network.transport`` and ``network.protocol.name`` of the conventions."""


@dataclass(frozen=True)
class Identity:
    """What all requests of a connection have in common; equal identities share their cells."""

    role: Role
    transport: Transport
    server_name: str | None
    protocol_version: str | None
    address: Address | None
    crash_code: str


class Series:
    """The cells of one identity."""

    def __init__(self, identity: Identity, recorder: Recorder) -> None:
        self.identity = identity
        self._recorder = recorder
        network_transport, network_protocol = _NETWORK[identity.transport]
        address = identity.address
        self._common: dict[str, str | int | None] = {
            catalogue.ROLE: identity.role.value,
            catalogue.TRANSPORT: identity.transport.value,
            catalogue.SERVER_NAME: identity.server_name,
            catalogue.PROTOCOL_VERSION: identity.protocol_version,
            catalogue.NETWORK_TRANSPORT: network_transport,
            catalogue.NETWORK_PROTOCOL: network_protocol,
            catalogue.SERVER_ADDRESS: address.host if address else None,
            catalogue.SERVER_PORT: address.port if address else None,
        }
        self._active: dict[tuple[Direction, str], Cell] = {}
        self._requests: dict[tuple[Direction, str, str | None, Outcome], Cell] = {}
        self._notifications: dict[tuple[Direction, str], Cell] = {}
        self._sizes: dict[tuple[Metric, Direction, str, str | None], Cell] = {}
        self._zeroed: set[tuple[Target, str]] = set()
        self.registered: dict[Target, tuple[str, ...]] = {}
        """The names a server had registered when a connection last looked."""

    def active(self, direction: Direction, method: str) -> Cell:
        """Steps of ``mcp.requests.active``."""
        key = (direction, method)
        cell = self._active.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            cell = self._active.setdefault(key, self._recorder.cell((catalogue.REQUESTS_ACTIVE, values)))
        return cell

    def requests(self, direction: Direction, method: str, target: str | None, outcome: Outcome) -> Cell:
        """Durations in seconds of finished requests; ``target`` is the bounded tool or prompt name."""
        key = (direction, method, target, outcome)
        cell = self._requests.get(key)
        if cell is None:
            if not self._recorder.room_for_a_request_cell():
                key = (direction, OTHER, None, outcome)
                cell = self._requests.get(key)
                if cell is not None:
                    return cell
                method, target = OTHER, None
            cell = self._requests.setdefault(key, self._request_cell(direction, method, target, outcome))
        return cell

    def notifications(self, direction: Direction, method: str) -> Cell:
        """Durations in seconds of notifications handled or sent."""
        key = (direction, method)
        cell = self._notifications.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            cell = self._recorder.cell((catalogue.NOTIFICATIONS_TOTAL, values), (operation_of(direction), values))
            cell = self._notifications.setdefault(key, cell)
        return cell

    def sizes(self, metric: Metric, direction: Direction, method: str, target: str | None) -> Cell:
        """Bytes of requests or of responses, by ``metric``."""
        key = (metric, direction, method, target)
        cell = self._sizes.get(key)
        if cell is None:
            values = {**self._common, catalogue.DIRECTION: direction.value, catalogue.METHOD: method}
            if target is not None:
                values[TARGETS[method].value] = target
            cell = self._sizes.setdefault(key, self._recorder.cell((metric, values)))
        return cell

    def zero(self, direction: Direction, target: Target, name: str) -> None:
        """Let the counters of a registered name begin at 0: its successes, its tool errors, its crashes."""
        if (target, name) in self._zeroed:
            return
        self._zeroed.add((target, name))
        method = "tools/call" if target is Target.TOOL else "prompts/get"
        crash = error_reply(int(self.identity.crash_code))
        for outcome in (OK, TOOL_ERROR, crash) if target is Target.TOOL else (OK, crash):
            self.requests(direction, method, name, outcome).touch()

    def _request_cell(self, direction: Direction, method: str, target: str | None, outcome: Outcome) -> Cell:
        values = {
            **self._common,
            catalogue.DIRECTION: direction.value,
            catalogue.METHOD: method,
            catalogue.STATUS: outcome.status,
        }
        if target is not None:
            values[TARGETS[method].value] = target
        # On the request counter error.type tells apart what one status lumps together; elsewhere it would repeat it.
        counted = {
            **values,
            catalogue.ERROR_TYPE: outcome.error_type if outcome.status in ("client_error", "server_error") else None,
        }
        if method in OPEN_ENDED:
            return self._recorder.cell((catalogue.REQUESTS_TOTAL, counted))
        blameless = direction is Direction.INBOUND and outcome.caller_fault
        operation = {
            **values,
            catalogue.ERROR_TYPE: None if blameless else outcome.error_type,
            catalogue.RPC_STATUS_CODE: outcome.code,
            catalogue.OPERATION: "execute_tool" if method == "tools/call" else None,
        }
        return self._recorder.cell(
            (catalogue.REQUESTS_TOTAL, counted),
            (catalogue.REQUEST_DURATION, values),
            (operation_of(direction), operation),
        )

    def session(self, metric: Metric, values: dict[str, str | int | None] | None = None) -> Cell:
        """The cell of a session metric, with ``values`` beside what the identity says."""
        known = {**self._common, **(values or {})}
        return self._recorder.shared_cell(metric, *(known.get(key) for key in metric.attributes))


def operation_of(direction: Direction) -> Metric:
    """The conventions' histogram: who sends is the client of the operation, who receives its server."""
    if direction is Direction.INBOUND:
        return catalogue.SERVER_OPERATION_DURATION
    return catalogue.CLIENT_OPERATION_DURATION
