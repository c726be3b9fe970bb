"""When a process needs a page: at its first measurement, or its first observable instrument of another library.

Every Python process that starts under the launcher gets an SDK, a server's supervisor and the helpers of
``multiprocessing`` included. Only a process that measures something needs a page. Measurements and instruments pass the
SDK's consumer of measurements, which is watched until the first one and restored then: later ones cost nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from .origin import is_helper

# The recorder's scope is called like the package. It is not imported for that: most processes have no use for it.
_OWN_SCOPE: Final = __name__.partition(".")[0]

_MEASURE: Final = "consume_measurement"
_REGISTER: Final = "register_asynchronous_instrument"


def consumer_of(collect: Callable[..., Any]) -> Any:
    """The SDK's consumer behind the callback that a reader collects with; None if this SDK has another shape."""
    consumer = getattr(collect, "__self__", None)
    return consumer if all(callable(getattr(consumer, name, None)) for name in (_MEASURE, _REGISTER)) else None


def watch(consumer: Any, wake: Callable[[], None]) -> None:
    """Call ``wake`` once, at the first sign of life; it has to be quick and must not raise.

    Observable instruments of this package are no sign: they are there whether MCP is used or not. One of another
    library is a sign at once, since it is not read before there is a page; but not in a helper process of
    ``multiprocessing``, in which other instrumentations load as well.
    """
    measure, register = getattr(consumer, _MEASURE), getattr(consumer, _REGISTER)

    def awake() -> None:
        for name in (_MEASURE, _REGISTER):
            cast("dict[str, Any]", vars(consumer)).pop(name, None)
        wake()

    def measured(measurement: Any) -> None:
        awake()
        measure(measurement)

    def registered(instrument: Any) -> None:
        register(instrument)
        if _scope(instrument) != _OWN_SCOPE and not is_helper():
            awake()

    setattr(consumer, _MEASURE, measured)
    setattr(consumer, _REGISTER, registered)


def _scope(instrument: Any) -> object:
    return getattr(getattr(instrument, "instrumentation_scope", None), "name", None)
