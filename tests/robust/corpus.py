"""A corpus of messages, valid and otherwise, generated and always the same."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_ids = st.integers(1, 20) | st.sampled_from(["a", "1", "", "x" * 300])
_NAMES = ["ok", "fail", "tell", "large", "greeting", "broken", "nobody", ""]

_ARGUMENTS: list[Any] = [{}, {"size": 3}, {"size": 30_000}, {"size": "x"}, {"other": 1}]
_CALLS: list[tuple[str, Any]] = [
    ("tools/list", {}),
    ("prompts/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("ping", {}),
    ("resources/read", {"uri": "memo://readme"}),
    ("resources/read", {"uri": "memo://none"}),
    ("resources/read", {"uri": 5}),
    ("logging/setLevel", {"level": "debug"}),
    ("server/discover", {}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greeting"}, "argument": {"name": "a"}}),
]
_METHODS = ["tools/call", "prompts/get", "resources/read", "nothing/known", "rpc.x", "notifications/progress", ""]


def _tool(name: str, arguments: Any) -> tuple[str, Any]:
    return "tools/call", {"name": name, "arguments": arguments}


def _prompt(name: str) -> tuple[str, Any]:
    return "prompts/get", {"name": name}


_valid: st.SearchStrategy[Any] = st.one_of(
    st.builds(_tool, st.sampled_from(_NAMES), st.sampled_from(_ARGUMENTS)),
    st.builds(_prompt, st.sampled_from(_NAMES)),
    st.sampled_from(_CALLS),
)


def _request(identity: Any, call: tuple[str, Any], meta: Any) -> dict[str, Any]:
    method, params = call
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params | ({"_meta": meta} if meta else {})}


_requests = st.builds(_request, _ids, _valid, st.none() | st.dictionaries(st.text(max_size=6), _json, max_size=2))
_odd_requests = st.fixed_dictionaries(
    {"method": st.sampled_from(_METHODS)},
    optional={"jsonrpc": st.sampled_from(["2.0", "1.0", 2]), "id": _json | _ids, "params": _json, "extra": _json},
)
_notifications = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(["notifications/initialized", "notifications/odd"])},
    optional={"params": _json},
)
_replies = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "id": _ids},
    optional={"result": _json, "error": _json | st.just({"code": -1, "message": "no"})},
)


def _dump(message: Any) -> bytes:
    return json.dumps(message).encode()


_messages = st.one_of(_requests, _odd_requests, _notifications, _replies, _json)


def _part(text: bytes, at: int) -> bytes:
    return text[: at % (len(text) + 1)]


_cut = st.builds(_part, _messages.map(_dump), st.integers(0, 300))
_noise = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ").replace(b"\r", b" "))


def _deep(depth: int) -> bytes:
    nested = b"[" * depth + b"]" * depth
    return b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"ok","arguments":{"x":' + nested + b"}}}"


def _huge(size: int) -> bytes:
    arguments = {"size": 1, "text": "h" * size}
    call = {"name": "large", "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": call}).encode()


def corpus(count: int) -> list[bytes]:
    """About so many messages, half of them valid, and the largest and deepest."""
    kinds = (_requests.map(_dump), _odd_requests.map(_dump), _messages.map(_dump), _cut, _noise)
    shares = (count // 2, count // 6, count // 6, count // 12, count // 12)
    found = [each for kind, share in zip(kinds, shares, strict=True) for each in _examples(kind, share)]
    found += [_deep(50), _deep(5_000), _huge(300_000), b"\xff\xfe", b"[]", b"[{}]", b"{}", b"null"]
    random.Random(0).shuffle(found)
    return found


def _examples(kind: st.SearchStrategy[bytes], count: int) -> list[bytes]:
    found: list[bytes] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(kind)
    def collect(message: bytes) -> None:
        found.append(message)

    collect()
    return found
