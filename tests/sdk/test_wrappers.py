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

from ..wrapping import ASGI, may_be_named, without_self
from .snapshot import import_everything


def _replacements(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, Any]]:
    """What a patch replaces and what it puts in its place, by the name of the former."""
    import_everything()
    made: dict[str, tuple[Any, Any]] = {}
    for method in ("replace", "replace_generator"):
        original = getattr(Patches, method)

        def recording(self: Any, owner: Any, name: str, make: Callable[[Any], Any], original: Any = original) -> None:
            def making(replaced: Any) -> Any:
                replacement = make(replaced)
                made[f"{getattr(owner, '__name__', owner)}.{name}"] = (replaced, replacement)
                return replacement

            original(self, owner, name, making)

        monkeypatch.setattr(Patches, method, recording)
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider())
    instrumentor.uninstrument()
    return made


def _is_asgi_application(function: Any) -> bool:
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return False
    return without_self(list(inspect.signature(function).parameters)) == ASGI


def test_an_asgi_application_refuses_a_call_without_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn takes it for a factory of applications otherwise, and answers every request with 500."""
    applications = [new for old, new in _replacements(monkeypatch).values() if _is_asgi_application(old)]
    assert len(applications) >= 2
    for application in applications:
        with pytest.raises(TypeError):
            application(object())


def test_every_replacement_takes_whatever_it_is_called_with(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = {name: new for name, (_, new) in _replacements(monkeypatch).items() if isinstance(new, FunctionType)}
    assert len(functions) > 20
    wrong: list[str] = []
    for name, function in functions.items():
        # Its own parameters, not those of the function that it says it wraps.
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
        kinds = {each.kind for each in parameters}
        named = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        takes_anything = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds
        if not takes_anything or not may_be_named(named):
            wrong.append(f"{name}{inspect.signature(function, follow_wrapped=False)}")
    assert wrong == []
