"""The client side of HTTP, in both generations: what was posted, and what an HTTP answer, or none, means.

A failed POST does not reach the caller as what it was: the exception leaves through the task group of the transport and
the caller sees a cancellation; an HTTP error without a JSON-RPC body becomes a made-up error reply (2.x) or ends the
whole transport (1.x). Here the cause is seen first. Bodies are measured, and answers seen, by event hooks on the HTTP
client, public API of httpx and httpx2; redirects and authentication make several requests of one POST. Of those that
carry the message the first is measured and the last answer counts.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections import deque
from types import ModuleType
from typing import Any, Final

from ..core.fail_open import contained, report
from ..core.json_shapes import fields
from ..metrics.outcome import CONNECTION_LOST, End, Outcome, error_reply, http_error
from ..metrics.vocabulary import Death, Role, Transport
from ..patching.arguments import Parameter
from .client_hooks import ClientHooks
from .ending import leaf_name
from .http_pool import endpoint_at, endpoint_of
from .outbound import UNKNOWN, USE, Use, reset
from .release import is_v2
from .sizes import Sizes, unwrapped
from .state import ModulePatch, State
from .streams import Opening, StreamPair, Streams, address_of, opening_failed

_STREAM: Final = "_otel_mcp_stream"
"""Attribute left on a transport object (not on its class): the write stream the session holds.

