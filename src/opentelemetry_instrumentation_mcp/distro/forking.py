"""A forked child starts from zero: its parent reports what it counted before the fork.

The SDK renews some locks of a provider after a fork and keeps its sums, so that under gunicorn's ``--preload`` every
worker would repeat what happened before it was there. This is done for the provider that the distro has set up; what
an application makes of its own is its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from ..core.fail_open import guard

_consumers: weakref.WeakSet[Any] = weakref.WeakSet()


def begin_at_zero_in_children(provider: Any) -> None:
    """Let what is measured on this SDK provider begin at zero in every process that is forked from now on."""
    consumer = getattr(provider, "_measurement_consumer", None)
    if consumer is not None:
        _consumers.add(consumer)


def _begin_at_zero(consumer: Any) -> None:
    """Empty what the SDK keeps for each reader; the locks may be held by threads that are not there any more."""
    consumer._lock = threading.Lock()
    for storage in consumer._reader_storages.values():
        storage._lock = threading.RLock()
        # By instrument; filled again as it is used, like that of a new reader.
        storage._instrument_view_instrument_matches = {}


def _forked() -> None:
    for consumer in tuple(_consumers):
        with guard("a forked process repeats the sums of its parent"):
            _begin_at_zero(consumer)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
