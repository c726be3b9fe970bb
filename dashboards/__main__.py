"""``python -m dashboards`` writes the generated files into the package; ``--check`` only says which are out of date."""

from __future__ import annotations

import argparse
import sys

from .files import DIRECTORY, generated


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check: bool = parser.parse_args().check
    stale = [
        name
        for name, text in generated().items()
        if not (DIRECTORY / name).is_file() or (DIRECTORY / name).read_text(encoding="utf-8") != text
    ]
    for name in stale:
        if not check:
            (DIRECTORY / name).parent.mkdir(parents=True, exist_ok=True)
            (DIRECTORY / name).write_text(generated()[name], encoding="utf-8")
        sys.stderr.write(f"{name} {'is out of date' if check else 'written'}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
