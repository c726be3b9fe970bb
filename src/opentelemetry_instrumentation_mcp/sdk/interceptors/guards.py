"""The guards in front of an HTTP server, in both generations.

``TransportSecurityMiddleware``, ``BearerAuthBackend`` and its token verifier are timed, each by itself.
``RequireAuthMiddleware`` and ``RequestBodyLimitMiddleware`` are not: the time of the one is the whole request's, that
of the other the network's. Their action is recorded when it is taken, not when an open stream ends at last.

A request without a valid token is refused by ``RequireAuthMiddleware``, and counted as refused there alone: for the
backend and the verifier, to find no user is a result as good as another.
"""

from __future__ import annotations

import functools
from time import perf_counter
from types import ModuleType
from typing import Any

from ...core.fail_open import contained, report
from ...metrics.events import Interceptor
from ...metrics.vocabulary import Action
from .. import ending
from ..http_edge import ANSWER, Answer, Edge, behind, is_edge
from ..state import ModulePatch, State
from .interception import Instead, Interceptors, through, what_it_raised


def _all_is_fine(_: Any) -> Action:
    return Action.CONTINUE


def patches(state: State, interceptors: Interceptors) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.server.transport_security", functools.partial(_patch_transport_security, state, interceptors)),
        ("mcp.server.auth.middleware.bearer_auth", functools.partial(_patch_bearer_auth, state, interceptors)),
    )


def _patch_transport_security(state: State, interceptors: Interceptors, module: ModuleType) -> None:
    guard = module.TransportSecurityMiddleware
    state.patches.replace(guard, "validate_request", lambda original: _validate_request(state, interceptors, original))
    # 1.30 and 2.1 on. 2.0 has one elsewhere, and before there is no limit.
    limit = getattr(module, "RequestBodyLimitMiddleware", None)
    if limit is not None:
        if is_edge(limit):
            state.patches.replace(limit, "__call__", lambda original: _edge(state, interceptors, original))
        else:
            state.patches.replace(limit, "__call__", lambda original: _gate(interceptors, original))


def _patch_bearer_auth(state: State, interceptors: Interceptors, module: ModuleType) -> None:
    backend, guard = module.BearerAuthBackend, module.RequireAuthMiddleware
    state.patches.replace(backend, "authenticate", lambda original: _authenticate(interceptors, original))
    state.patches.replace(guard, "__call__", lambda original: _gate(interceptors, original))


def _validate_request(state: State, interceptors: Interceptors, original: Any) -> Any:
    known = interceptors.of_class

    @functools.wraps(original)
    async def validate_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        # As Interceptors.of() has it, without the call.
        interceptor = known.get(self.__class__) if state.recorder is not None else None
        if interceptor is None and (interceptor := interceptors.of(self)) is None:
            return await original(self, *args, **kwargs)
        since = perf_counter()
        try:
            refusal = await original(self, *args, **kwargs)
        except BaseException as error:
            _raised(interceptor, perf_counter() - since, error)
            raise
        if refusal is None:
            try:
                interceptor.passed(perf_counter() - since)
            except Exception as failure:
                report("guards.passed", failure)
        else:
            interceptor.dealt(perf_counter() - since, None, Action.REJECT)
        return refusal

    return validate_request


@contained
def _raised(interceptor: Interceptor, seconds: float, error: BaseException) -> None:
    action, name = what_it_raised(error, ()) or (Action.ERROR, None)
    interceptor.dealt(seconds, None, action, name)


def _authenticate(interceptors: Interceptors, original: Any) -> Any:
    @functools.wraps(original)
    async def authenticate(self: Any, *args: Any, **kwargs: Any) -> Any:
        verifier = getattr(self, "token_verifier", None)
        interceptor = interceptors.of(self) if verifier is not None else None
        if interceptor is None:
            return await original(self, *args, **kwargs)
        return await through(
            interceptor,
            _verify_token(interceptors, verifier),
            lambda seen: original(_with_verifier(self, verifier, seen) or self, *args, **kwargs),
            judge=_all_is_fine,
        )

    return authenticate


@contained
def _with_verifier(backend: Any, verifier: Any, verify_token: Any) -> Any:
    return Instead(backend, "token_verifier", Instead(verifier, "verify_token", verify_token))


def _verify_token(interceptors: Interceptors, verifier: Any) -> Any:
    async def verify_token(*args: Any, **kwargs: Any) -> Any:
        interceptor = interceptors.of(verifier)
        if interceptor is None:
            return await verifier.verify_token(*args, **kwargs)
        return await through(interceptor, None, lambda _: verifier.verify_token(*args, **kwargs), judge=_all_is_fine)

    return verify_token


def _what_came_out(error: BaseException | None) -> tuple[Action, str | None]:
    """What a guard did that has not called its application, by what came out of it; and the error's name."""
    if error is None:
        return Action.REJECT, None
    if ending.is_cancellation(error):
        return Action.CONTINUE, None
    return Action.ERROR, ending.leaf_name(error)


