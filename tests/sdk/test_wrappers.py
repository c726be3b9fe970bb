"""What is really put in the place of the SDK's functions takes whatever it is called with.

``tests/unit/test_wrappers.py`` holds the same of what it finds in the source.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.patching.patches import Patches

from .snapshot import import_everything

ASGI = (
    "SseServerTransport.handle_post_message",
    "RequestBodyLimitMiddleware.__call__",
    "RequireAuthMiddleware.__call__",
    "StreamableHTTPASGIApp.__call__",
    "StreamableHTTPSessionManager.handle_request",
)


def _replacements(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every replacement that a patch makes, by the name of what it replaces."""
    import_everything()
    made: dict[str, Any] = {}
    for method in ("replace", "replace_generator"):
        original = getattr(Patches, method)

        def recording(self: Any, owner: Any, name: str, make: Callable[[Any], Any], original: Any = original) -> None:
            def making(replaced: Any) -> Any:
                made[f"{getattr(owner, '__name__', owner)}.{name}"] = replacement = make(replaced)
                return replacement

            original(self, owner, name, making)

        monkeypatch.setattr(Patches, method, recording)
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider())
    instrumentor.uninstrument()
    return made


def test_an_asgi_application_refuses_a_call_without_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn takes it for a factory of applications otherwise, and answers every request with 500."""
    applications = [each for name, each in _replacements(monkeypatch).items() if name.endswith(ASGI)]
    assert len(applications) >= 2
    for application in applications:
        with pytest.raises(TypeError):
            application(object())


def test_every_replacement_takes_whatever_it_is_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = {name: each for name, each in _replacements(monkeypatch).items() if isinstance(each, FunctionType)}
    assert len(functions) > 20
    wrong: list[str] = []
    for name, function in functions.items():
        # Its own parameters, not those of the function that it says it wraps.
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
        kinds = {each.kind for each in parameters}
        named = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        takes_anything = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
        if not takes_anything or named not in ([], ["self"], ["self", "scope", "receive", "send"]):
            wrong.append(f"{name}{inspect.signature(function, follow_wrapped=False)}")
    assert wrong == []
