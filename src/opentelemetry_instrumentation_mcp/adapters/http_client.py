"""The client side of streamable HTTP, in both generations: what an HTTP answer, or none, means for a request.

A failed POST does not reach the caller as what it was: in both generations the exception leaves through the task group
of the transport, and the caller sees a cancellation; an HTTP error without a JSON-RPC body becomes a made-up error
reply (2.x) or ends the whole transport (1.x). Here the cause is seen first.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final

from ..metrics.outcome import CONNECTION_LOST, End, Outcome, error_reply, http_error
from ..metrics.recorder import Request
from ..safety import contained
from ..wire import fields
from .adapter import Adapter
from .outbound import current_request
from .streams import Link

_LINK: Final = "_otel_mcp_link"


def _patch(adapter: Adapter, module: ModuleType) -> None:
    transport = module.StreamableHTTPTransport
    adapter.patches.replace(transport, "post_writer", lambda original: _post_writer(adapter, original))
    adapter.patches.replace(transport, "_handle_post_request", lambda original: _handle_post(adapter, original))
    if hasattr(transport, "_resolve_abandoned_request"):  # 2.x
        adapter.patches.replace(transport, "_resolve_abandoned_request", lambda o: _resolve_abandoned(adapter, o))
        adapter.patches.replace(module, "stream_within_origin", lambda o: _stream(adapter, o))


def _post_writer(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def post_writer(
        self: Any, client: Any, write_stream_reader: Any, read_stream_writer: Any, write_stream: Any, *args: Any
    ) -> None:
        # The same write stream the session holds: the one thing both ends of the transport share.
        link = adapter.streams.find(write_stream)
        if link is not None:
            setattr(self, _LINK, link)
        await original(self, client, write_stream_reader, read_stream_writer, write_stream, *args)

    return post_writer


def _handle_post(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def handle_post_request(self: Any, ctx: Any) -> None:
        try:
            await original(self, ctx)
        except Exception as error:
            if adapter.recorder is not None:
                _post_failed(self, ctx, error)
            raise

    return handle_post_request


@contained
def _post_failed(transport: Any, ctx: Any, error: Exception) -> None:
    link: Link | None = getattr(transport, _LINK, None)
    if link is None:
        return
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        outcome = http_error(status)
        failure = (End.ERROR, outcome.error_type)
    else:
        outcome = CONNECTION_LOST
        failure = (End.PEER_LOST, None)
    if link.failure is None:
        link.failure = failure
    message = ctx.session_message.message
    message = getattr(message, "root", message)
    # Replies and notifications are posted too, and fail as well; only a request has somebody waiting.
    if hasattr(message, "method") and hasattr(message, "id"):
        request: Request | None = link.outbound(message.id)
        if request is not None:
            request.end(outcome)


def _resolve_abandoned(adapter: Adapter, original: Any) -> Any:
    @functools.wraps(original)
    async def resolve_abandoned_request(
        self: Any, read_stream_writer: Any, request_id: Any, message: str, **kwargs: Any
    ) -> None:
        if adapter.recorder is not None and "code" not in kwargs:
            # Without a code the SDK makes one up for "no reply can come any more"; the others blame an HTTP answer.
            _hint(self, request_id, CONNECTION_LOST)
        await original(self, read_stream_writer, request_id, message, **kwargs)

    return resolve_abandoned_request


@contained
def _hint(transport: Any, request_id: Any, hint: Any) -> None:
    link: Link | None = getattr(transport, _LINK, None)
    request: Request | None = link.outbound(request_id) if link is not None else None
    if request is not None:
        request.hint = hint


def _stream(adapter: Adapter, original: Any) -> Any:
    @asynccontextmanager
    async def stream_within_origin(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        async with original(*args, **kwargs) as response:
            if adapter.recorder is not None and response.status_code >= 400:
                _http_failed(kwargs.get("json"), response)
            yield response

    return functools.wraps(original)(stream_within_origin)


@contained
def _http_failed(body: Any, response: Any) -> None:
    message = fields(body)
    if "method" in message and "id" in message and (request := current_request()) is not None:
        request.hint = response


def outcome_of_response(response: Any) -> Outcome:
    """What an HTTP error response means: its JSON-RPC error if the SDK has read one, else its status."""
    try:
        body = json.loads(response.content)
        error = body["error"]
        return error_reply(error["code"], error.get("message"))
    except Exception:
        # Not read (streamed and not JSON), not JSON, or not JSON-RPC: the status is all there is.
        return http_error(response.status_code)


PATCHES: Final = (("mcp.client.streamable_http", _patch),)
