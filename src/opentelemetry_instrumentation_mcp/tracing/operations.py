"""One span for each message: CLIENT where it is sent, SERVER where it is received (MCP semantic conventions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider

from ..core.json_shapes import fields
from ..metrics.catalogue import (
    ERROR_TYPE,
    METHOD,
    NETWORK_PROTOCOL,
    NETWORK_TRANSPORT,
    OPERATION,
    PROTOCOL_VERSION,
    RPC_STATUS_CODE,
    SERVER_ADDRESS,
    SERVER_PORT,
)
from ..metrics.labels import OTHER, TARGETS, Target
from ..metrics.outcome import Outcome, number_name
from ..metrics.vocabulary import NETWORK, Address, Transport
from ..version import __version__
from . import propagation
from .conventions import (
    CLIENT_ADDRESS,
    CLIENT_PORT,
    EXECUTE_TOOL,
    PROTOCOL_VERSION_OF_NETWORK,
    REQUEST_ID,
    RESOURCE_URI,
    SESSION_ID,
    TARGET_LENGTH,
    URI_METHODS,
)

SCOPE_NAME: Final = "opentelemetry_instrumentation_mcp"

Attributes = dict[str, str | int]


@dataclass(frozen=True)
class HttpRequest:
    """The HTTP request that brought a message to a server.

    Attributes:
        headers: Its headers, by names in any case.
        span: The span that was current when it arrived, of an HTTP instrumentation for instance.
        version: Of HTTP.
        peer: The host and port it came from.
    """

    headers: Mapping[str, str]
    span: Span | None = None
    version: str | None = None
    peer: tuple[str, int] | None = None

    def attributes(self) -> Attributes:
        """What a SERVER span says about it."""
        found: Attributes = {}
        if self.version:
            found[PROTOCOL_VERSION_OF_NETWORK] = self.version
        if self.peer:
            found[CLIENT_ADDRESS], found[CLIENT_PORT] = self.peer
        return found


def network(transport: Transport, address: Address | None = None) -> Attributes:
    """What all spans of a connection say about its transport.

    Args:
        transport: How the peer is reached.
        address: Where a client's peer is.
    """
    found: Attributes = {}
    name, protocol = NETWORK[transport]
    if name is not None:
        found[NETWORK_TRANSPORT] = name
    if protocol is not None:
        found[NETWORK_PROTOCOL] = protocol
    if address is not None:
        found[SERVER_ADDRESS] = address.host
        if address.port is not None:
            found[SERVER_PORT] = address.port
    return found


def mark(span: Span, error: str, message: str | None = None) -> None:
    """Let a span say that its operation failed.

    Args:
        span: The span.
        error: ``error.type``.
        message: The message of the JSON-RPC error, if there was one.
    """
    span.set_attribute(ERROR_TYPE, error)
    span.set_status(Status(StatusCode.ERROR, message))


class Operation:
    """One message and its span. ``end`` may be called more than once; the first one counts."""

    __slots__ = ("__weakref__", "_is_owned", "context", "ended", "is_merged", "is_sampled", "kind", "method", "span")

    def __init__(self, span: Span, context: Context, kind: SpanKind, method: str, *, is_owned: bool = True) -> None:
        self.span = span
        self.context = context
        self.kind = kind
        self.method = method
        self.is_sampled = span.get_span_context().trace_flags.sampled
        self.is_merged = False
        """Whether a framework's own span of the same message has been made one with this."""
        self.ended = False
        self._is_owned = is_owned

    def end(
        self,
        outcome: Outcome,
        *,
        code: int | None = None,
        message: str | None = None,
        protocol_version: str | None = None,
    ) -> None:
        """The operation ended.

        Args:
            outcome: How.
            code: The code of the error response, if there was one, as the peer sent it.
            message: Its message.
            protocol_version: The revision the connection speaks, if it is known by now.
        """
        if self.ended:
            return
        self.ended = True
        span = self.span
        if span.is_recording():
            if protocol_version is not None:
                span.set_attribute(PROTOCOL_VERSION, protocol_version)
            error = outcome.error_type
            if outcome.code is not None:
                # Metrics fold codes nobody knows; one span can say which it was.
                error = number_name(code) if outcome.code == OTHER and isinstance(code, int) else outcome.code
                span.set_attribute(RPC_STATUS_CODE, error)
            if error is not None and not (outcome.caller_fault and self.kind is SpanKind.SERVER):
                mark(span, error, message)
        if self._is_owned:
            span.end()

    def within(self) -> propagation.Within:
        """A block that is part of the operation."""
        return propagation.Within(self.context)


