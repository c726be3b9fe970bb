"""What the installed distribution says about itself is what the code and its messages say."""

from __future__ import annotations

import re
from importlib.metadata import entry_points, metadata, requires
from pathlib import Path

import pytest

from opentelemetry_instrumentation_mcp.distro import exporters
from opentelemetry_instrumentation_mcp.package import instruments

NAME = "opentelemetry-distro-mcp"
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def required(extra: str) -> list[str]:
    """What an extra installs, without blanks."""
    return [
        requirement.partition(";")[0].replace(" ", "")
        for requirement in requires(NAME) or ()
        if re.search(rf"extra == ['\"]{extra}['\"]", requirement)
    ]


def bounds(requirement: str) -> set[str]:
    return set(requirement.replace(" ", "").removeprefix("mcp").split(","))


def test_the_extra_asks_for_the_releases_that_are_instrumented() -> None:
    (requirement,) = required("instruments")
    (instrumented,) = instruments
    assert bounds(requirement) == bounds(instrumented)


@pytest.mark.parametrize(
    ("extra", "package"),
    [("otlp", "opentelemetry-exporter-otlp"), ("otlp-http", "opentelemetry-exporter-otlp-proto-http")],
)
def test_the_extras_that_messages_name_install_their_exporter(extra: str, package: str) -> None:
    assert extra in (metadata(NAME).get_all("Provides-Extra") or ())
    (requirement,) = required(extra)
    assert re.split(r"[<>=]", requirement)[0] == package
    assert extra in Path(exporters.__file__).read_text(encoding="utf-8")


def test_the_stock_distro_is_not_required() -> None:
    assert not [requirement for requirement in requires(NAME) or () if requirement.startswith("opentelemetry-distro")]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("opentelemetry_distro", "mcp"),
        ("opentelemetry_configurator", "mcp"),
        ("opentelemetry_instrumentor", "mcp_sdk"),
        ("opentelemetry_environment_variables", "mcp"),
        ("opentelemetry_metrics_exporter", "mcp_prometheus"),
    ],
)
def test_opentelemetry_finds_every_part(group: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the launcher loads says in the environment whose set-up it wants; not in that of the tests after this one.
    for variable in ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"):
        monkeypatch.setenv(variable, "mcp")
    (entry_point,) = [each for each in entry_points(group=group, name=name) if each.dist and each.dist.name == NAME]
    assert entry_point.load() is not None


@pytest.mark.parametrize(
    ("specification", "here"),
    [
        ("`enabled`", "OTEL_SDK_DISABLED"),
        ("`exporter`", "OTEL_METRICS_EXPORTER"),
        ("`prometheus_bind`", "OTEL_EXPORTER_PROMETHEUS_PORT"),
        ("`otlp_endpoint`", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("`collection_interval`", "OTEL_METRIC_EXPORT_INTERVAL"),
        ("the tracing exporter", "OTEL_TRACES_EXPORTER"),
        ("the `otlp` feature", "[otlp]"),
    ],
)
def test_the_readme_says_what_becomes_of_the_specifications_configuration(specification: str, here: str) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| {specification}")]
    assert here in row