class _Gate:
    """A guard that calls its application, or answers itself.

    Given to the guard's own method as its ``self``: the guard as it is, but for an ``app`` that is watched.
    """

    __slots__ = ("_guard", "_interceptor", "is_decided")

    def __init__(self, interceptor: Interceptor, guard: Any) -> None:
        self._interceptor = interceptor
        self._guard = guard
        self.is_decided = False
        """Whether it has let the request through, or not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)

    def app(self, *args: Any, **kwargs: Any) -> Any:
        """Call the guarded application."""
        self.decide(Action.CONTINUE)
        return self._guard.app(*args, **kwargs)

    def decide(self, action: Action, error: str | None = None) -> None:
        """It acts on the request; only the first time counts."""
        try:
            if not self.is_decided:
                self.is_decided = True
                self._interceptor.acted(action, error)
        except Exception as failure:
            report("guards.decide", failure)

    @contained
    def raised(self, error: BaseException) -> None:
        """An exception came out; before the application was called it is the guard's own."""
        self.decide(*_what_came_out(error))


@contained
def _watched(interceptor: Interceptor, guard: Any, scope: Any) -> _Gate | None:
    # The server that starts and stops is no request.
    return _Gate(interceptor, guard) if scope["type"] != "lifespan" else None


def _gate(interceptors: Interceptors, original: Any) -> Any:
    """Wrap the ASGI ``__call__`` of a guard, with the parameters of ASGI (see ``http_edge._entry``)."""

    @functools.wraps(original)
    async def guard(self: Any, scope: Any, receive: Any, send: Any, *args: Any, **kwargs: Any) -> Any:
        interceptor = interceptors.of(self)
        gate = _watched(interceptor, self, scope) if interceptor is not None else None
        if gate is None:
            return await original(self, scope, receive, send, *args, **kwargs)
        try:
            result = await original(gate, scope, receive, send, *args, **kwargs)
        except BaseException as error:
            gate.raised(error)
            raise
        gate.decide(Action.REJECT)
        return result

    return guard


class _AnswerBehind(Answer):
    """The answer of a guard that is the first of the SDK to see a request.

    Given to the guard's own method as its ``self``, like :class:`_Gate`.
    """

    # Like Answer's own: set by whoever makes one.
    interceptor: Interceptor
    max_body_size: int
    is_let_through = False

    def __getattr__(self, name: str) -> Any:
        if name == "entry":
            # Not there yet.
            raise AttributeError(name)
        return getattr(self.entry, name)

    def app(self, *args: Any, **kwargs: Any) -> Any:
        """Call the guarded application."""
        try:
            if not self.is_let_through:
                self.is_let_through = True
                self.interceptor.let_through()
        except Exception as error:
            report("guards.app", error)
        return self.entry.app(*args, **kwargs)

    def left(self, error: BaseException | None = None) -> None:
        """The guard is done with the request, with an exception or without."""
        try:
            self.scope.pop(ANSWER, None)
            if self.status >= 400 and not self.is_request:
                self.failed()
            if not self.is_let_through:
                self.interceptor.acted(*_what_came_out(error))
        except Exception as failure:
            report("guards.left", failure)


def _edge(state: State, interceptors: Interceptors, original: Any) -> Any:
    """Wrap the ASGI ``__call__`` of a guard that can be the first of the SDK to see a request."""
    edge, inner, known = Edge(state, behind), _gate(interceptors, original), interceptors.of_class

    @functools.wraps(original)
    async def guard(self: Any, scope: Any, receive: Any, send: Any, *args: Any, **kwargs: Any) -> Any:
        # As http_edge.watch() has it, without the calls.
        answer = None
        try:
            outer = scope.get(ANSWER)
            if state.recorder is not None and scope["type"] == "http" and (outer is None or outer.scope is not scope):
                interceptor = known.get(self.__class__) or interceptors.of(self)
                if interceptor is not None:
                    answer = _AnswerBehind()
                    answer.edge, answer.entry, answer.scope, answer.sends = edge, self, scope, send
                    answer.interceptor, answer.max_body_size = interceptor, self.max_body_size
                    scope[ANSWER] = answer
        except Exception as error:
            report("guards.edge", error)
            answer = None
        if answer is None:
            return await inner(self, scope, receive, send, *args, **kwargs)
        try:
            result = await original(answer, scope, receive, answer.send, *args, **kwargs)
        except BaseException as error:
            answer.left(error)
            raise
        try:
            if answer.is_let_through and answer.status < 400:
                scope.pop(ANSWER, None)
                # As Answer.finished() has it.
                answer.scope = None
            else:
                answer.left()
        except Exception as error:
            report("guards.finished", error)
        return result

    return guard
