"""What of our code runs per call, function by function: without valgrind, by the interpreter's own hooks.

Bytecode instructions are the interpreter's; a C function that one of them calls counts as one, and stands in a list of
its own. It shows where to look, :mod:`.measure` says what it costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import opentelemetry_instrumentation_mcp
from opentelemetry_instrumentation_mcp import MCPInstrumentor

from .paths import PATHS

_OURS: Final = str(Path(opentelemetry_instrumentation_mcp.__file__).parent)
_SDK: Final = tuple(
    f"{directory}{os.sep}"
    for package in ("mcp", "mcp_types")
    if (found := find_spec(package)) is not None
    for directory in found.submodule_search_locations or ()
)
"""What a wrapper of ours calls there runs without us as well."""
_WARM_UP: Final = 10


class _Trace:
    """Counts what our functions do in this thread while it is on."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.opcodes: Counter[str] = Counter()
        self.helpers: Counter[tuple[str, str]] = Counter()

    def on(self) -> None:
        sys.setprofile(self._profile)
        sys.settrace(self._trace)

    def off(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and (caller := _name(frame)):
            self.helpers[getattr(argument, "__qualname__", repr(argument)), caller] += 1

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = _name(frame)
        if name is None:
            # Python code that runs for ours: a dataclass' generated methods, an enum's hash, a library's function.
            caller = _name(frame.f_back) if frame.f_back else None
            if caller and not frame.f_code.co_filename.startswith(_SDK):
                self.helpers[f"{Path(frame.f_code.co_filename).stem}.{_qualified(frame)}()", caller] += 1
            return None
        self.calls[name] += 1
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._count

    def _count(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        if event == "opcode":
            self.opcodes[_name(frame) or ""] += 1
        return self._count


def _name(frame: FrameType) -> str | None:
    """What a function of ours is called; None for all others."""
    file = frame.f_code.co_filename
    return f"{file[len(_OURS) + 1 : -3].replace('/', '.')}.{_qualified(frame)}" if file.startswith(_OURS) else None


def _qualified(frame: FrameType) -> str:
    # Python 3.10 knows the plain name only.
    return getattr(frame.f_code, "co_qualname", frame.f_code.co_name)


async def _traced(path: str, calls: int) -> _Trace:
    trace = _Trace()
    async with PATHS[path]() as call:
        for _ in range(_WARM_UP):
            await call()
        trace.on()
        try:
            for _ in range(calls):
                await call()
        finally:
            trace.off()
    return trace


def show(path: str, calls: int) -> None:
    """Print the functions of our package that ran, and what they called, per call of the tool."""
    instrumentor = MCPInstrumentor()
    provider = MeterProvider([InMemoryMetricReader()])
    instrumentor.instrument(meter_provider=provider)
    try:
        trace = asyncio.run(_traced(path, calls))
    finally:
        instrumentor.uninstrument()
        provider.shutdown()
    print(f"{'bytecodes':>10}{'calls':>8}  function of ours")
    for name, count in trace.opcodes.most_common():
        print(f"{count / calls:10.1f}{trace.calls[name] / calls:8.2f}  {name}")
    print(f"{trace.opcodes.total() / calls:10.1f}{trace.calls.total() / calls:8.2f}  in all\n")
    print(f"{'calls':>10}  function called by ours")
    for (called, caller), count in trace.helpers.most_common():
        print(f"{count / calls:10.2f}  {called:44} from {caller}")
    print(f"{trace.helpers.total() / calls:10.2f}  in all")
