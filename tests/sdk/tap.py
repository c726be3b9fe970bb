"""``python -m tests.sdk.tap RECORD COMMAND...``: run a stdio server and record every line that crosses its pipes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import IO, Any


def relay(source: IO[bytes], target: IO[bytes], record: IO[str], lock: threading.Lock, to_server: bool) -> None:
    """Pass lines on from one pipe to another until it ends, and record each."""
    for line in source:
        with lock:
            record.write(json.dumps({"to_server": to_server, "line": line.decode(errors="replace")}) + "\n")
            record.flush()
        try:
            target.write(line)
            target.flush()
        except OSError:
            break
    try:
        target.close()
    except OSError:
        return


def main(path: str, *command: str) -> int:
    """Relay until the server is done."""
    lock = threading.Lock()
    with open(path, "a") as record, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        arguments: list[tuple[Any, ...]] = [
            (sys.stdin.buffer, server.stdin, record, lock, True),
            (server.stdout, sys.stdout.buffer, record, lock, False),
        ]
        threads = [threading.Thread(target=relay, args=each, daemon=True) for each in arguments]
        for thread in threads:
            thread.start()
        code = server.wait()
        threads[1].join(5)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
