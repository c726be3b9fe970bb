"""Whose set-up a process gets, with the stock distro or a vendor's on the path before and after this one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from . import environments
from .conftest import NewPython
from .processes import Child, Start

REPORT = """
import json, os
from opentelemetry import metrics
from opentelemetry_instrumentation_mcp import MCPInstrumentor
provider = metrics.get_meter_provider()
configuration = getattr(provider, "_sdk_config", None)
# Older releases of the SDK have them in the other place.
readers = getattr(provider, "_metric_readers", None) or getattr(configuration, "metric_readers", ())
print(json.dumps({
    "provider": type(provider).__name__,
    "readers": [type(reader).__name__ for reader in readers],
    "distro": configuration.resource.attributes.get("telemetry.distro.name") if configuration else None,
    "instrumented": MCPInstrumentor().is_instrumented_by_opentelemetry,
    "environment": {name: value for name, value in os.environ.items() if name.startswith(("OTEL_", "ACME_"))},
}))
"""
OURS = {
    "provider": "MeterProvider",
    "readers": ["PrometheusReader"],
    "distro": "opentelemetry-distro-mcp",
    "instrumented": True,
}

VENDOR = """
import os
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

def add(name, value):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), value)))

class Distro(BaseDistro):
    def _configure(self, **kwargs):
        add("ACME_DISTRO", "configured")

    def load_instrumentor(self, entry_point, **kwargs):
        add("ACME_LOADED", entry_point.name)
        super().load_instrumentor(entry_point, **kwargs)

class Configurator(_OTelSDKConfigurator):
    def _configure(self, **kwargs):
        add("ACME_CONFIGURATOR", ",".join(sorted(kwargs)))
        resource = Resource({"telemetry.distro.name": "acme"})
        set_meter_provider(MeterProvider([InMemoryMetricReader()], resource))