class Operations:
    """Makes the spans of one ``instrument()``.

    Args:
        provider: Where they go.
        asked: The attributes of :data:`~.conventions.ON_REQUEST` that were asked for.
    """

    def __init__(self, provider: TracerProvider | None, asked: frozenset[str]) -> None:
        self._tracer = trace.get_tracer(SCOPE_NAME, __version__, provider)
        self._asked = asked

    def send(self, method: str, params: object, peer: Attributes, *, request_id: str | int | None = None) -> Operation:
        """A message goes out.

        Args:
            method: Its method.
            params: Its ``params`` as on the wire.
            peer: What :func:`network` says.
            request_id: Its id, unless it is a notification.
        """
        context = otel_context.get_current()
        outer = trace.get_current_span(context)
        attributes, target = self._attributes(method, params, request_id)
        attributes.update(peer)
        if is_client_span_of(outer, "fastmcp", method):
            outer.set_attributes(attributes)
            return Operation(outer, context, SpanKind.CLIENT, method, is_owned=False)
        span = self._tracer.start_span(_name(method, target), context, SpanKind.CLIENT, attributes)
        return Operation(span, trace.set_span_in_context(span, context), SpanKind.CLIENT, method)

    def receive(
        self,
        method: str,
        params: object,
        peer: Attributes,
        *,
        request_id: str | int | None = None,
        http: HttpRequest | None = None,
    ) -> Operation:
        """A message came in.

        Its parent is what it brings in ``_meta``; then the HTTP request that brought it, linked otherwise; never what
        happens to be current, which is the request that opened the session.

        Args:
            method: Its method.
            params: Its ``params`` as on the wire.
            peer: What :func:`network` says.
            request_id: Its id, unless it is a notification.
            http: The HTTP request that brought it, if one did.
        """
        attributes, target = self._attributes(method, params, request_id)
        attributes.update(peer)
        links: list[Link] = []
        context = propagation.from_meta(params)
        if http is not None:
            attributes.update(http.attributes())
            self._add_session(attributes, http.headers.get("mcp-session-id"))
            if context is None:
                context = propagation.from_headers(http.headers)
                if http.span is not None:
                    context = trace.set_span_in_context(http.span, context or Context())
            elif http.span is not None:
                links.append(Link(http.span.get_span_context()))
        context = context or Context()
        span = self._tracer.start_span(_name(method, target), context, SpanKind.SERVER, attributes, links)
        return Operation(span, trace.set_span_in_context(span, context), SpanKind.SERVER, method)

    def in_session(self, span: Span, session_id: object) -> None:
        """A message belongs to a session."""
        attributes: Attributes = {}
        self._add_session(attributes, session_id)
        span.set_attributes(attributes)

    def about(self, span: Span, method: str, params: object, request_id: str | int | None) -> None:
        """Add to a native span what it does not say about its message."""
        attributes, _ = self._attributes(method, params, request_id)
        span.set_attributes(attributes)

    def _add_session(self, attributes: Attributes, session_id: object) -> None:
        if SESSION_ID in self._asked and isinstance(session_id, str):
            attributes[SESSION_ID] = session_id

    def _attributes(self, method: str, params: object, request_id: str | int | None) -> tuple[Attributes, str | None]:
        attributes: Attributes = {METHOD: method}
        if request_id is not None:
            attributes[REQUEST_ID] = str(request_id)
        target = None
        kind = TARGETS.get(method)
        if kind is not None:
            name = fields(params).get("name")
            if isinstance(name, str):
                target = attributes[kind.value] = name[:TARGET_LENGTH]
            if kind is Target.TOOL:
                attributes[OPERATION] = EXECUTE_TOOL
        elif method in URI_METHODS and RESOURCE_URI in self._asked:
            uri = fields(params).get("uri")
            if isinstance(uri, str):
                attributes[RESOURCE_URI] = uri
        return attributes, target


def is_client_span_of(span: Span, scope: str, method: str) -> bool:
    """Whether a recording span is another instrumentation's CLIENT span of a message with this method."""
    # An API span has no scope, kind or attributes; the SDK's has.
    found = getattr(getattr(span, "instrumentation_scope", None), "name", None)
    return (
        found == scope
        and getattr(span, "kind", None) is SpanKind.CLIENT
        and fields(getattr(span, "attributes", None)).get(METHOD) == method
    )


def _name(method: str, target: str | None) -> str:
    return f"{method} {target}" if target else method