It is the one thing both ends of the transport share; it has its pair by the time of the first message.
"""

_PAIR: Final = "_otel_mcp_pair"
"""Likewise: the pair, from the first message on."""

_PROBE: Final = "server/discover"
"""A 2.x client asks any server whether it speaks 2026-07-28; to be refused is an answer."""


_MESSAGE: Final = b'"jsonrpc"'
"""What a body that is a message has in it; those of authentication have not."""


class Post(Use):
    """One message on its way to the server.

    Its context is inherited by whoever handles what comes in the answer, and that can make requests of its own; and
    authentication makes some before or after it. Its own are known by the body, or by having the same.
    """

    # No __init__: the call of one costs as much as all it would do. Post.of() sets every slot.
    __slots__ = ("_is_open", "_message", "_pair", "_posted", "_request", "_response", "_sizes", "_state")

    _posted: Any
    _response: Any

    @classmethod
    def of(cls, state: State, open_streams: Streams, sizes: Sizes, transport: Any, ctx: Any) -> Use:
        """What a ``StreamableHTTPTransport`` uses its client for when it posts what ``ctx`` (``RequestContext``) has.

        Never raises.
        """
        try:
            url = transport.url
            endpoint = endpoint_of(url if type(url) is str else str(url)) or endpoint_at(url, ctx.client)
            pair: StreamPair | None = getattr(transport, _PAIR, None)
            if pair is None:
                pair = open_streams.find(getattr(transport, _STREAM, None))
                if pair is None:
                    return Use(endpoint)
                setattr(transport, _PAIR, pair)
            post = cls.__new__(cls)
            post.endpoint = endpoint
            post.status = 0
            post._state = state
            post._sizes = sizes
            post._pair = pair
            post._message = message = ctx.session_message.message
            post._response = post._posted = post._request = None
            # Until there is an answer that is no error and sends nobody elsewhere.
            post._is_open = True
            root = message if type(message).__name__ != "JSONRPCMessage" else message.root
            # Replies and notifications are posted too; only to a request a reply is expected.
            if type(root).__name__ == "JSONRPCRequest":
                post._request = pair.outbound(root.__dict__["id"])
                if state.recorder is not None:
                    # It is posted by a task of its own; everything else by the writer itself.
                    state.recorder.task_started(Role.CLIENT)
            return post
        except Exception as error:
            report("Post.of", error)
            return UNKNOWN

    def sent(self, request: Any) -> None:
        """An HTTP request is sent in its context; what is sent again (a redirect, a token) has been measured."""
        if not self._is_open:
            return
        posted = self._posted
        if posted is not None and request.stream is posted.stream:
            self._posted = request
            return
        try:
            content: bytes = request.content
        except Exception:
            # A stream, as _content() has it. What the SDK posts is in memory.
            return
        if _MESSAGE not in content:
            return
        self._posted = request
        if posted is not None:
            return
        waiting = self._request
        if waiting is None:
            self._sizes.serialised(self._message, len(content))
            return
        self._sizes.outgoing.pop(id(self._message), None)
        if waiting.ended:
            waiting.measured(len(content), response=False)
        else:
            # In place of that, since its end will take it.
            waiting.request_bytes = len(content)

    def answered(self, response: Any) -> None:
        """An HTTP response began in its context."""
        if self._posted is None or response.request is not self._posted:
            return
        self._response = response
        self.status = status = response.status_code
        self._is_open = status >= 300
        if self._request is not None and not self._request.ended:
            self._request.hint = response

    @contained
    def refused(self, transport: Any) -> None:
        """The transport is done with the POST, without an exception, though the answer was an error."""
        status = self.status
        if status == 404 and getattr(transport, "session_id", None) and self._pair.connection is not None:
            self._pair.connection.dead(Death.SESSION_NOT_FOUND)
        if self._message.__dict__.get("method") == _PROBE or self._is_answered_in_json_rpc():
            return
        self._error(status)

    def let_go(self) -> None:
        """Hold on to nothing."""
        self._is_open = False
        self._response = self._message = self._posted = self._request = None

    @contained
    def failed(self, error: Exception) -> None:
        """The POST raised."""
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            outcome = http_error(status)
            name: str | int = status
            failure: tuple[End, str | int | None] = (End.ERROR, name)
        else:
            outcome, name = CONNECTION_LOST, leaf_name(error)
            connection = self._pair.connection
            if connection is not None and connection.has_session:
                connection.dead(Death.WRITE_FAILED)
                failure = (End.PEER_LOST, None)
            else:
                # There never was a peer.
                failure = (End.ERROR, name)
        if self._pair.failure is None:
            self._pair.failure = failure
        self._error(name)
        if self._request is not None:
            self._request.end(outcome)

    @contained
    def abandoned(self, blames_the_answer: bool) -> None:
        """2.x makes up an error reply, since none can come."""
        if blames_the_answer:
            # A redirect, or a 202: see outcome_of_response().
            return
        self._hint(CONNECTION_LOST)
        broken = sys.exc_info()[1]
        self._error(leaf_name(broken) if broken is not None else "ConnectionError")

    @contained
    def unparsable(self, error: Exception) -> None:
        """The answer was no message; where its status is an error, that says more."""
        if self._response is not None and self._response.status_code >= 400:
            return
        self._hint(CONNECTION_LOST)
        self._error(type(error).__name__)

    def _hint(self, outcome: Outcome) -> None:
        if self._request is not None and not self._request.ended:
            self._request.hint = outcome

    def _error(self, name: str | int) -> None:
        if self._state.recorder is not None:
            self._state.recorder.connection_error(Role.CLIENT, self._pair.transport, name)

    def _is_answered_in_json_rpc(self) -> bool:
        """Whether the error response is a reply to this very request, so that it is the request's."""
        if type(unwrapped(self._message)).__name__ != "JSONRPCRequest":
            return False
        try:
            body = json.loads(self._response.content)
        except Exception:
            # Not read, or not JSON.
            return False
        return "error" in fields(body) and fields(body).get("id") is not None


def outcome_of_response(response: Any) -> tuple[Outcome | None, int | None]:
    """What an HTTP response means for the request it answers, whatever the SDK has made of it.

    Returns:
        Of an error its JSON-RPC error, with its bytes, if the SDK has read one; or its status. None where a reply can
        have come in it.
    """
    if response.status_code < 300:
        kind = response.headers.get("content-type", "").lower()
        if response.status_code != 202 and kind.startswith(("application/json", "text/event-stream")):
            return None, None
        # The SDK makes up an error reply, or none at all; the peer has sent nothing that could be one.
        return CONNECTION_LOST, None
    if response.status_code < 400:
        return http_error(response.status_code), None
    try:
        content = response.content
        error = json.loads(content)["error"]
        return error_reply(error["code"], error.get("message")), len(content)
    except Exception:
        # Not read (streamed and not JSON), not JSON, or not JSON-RPC: the status is all there is.
        return http_error(response.status_code), None


