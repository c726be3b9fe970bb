"""Which releases that ``tox.ini`` and ``pyproject.toml`` name have a newer one: ``make outdated``.

Pip is asked, so the answer is that of its configured index and for this Python. Several majors of one package are
tested on purpose (mcp 1.x and 2.x; fastmcp 2, 3 and 4), so the newest release tested of each is compared with the
newest there is of it, and the newest of all with the newest there is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_ROOT: Final = Path(__file__).parents[1]
_SECONDS: Final = 120


def requirements(text: str) -> Iterator[Requirement]:
    """What a ``tox.ini`` or a ``pyproject.toml`` requires."""
    for line in text.splitlines():
        # `factor: name == 1.2`, or `"name >= 1, < 2",` in one of the lists of pyproject.toml.
        found = re.findall(r'"([A-Za-z][^"]*)"', line) or [re.sub(r"^ +(?:[\w.,!{}-]+: )?|^deps = ", "", line)]
        for each in found:
            if re.search(r"[<=>]=? ?\d", each):
                try:
                    yield Requirement(each.replace("!= ", "!="))
                except InvalidRequirement:
                    continue


def behind(
    required: Iterable[Requirement], available: Callable[[str], list[Version]]
) -> Iterator[tuple[str, str, str]]:
    """What has a newer release.

    Args:
        required: What the project's files name.
        available: The releases there are of a package.

    Yields:
        The package, what is tested, and the newer release.
    """
    pinned: dict[str, set[Version]] = {}
    ranges: dict[str, set[str]] = {}
    for each in required:
        name = canonicalize_name(each.name)
        exact = [Version(one.version) for one in each.specifier if one.operator == "=="]
        pinned.setdefault(name, set()).update(exact)
        if not exact:
            ranges.setdefault(name, set()).add(str(each.specifier))
    for name in sorted(pinned):
        releases = available(name)
        newest = max((each for each in releases if not each.is_prerelease), default=None)
        if not releases:
            yield name, "?", "pip found no release"
        for span in sorted(ranges.get(name, ())):
            if newest is not None and newest not in Requirement(f"{name}{span}").specifier:
                yield name, span, str(newest)
        tested: dict[tuple[int, ...], Version] = {}
        for version in sorted(pinned[name]):
            tested[_line(version)] = version
        found = {line: _newer(version, [r for r in releases if _line(r) == line]) for line, version in tested.items()}
        if tested and not any(version.epoch for version in tested.values()):
            last = max(tested)
            found[last] = _newer(tested[last], releases)
        for line, newer in found.items():
            if newer is not None:
                yield name, str(tested[line]), str(newer)


def _line(version: Version) -> tuple[int, ...]:
    """What stays when a release is brought up to date. An epoch is used for builds of one and the same release."""
    return version.release if version.epoch else version.release[:1]


def _newer(version: Version, releases: Iterable[Version]) -> Version | None:
    usable = [each for each in releases if version.is_prerelease or not each.is_prerelease]
    newest = max(usable, default=version)
    return newest if newest > version else None


def _available(name: str) -> list[Version]:
    command = [sys.executable, "-m", "pip", "index", "versions", "--pre", "--disable-pip-version-check", name]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False).stdout
    except subprocess.TimeoutExpired:
        return []
    found = re.search(r"^Available versions: (.+)$", said, re.MULTILINE)
    return [Version(each) for each in found[1].split(", ")] if found is not None else []


def main() -> None:
    """Print what has a newer release."""
    texts = [(_ROOT / name).read_text(encoding="utf-8") for name in ("tox.ini", "pyproject.toml")]
    required = [each for text in texts for each in requirements(text)]
    rows = list(behind(required, _available))
    for name, tested, newer in rows:
        print(f"{name:45} {tested:25} {newer}")
    print(f"of {len({each.name for each in required})} packages, {len(rows)} lines are behind")


if __name__ == "__main__":
    main()