"""
# The names of the stock distro: one vendor has these.
VENDOR_ENTRY_POINTS = """
[opentelemetry_distro]
distro = acme:Distro
[opentelemetry_configurator]
configurator = acme:Configurator
"""
ACMES = {
    "provider": "MeterProvider",
    "readers": ["InMemoryMetricReader"],
    "distro": "acme",
    "instrumented": True,
    "environment": {
        "ACME_DISTRO": "configured",
        "ACME_CONFIGURATOR": "auto_instrumentation_version",
        "ACME_LOADED": "mcp_sdk",
    },
}


def says_that_it_left_out(child: Child, configurator: str) -> bool:
    """Whether stderr is the one line in which the auto-instrumentation names a configurator it did not take."""
    return re.fullmatch(f"Configuration of {configurator} not loaded[^\n]*\n", child.stderr) is not None


def report(child: Child) -> dict[str, Any]:
    assert child.finish() == 0
    assert child.stdout, child.stderr
    return json.loads(child.stdout)


def without_environment(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "environment"}


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    return environments.only(tmp_path / "stock", [environments.STOCK])


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return environments.package(tmp_path / "vendor", "acme", VENDOR, VENDOR_ENTRY_POINTS)


@pytest.fixture(params=["before", "after"])
def beside(request: pytest.FixtureRequest, python: NewPython) -> Any:
    """Puts directories on the path, before everything that is installed or after it."""

    def arrange(*directories: Path) -> dict[str, Any]:
        if request.param == "before":
            return {"PYTHONPATH": ":".join(map(str, directories))}
        return {"interpreter": python(after=directories)}

    return arrange


def test_ours_comes_before_the_stock_distro_wherever_it_is(
    start: Start, beside: Any, stock: Path, free_port: int
) -> None:
    child = start(REPORT, **beside(stock), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert without_environment(report(child)) == OURS
    assert says_that_it_left_out(child, "configurator")


def test_empty_variables_choose_as_unset_ones_do(start: Start, stock: Path, free_port: int) -> None:
    chosen = {"OTEL_PYTHON_DISTRO": "", "OTEL_PYTHON_CONFIGURATOR": " "}
    child = start(REPORT, PYTHONPATH=str(stock), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port), **chosen)

    assert without_environment(report(child)) == OURS
    assert says_that_it_left_out(child, "configurator")


def test_without_the_launcher_the_name_of_the_distro_is_enough(start: Start, stock: Path, free_port: int) -> None:
    # As the Kubernetes operator does it: the auto-instrumentation is on the path, and nobody runs a launcher.
    injected = environments.SITE_PACKAGES / "opentelemetry" / "instrumentation" / "auto_instrumentation"
    child = start(
        REPORT,
        launcher=False,
        PYTHONPATH=f"{injected}:{stock}",
        OTEL_PYTHON_DISTRO="mcp",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port),
    )

    assert without_environment(report(child)) == OURS
    assert says_that_it_left_out(child, "configurator")


@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        (["--distro", "distro", "--configurator", "configurator"], {}),
        ([], {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}),
    ],
)
def test_the_stock_distro_is_used_by_whoever_names_it(
    start: Start, stock: Path, flags: list[str], variables: dict[str, str]
) -> None:
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    child = start(REPORT, *flags, PYTHONPATH=str(stock), **exporters, **variables)

    found = report(child)
    assert without_environment(found) == OURS | {"readers": [], "distro": None}
    # One of the stock distro's defaults.
    assert found["environment"]["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
    assert says_that_it_left_out(child, "mcp")


def test_a_vendors_distro_comes_before_ours_wherever_it_is(start: Start, beside: Any, vendor: Path) -> None:
    child = start(REPORT, **beside(vendor))

    assert report(child) == ACMES
    # Whichever comes up second.
    assert says_that_it_left_out(child, "(mcp|configurator)")


def test_empty_variables_do_not_keep_a_vendors_distro_out(start: Start, vendor: Path) -> None:
    child = start(REPORT, PYTHONPATH=str(vendor), OTEL_PYTHON_DISTRO="", OTEL_PYTHON_CONFIGURATOR="")

    assert report(child) == ACMES


@pytest.mark.parametrize(("flags", "variables"), [(["--distro", "mcp"], {}), ([], {"OTEL_PYTHON_DISTRO": "mcp"})])
def test_ours_is_used_beside_a_vendors_by_whoever_names_it(
    start: Start, vendor: Path, free_port: int, flags: list[str], variables: dict[str, str]
) -> None:
    port = str(free_port)
    child = start(REPORT, *flags, PYTHONPATH=str(vendor), **variables, OTEL_EXPORTER_PROMETHEUS_PORT=port)

    found = report(child)
    assert without_environment(found) == OURS
    assert not [name for name in found["environment"] if name.startswith("ACME_")]


def test_a_vendors_distro_without_a_configurator_gets_the_sdks_own(start: Start, tmp_path: Path) -> None:
    vendor = environments.package(
        tmp_path / "vendor", "acme", VENDOR, "[opentelemetry_distro]\nacme_distro = acme:Distro\n"
    )
    child = start(REPORT, PYTHONPATH=str(vendor), OTEL_METRICS_EXPORTER="none")

    found = report(child)
    # Neither our resource attributes nor our economies: a provider is made although nobody listens.
    assert without_environment(found) == OURS | {"readers": [], "distro": None}
    assert found["environment"]["ACME_DISTRO"] == "configured"
    assert child.stderr == ""


def test_a_broken_instrumentor_of_another_package_does_not_stop_the_ones_after_it(
    start: Start, tmp_path: Path, free_port: int
) -> None:
    code = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
class Broken(BaseInstrumentor):
    def instrumentation_dependencies(self): return ()
    def _instrument(self, **kwargs): raise ValueError("no luck today")
    def _uninstrument(self, **kwargs): pass
class Late(BaseInstrumentor):
    def instrumentation_dependencies(self): return ()
    def _instrument(self, **kwargs): import os; os.environ["ACME_LATE"] = "active"
    def _uninstrument(self, **kwargs): pass
"""
    entry_points = "[opentelemetry_instrumentor]\nacme_broken = acme:Broken\nacme_late = acme:Late\n"
    package = environments.package(tmp_path / "acme", "acme", code, entry_points)
    child = start(REPORT, PYTHONPATH=str(package), OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    found = report(child)
    assert without_environment(found) == OURS
    assert found["environment"]["ACME_LATE"] == "active"
    assert child.stderr == "the instrumentation acme_broken is not active (ValueError: no luck today)\n"


def test_our_variables_are_flags_of_the_launcher(start: Start, free_port: int) -> None:
    child = start(REPORT, "--instrumentation_mcp_max_names", "7", OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert report(child)["environment"]["OTEL_INSTRUMENTATION_MCP_MAX_NAMES"] == "7"


def test_a_process_without_mcp_imports_nothing_of_the_adapters(start: Start, free_port: int) -> None:
    code = """
import sys
def ours(): return sorted(name for name in sys.modules if name.startswith(PACKAGE))
PACKAGE = "opentelemetry_instrumentation_mcp."
before = ours()
import mcp
print(before, ours(), "opentelemetry.sdk.trace" in sys.modules)
"""
    child = start(code, OTEL_EXPORTER_PROMETHEUS_PORT=str(free_port))

    assert child.finish() == 0
    before, after = child.stdout.decode().split("] [")
    # Nor does it pay for signals nobody asked for.
    assert after.endswith(" False\n")
    assert "opentelemetry_instrumentation_mcp.distro._distro" in before
    assert "opentelemetry_instrumentation_mcp.sdk" not in before
    assert ".metrics" not in before
    assert "opentelemetry_instrumentation_mcp.sdk.streams" in after