def can_be_a_reply(hint: Any) -> bool:
    """Whether an error that has arrived is the peer's, by what is known of the HTTP response it came in, if any."""
    return hint is None or (not isinstance(hint, Outcome) and outcome_of_response(hint)[0] is None)


def patches(state: State, open_streams: Streams, sizes: Sizes, hooks: ClientHooks) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.client.streamable_http", functools.partial(_patch_streamable, state, open_streams, sizes, hooks)),
        ("mcp.client.sse", functools.partial(_patch_sse, state, open_streams, sizes, hooks)),
    )


def _patch_streamable(
    state: State, open_streams: Streams, sizes: Sizes, hooks: ClientHooks, module: ModuleType
) -> None:
    transport = module.StreamableHTTPTransport
    state.patches.replace(transport, "post_writer", lambda original: _post_writer(state, hooks, original))
    for name in ("_handle_post_request", "_handle_resumption_request"):
        state.patches.replace(transport, name, lambda original: _handle_post(state, open_streams, sizes, original))
    if is_v2():
        state.patches.replace(
            transport, "_resolve_abandoned_request", lambda original: _resolve_abandoned(state, original)
        )


def _post_writer(state: State, hooks: ClientHooks, original: Any) -> Any:
    client, write_stream = Parameter(original, "client", 0), Parameter(original, "write_stream", 3)

    @functools.wraps(original)
    def post_writer(self: Any, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is not None:
            _watch(hooks, self, client.of(args, kwargs), write_stream.of(args, kwargs))
        # Started by whoever called: a coroutine around it would be woken up with it, for every message.
        return original(self, *args, **kwargs)

    return post_writer


@contained
def _watch(hooks: ClientHooks, transport: Any, client: Any, write_stream: Any) -> None:
    setattr(transport, _STREAM, write_stream)
    hooks.add(client, "request", _on_request)
    hooks.add(client, "response", _on_response)


async def _on_request(request: Any) -> None:
    use = USE.get()
    if use is None:
        return
    try:
        use.sent(request)
    except Exception as error:
        report("http_client.on_request", error)


async def _on_response(response: Any) -> None:
    use = USE.get()
    if use is None:
        return
    try:
        use.answered(response)
    except Exception as error:
        report("http_client.on_response", error)


def _content(request: Any) -> bytes | None:
    """The body of a request; None if it is a stream, as after a redirect. What the SDK posts is in memory."""
    try:
        content: bytes = request.content
    except Exception:
        return None
    return content


def _handle_post(state: State, open_streams: Streams, sizes: Sizes, original: Any) -> Any:
    ctx = Parameter(original, "ctx", 0)

    @functools.wraps(original)
    async def handle_post_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is None:
            return await original(self, *args, **kwargs)
        use = Post.of(state, open_streams, sizes, self, ctx.of(args, kwargs))
        token = USE.set(use)
        try:
            result = await original(self, *args, **kwargs)
            if use.status >= 400:
                use.refused(self)
            return result
        except Exception as error:
            use.failed(error)
            raise
        finally:
            reset(USE, token)
            try:
                use.let_go()
            except Exception as error:
                report("Post.let_go", error)

    return handle_post_request


def _resolve_abandoned(state: State, original: Any) -> Any:
    code = Parameter(original, "code", 3)

    @functools.wraps(original)
    async def resolve_abandoned_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        use = USE.get()
        if state.recorder is not None and use is not None:
            use.abandoned(code.is_given(args, kwargs))
        return await original(self, *args, **kwargs)

    return resolve_abandoned_request


def _patch_sse(state: State, open_streams: Streams, sizes: Sizes, hooks: ClientHooks, module: ModuleType) -> None:
    state.patches.replace_generator(
        module, "sse_client", lambda original: _sse_client(state, open_streams, sizes, hooks, original)
    )
    if hasattr(module, "request_within_origin"):  # 1.30, and 2.2 and later
        state.patches.replace(module, "request_within_origin", lambda original: _sse_request(state, original))


def _sse_client(state: State, open_streams: Streams, sizes: Sizes, hooks: ClientHooks, original: Any) -> Any:
    url, factory = Parameter(original, "url", 0), Parameter(original, "httpx_client_factory", 4)
    default = _default(original, "httpx_client_factory")

    @functools.wraps(original)
    def sse_client(*args: Any, **kwargs: Any) -> Any:
        pair = _sse_pair(url.of(args, kwargs)) if state.recorder is not None else None
        if pair is None:
            return original(*args, **kwargs)
        if default is not None and not factory.is_given(args, kwargs):
            kwargs = {**kwargs, "httpx_client_factory": default}
        args, kwargs = factory.change(args, kwargs, functools.partial(_factory, sizes, hooks, pair))
        opening = original(*args, **kwargs)
        pair.opened_by(opening)
        watched = Opening.of(
            opening,
            opened=lambda streams: open_streams.tag(pair, *streams[:2]),
            closing=lambda streams: open_streams.exited(*streams[:2]),
            failed=lambda error: opening_failed(state, Role.CLIENT, Transport.SSE, error),
        )
        return opening if watched is None else watched

    return sse_client


@contained
def _sse_pair(url: object) -> StreamPair:
    """The pair of a client to be."""
    pair = StreamPair(Transport.SSE, address=address_of(url))
    # SSE posts one message after another, in the order they were written.
    pair.posts = deque()
    return pair


@contained
def _default(original: Any, name: str) -> Any:
    """What a parameter is by default; None if there is no such."""
    default = inspect.signature(original).parameters[name].default
    return None if default is inspect.Parameter.empty else default


@contained
def _factory(sizes: Sizes, hooks: ClientHooks, pair: StreamPair, original: Any) -> Any:
    async def on_request(request: Any) -> None:
        try:
            _sse_body_sent(sizes, pair, request)
        except Exception as error:
            report("http_client.sse_body_sent", error)

    async def on_response(response: Any) -> None:
        try:
            _sse_answered(pair, response)
        except Exception as error:
            report("http_client.sse_answered", error)

    @functools.wraps(original)
    def factory(*args: Any, **kwargs: Any) -> Any:
        client = original(*args, **kwargs)
        hooks.add(client, "request", on_request)
        hooks.add(client, "response", on_response)
        return client

    return factory


def _sse_body_sent(sizes: Sizes, pair: StreamPair, request: Any) -> None:
    if request.method != "POST":
        return
    content = _content(request)
    if pair.is_sent_again and (content is None or _MESSAGE in content):
        # The answer before was a redirect, or asked for a token.
        pair.is_sent_again = False
    elif pair.posts and content is not None and _MESSAGE in content:
        sizes.serialised(pair.posts.popleft(), len(content))


def _sse_answered(pair: StreamPair, response: Any) -> None:
    content = _content(response.request)
    if response.request.method == "POST" and (content is None or _MESSAGE in content):
        pair.is_sent_again = response.status_code >= 300


def _sse_request(state: State, original: Any) -> Any:
    @functools.wraps(original)
    async def request_within_origin(*args: Any, **kwargs: Any) -> Any:
        try:
            response = await original(*args, **kwargs)
        except Exception as error:
            opening_failed(state, Role.CLIENT, Transport.SSE, error)
            raise
        _sse_refused(state, response)
        return response

    return request_within_origin


@contained
def _sse_refused(state: State, response: Any) -> None:
    if response.status_code >= 400 and state.recorder is not None:
        state.recorder.connection_error(Role.CLIENT, Transport.SSE, response.status_code)
