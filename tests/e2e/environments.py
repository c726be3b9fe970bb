"""Python environments that hold some of what is installed here: what a test needs to be absent is absent.

An environment is a virtual one whose site-packages are links into this one's, made in milliseconds. What is left out
can neither be imported nor found by its metadata, and what is put before or after the rest comes up in that order.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from ..sdk.generation import V2

SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])

STOCK = "opentelemetry-distro"
GRPC = ("opentelemetry-exporter-otlp-proto-grpc",)
HTTP = ("opentelemetry-exporter-otlp-proto-http",)
OTLP = ("opentelemetry-exporter-otlp", *GRPC, *HTTP)
CONFIGURATION = "opentelemetry-configuration"
HTTP_SPANS = ("opentelemetry-instrumentation-asgi", "opentelemetry-instrumentation-httpx")
OPTIONAL = (STOCK, *OTLP, CONFIGURATION, *HTTP_SPANS)
"""What nobody needs who installs this package and nothing else."""


OTHER_PYTHON = "MCP_OTHER_PYTHON"
"""The variable that names an interpreter with the other generation of the SDK."""


def other_python() -> Path | None:
    """An interpreter with the other generation of the SDK: the one named, or that of tox' other environment.

    tox comes to mcp2 last, and mcp1 is there then.
    """
    beside = Path(sys.prefix).parent / ("mcp1" if V2 else "mcp2") / "bin" / "python"
    given = Path(os.environ.get(OTHER_PYTHON) or beside)
    return given if given.exists() else None


def create(
    directory: Path, without: Iterable[str] = OPTIONAL, after: Iterable[Path] = (), source: Path = SITE_PACKAGES
) -> Path:
    """Make an environment in ``directory`` and return its interpreter.

    Args:
        directory: Where to make it; it must not exist.
        without: Distributions that are left out.
        after: Directories that come after the site-packages on the path.
        source: The site-packages it is made from.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = directory / "lib" / version / "site-packages"
    # What is not installed here is absent there without anything to be done.
    hidden = {path for distribution in find(without, source) for path in files(distribution, source)}
    _link(source, site_packages, hidden, {parent for path in hidden for parent in path.parents})
    (site_packages / "after.pth").write_text("".join(f"{path}\n" for path in after))

    base = Path(cast(str, getattr(sys, "_base_executable", sys.executable))).resolve()
    (directory / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    binaries = directory / "bin"
    binaries.mkdir()
    python = binaries / "python"
    python.symlink_to(base)
    launcher = binaries / "opentelemetry-instrument"
    launcher.write_text(f"#!{python}\nfrom opentelemetry.instrumentation.auto_instrumentation import run\nrun()\n")
    launcher.chmod(0o755)
    return python


def only(directory: Path, names: Sequence[str]) -> Path:
    """Make a directory for the path that holds these distributions and nothing else, and return it."""
    found = find(names)
    assert len(found) == len(names), f"{names} have to be installed"
    for distribution in found:
        for path in files(distribution):
            link = directory / path.relative_to(SITE_PACKAGES)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    return directory


def package(directory: Path, name: str, code: str, entry_points: str) -> Path:
    """Write a distribution of one module, as an installer would leave it, into ``directory`` and return that."""
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    (directory / f"{name}.py").write_text(code)
    return directory


def find(names: Iterable[str], source: Path = SITE_PACKAGES) -> list[Distribution]:
    """Those of the distributions that are installed."""
    installed = {_normal(each.metadata["Name"]): each for each in distributions(path=[str(source)])}
    return [installed[_normal(name)] for name in names if _normal(name) in installed]


def files(distribution: Distribution, source: Path = SITE_PACKAGES) -> list[Path]:
    """Its files in the site-packages; scripts are elsewhere."""
    paths = [source / str(path) for path in distribution.files or ()]
    return [path for path in paths if ".." not in path.parts and "__pycache__" not in path.parts]


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _link(source: Path, target: Path, hidden: set[Path], parents: set[Path]) -> None:
    """Link everything but the hidden files; a directory as a whole where nothing below it is hidden."""
    children = [child for child in source.iterdir() if child not in hidden]
    for child in children:
        if child in parents:
            _link(child, target / child.name, hidden, parents)
        elif child.name != "__pycache__" or source not in parents:
            target.mkdir(parents=True, exist_ok=True)
            (target / child.name).symlink_to(child)
