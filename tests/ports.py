"""Ports for servers that a test starts: nobody else's a moment later, as far as that can be had."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from typing import Final

# Below those that the system hands out, on Linux and elsewhere: no client is given one between the look and the use.
_LOWEST: Final = 12_000
_COUNT: Final = 20_000


def _candidates() -> Iterator[int]:
    # Tests run in several processes at once; each begins somewhere else and comes to a port again after all others.
    first = os.getpid() * 7_919
    return (_LOWEST + (first + each) % _COUNT for each in itertools.count())


_ports: Final = _candidates()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    for port in itertools.islice(_ports, _COUNT):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")
