"""The parameters of a function that stands around, or in the place of, somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

ASGI: Final = ["scope", "receive", "send"]
"""The parameters of an ASGI application, which a specification fixes. It has them by name: uvicorn tells it from a
factory of applications by the TypeError of a call without arguments."""


def without_self(names: Sequence[str]) -> list[str]:
    """A function's parameters without the object or the class that it is a method of."""
    return list(names[1:] if names[:1] in (["self"], ["cls"]) else names)


def may_be_named(names: Sequence[str]) -> bool:
    """Whether a wrapper may have these parameters before ``*args, **kwargs``: none, or those of an ASGI application."""
    return without_self(names) in ([], ASGI)
