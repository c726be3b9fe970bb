"""``opentelemetry-mcp-dashboards``: lists, prints or writes the dashboards and rules of this package."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import shipped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the value is its exit status."""
    parser = argparse.ArgumentParser(
        prog="opentelemetry-mcp-dashboards",
        description="Grafana dashboards and Prometheus rules for MCP servers and clients.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the names of the files")
    show = commands.add_parser("show", help="print one file")
    show.add_argument("file", help="as `list` names it; the last part is enough")
    write = commands.add_parser("write", help="write all files into a directory")
    write.add_argument("directory", type=Path, help="made if it does not exist")
    write.add_argument("--force", action="store_true", help="replace files that have been changed")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            sys.stdout.write("".join(f"{name}\n" for name in shipped()))
        elif options.command == "show":
            sys.stdout.write(_find(options.file))
        else:
            _write(options.directory, force=options.force)
        sys.stdout.flush()
    except BrokenPipeError:  # | head
        # Python writes out what it still holds when it ends, and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (LookupError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error.args[0] if isinstance(error, LookupError) else error}\n")
        return 1
    return 0


def _find(name: str) -> str:
    every = shipped()
    found = [each for each in every if each == name or each.endswith(f"/{name}")]
    if len(found) != 1:
        raise LookupError(f"{name!r} is {'no file' if not found else 'more than one file'} of: {', '.join(every)}")
    return every[found[0]]


def _write(directory: Path, *, force: bool) -> None:
    every = shipped()
    changed = [
        name
        for name, text in every.items()
        if (directory / name).exists() and (directory / name).read_text(encoding="utf-8") != text
    ]
    # All or nothing: half of a new release and half of an old one are no release.
    if changed and not force:
        raise LookupError(f"changed in {directory}, --force replaces them: {', '.join(changed)}")
    for name, text in every.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
