"""Context across a connection, by the configured propagators: in ``params._meta``, or in an HTTP request's headers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context

from ..core.json_shapes import fields

_META: Final = "_meta"


def injected(params: object, context: Context) -> dict[str, Any] | None:
    """``params`` with a context in ``_meta``, as a new object; None if there is nothing to put in.

    What is in ``_meta`` already stays, but for the propagators' own keys: as in mcp 2.x the span that is open counts.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    if not carrier:
        return None
    given = fields(params)
    return {**given, _META: {**fields(given.get(_META)), **carrier}}


def from_meta(params: object) -> Context | None:
    """The context a message brings in ``_meta``; None without a valid span in it."""
    meta = fields(fields(params).get(_META))
    carrier = {key: value for key, value in meta.items() if isinstance(value, str)}
    return _extracted(carrier) if carrier else None


def from_headers(headers: Mapping[str, str]) -> Context | None:
    """The context an HTTP request brings in its headers; None without a valid span in it."""
    return _extracted(headers)


def _extracted(carrier: Mapping[str, str]) -> Context | None:
    # On nothing: what is current here belongs to whoever opened the session.
    context = propagate.extract(carrier, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


class Within:
    """Makes a context the current one for a block, and puts back what was there.

    It keeps the context and no token. A token can only be given back in the task that has it, and OpenTelemetry logs a
    traceback where that fails: in coroutines which the garbage collector closes.
    """

    __slots__ = ("_before", "_context")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._before = otel_context.get_current()
        otel_context.attach(self._context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit:
            otel_context.attach(self._before)
