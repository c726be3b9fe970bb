"""A release nobody knows: one thing that this package hooks into is not where it was, and everything else is measured.

Each name that a patch asks for is taken away while ``instrument()`` looks for it and put back at once, as if the SDK
used it from another place.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from opentelemetry_instrumentation_mcp import MCPInstrumentor
from opentelemetry_instrumentation_mcp.patching.patches import Patches, Seen
from opentelemetry_instrumentation_mcp.sdk.release import Module, is_expected

from ..points import ROLE, Points
from .endings import Counted
from .generation import V2
from .snapshot import import_everything
from .traffic import compare

pytestmark = pytest.mark.skipif(not V2, reason="what is to come is a 2.x")

# Requests that are not counted without a hook in this module, by kind and role. All others always are.
REQUESTS = {
    "mcp.shared.jsonrpc_dispatcher": {("streams", "server"), ("streams", "client"), ("exchanges", "client")},
    "mcp.shared.direct_dispatcher": {("in process", "server"), ("in process", "client")},
    "mcp.server._streamable_http_modern": {("exchanges", "server")},
    "mcp.server.streamable_http_manager": {("exchanges", "server")},
}

# Where there is another place for the same hook, or where it only saves time, nothing is missing.
NOT_MISSED = {
    "mcp.server.runner.ServerRunner._compose_server_middleware",
    "mcp.server._otel.extract_trace_context",
    "mcp.server._otel.otel_span",
    "mcp.shared.jsonrpc_dispatcher.inject_trace_context",
    "mcp.shared.jsonrpc_dispatcher.otel_span",
}

# Metrics that this traffic moves, and none of which moves without the hook.
METRICS = {
    "mcp.client.session.ClientSession": {"mcp.client.session.duration"},
    "mcp.client.session.ClientSession.adopt": {"mcp.client.session.duration"},
}


@dataclass(frozen=True)
class Place:
    """A name that a patch asks for, and what has it: a module or a class."""

    owner: Any
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.owner.__name__}.{self.name}" if isinstance(self.owner, type) else self.module_name

    @property
    def module(self) -> str:
        return str(self.owner.__module__ if isinstance(self.owner, type) else self.owner.__name__)

    @property
    def module_name(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def is_inherited(self) -> bool:
        bases = self.owner.__mro__[1:] if isinstance(self.owner, type) else ()
        return any(self.name in vars(base) and not base.__module__.startswith("mcp") for base in bases)

    @contextmanager
    def moved(self) -> Generator[None]:
        value = cast("Mapping[str, Any]", vars(self.owner))[self.name]
        delattr(self.owner, self.name)
        try:
            yield
        finally:
            setattr(self.owner, self.name, value)


def places() -> list[Place]:
    """Every name of the SDK that a patch asks for; what a class has by inheritance from elsewhere cannot move."""
    import_everything()
    found: dict[str, Place] = {}

    def add(owner: Any, name: str) -> None:
        place = Place(owner, name)
        if name in getattr(owner, "__dict__", ()) and place.module.startswith("mcp") and not place.is_inherited:
            found[str(place)] = place

    with pytest.MonkeyPatch.context() as patch:
        for method in ("replace", "replace_generator"):
            original = getattr(Patches, method)

            def recording(self: Any, owner: Any, name: str, make: Any, original: Any = original) -> None:
                add(owner.owner if isinstance(owner, Seen) else owner, name)
                original(self, owner, name, make)

            patch.setattr(Patches, method, recording)
        look_up = Module.__getattr__

        def looking(self: Any, name: str) -> Any:
            add(self.owner, name)
            return look_up(self, name)

        patch.setattr(Module, "__getattr__", looking)
        instrumentor = MCPInstrumentor()
        instrumentor.instrument(meter_provider=MeterProvider())
        instrumentor.uninstrument()
    return [found[name] for name in sorted(found) if is_expected(*name.rsplit(".", 1))]


PLACES = places() if V2 else []


def metrics(points: Points) -> set[str]:
    """The metrics that have recorded something."""
    return {point.metric for point in points.all if point.value}


@pytest.fixture(scope="module")
def reference() -> tuple[set[str], dict[str, Counted]]:
    """The metrics of the same traffic where nothing has moved, and its numbers."""
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    instrumentor.instrument(meter_provider=MeterProvider([reader]))
    try:
        numbers = compare(reader, ())
    finally:
        instrumentor.uninstrument()
    return metrics(Points.of(reader)), numbers


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_has_moved_is_said_in_a_line_and_the_rest_is_measured(
    place: Place, reference: tuple[set[str], dict[str, Counted]], caplog: pytest.LogCaptureFixture
) -> None:
    reader = InMemoryMetricReader()
    instrumentor = MCPInstrumentor()
    with caplog.at_level(logging.INFO, "opentelemetry_instrumentation_mcp"):
        with place.moved():
            instrumentor.instrument(meter_provider=MeterProvider([reader]))
        try:
            numbers = compare(reader, REQUESTS.get(place.module, ()))
        finally:
            instrumentor.uninstrument()

    # What is absent is absent. What is there is right.
    all_metrics, all_numbers = reference
    assert {kind: found - all_numbers[kind] for kind, found in numbers.items() if found - all_numbers[kind]} == {}
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry_instr")]
    lacks = f"this mcp release lacks {place}; what they would show is absent"
    assert ours == ([] if str(place) in NOT_MISSED else [lacks])
    points = Points.of(reader)
    for metric in ("mcp.requests.active", "mcp.connections.active", "mcp.sessions.active"):
        assert points.by(ROLE, metric) == {}
    # The dispatcher is most of a connection.
    if place.module != "mcp.shared.jsonrpc_dispatcher":
        assert all_metrics - metrics(points) == METRICS.get(str(place), set())


MODULES = ["mcp.server._streamable_http_modern", "mcp.shared.direct_dispatcher"]
CHILD = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry_instrumentation_mcp import MCPInstrumentor
reader = InMemoryMetricReader()
MCPInstrumentor().instrument(meter_provider=MeterProvider([reader]))
import mcp
assert mcp.__file__.startswith(HOME), mcp.__file__
from tests.sdk.traffic import compare
compare(reader, LACKS)
print("compared")
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_has_moved_is_said_in_a_line_and_the_rest_is_measured(module: str, tmp_path: Path) -> None:
    """In a copy of the SDK a module has another name, and everybody there knows it by that name."""
    sdk = Path(import_module("mcp").__file__ or "").parent
    sdk_copy = tmp_path / "mcp"
    shutil.copytree(sdk, sdk_copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = sdk_copy.joinpath(*module.split(".")[1:]).with_suffix(".py")
    file.rename(file.with_stem(f"{file.stem}_elsewhere"))
    for file in sdk_copy.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if module in text:
            file.write_text(text.replace(module, f"{module}_elsewhere"), encoding="utf-8")
    paths = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    code = f"LACKS, HOME = {REQUESTS.get(module, ())!r}, {str(tmp_path)!r}\n{CHILD}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)

    assert done.stdout == "compared\n", done.stderr
    lines = [line for line in done.stderr.splitlines() if "this mcp release" in line or "a metric was lost" in line]
    assert lines == [f"this mcp release lacks {module}; what they would show is absent"]
