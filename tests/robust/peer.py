"""``python -m tests.robust.peer KIND [--instrumented]``: the example server in a process of its own.

KIND is ``stdio``, or an HTTP setup of ``tests.sdk.setups``, whose URL is the first line on stderr. Without the flag
nothing of the package is imported.
"""

from __future__ import annotations

import sys
from importlib import import_module

import anyio

from ..sdk import example, setups
from ..sdk.generation import V2


def instrument() -> None:
    """Not imported at the top, nor by a bare server."""
    package = import_module("opentelemetry_instrumentation_mcp")
    metrics = import_module("opentelemetry.sdk.metrics")
    provider = metrics.MeterProvider([metrics.export.InMemoryMetricReader()])
    package.MCPInstrumentor().instrument(meter_provider=provider, skip_dep_check=True)


def main(kind: str, *flags: str) -> None:
    """Serve until stdin is closed."""
    if "--instrumented" in flags:
        instrument()
    if kind == "stdio":
        example.build().run("stdio")
    else:
        anyio.run(_serve, kind)
    if "--instrumented" not in flags:
        loaded = [name for name in sys.modules if name.startswith("opentelemetry_instrumentation_mcp.sdk")]
        assert not loaded, loaded


async def _serve(kind: str) -> None:
    setup = next(each for each in setups.SETUPS if each.name == kind)
    server = example.build(**({} if V2 else setup.settings))
    async with setups.serve(setups.http_app(server, setup)) as base:
        sys.stderr.write(f"{base}\n")
        sys.stderr.flush()
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    main(*sys.argv[1:])
