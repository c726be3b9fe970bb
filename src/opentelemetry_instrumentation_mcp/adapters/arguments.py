"""Arguments of calls that are passed on as they came: one is looked for, or another one is given in its place.

A release of the SDK may add a parameter. So every wrapper takes whatever it is called with, and what it wants to know
it looks for by place and by name; where that is not there the call goes through all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, default: Any = None) -> Any:
    """One argument of a call.

    Args:
        args: The positional arguments, without ``self``.
        kwargs: Those by name.
        place: Where it stands among the positional ones.
        name: What the parameter is called.
        default: Returned if it is not there.
    """
    return args[place] if place < len(args) else kwargs.get(name, default)


def replaced(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, value: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another value for one of them; as they are if it is not there.

    The first four parameters are those of :func:`argument`.
    """
    if place < len(args):
        return (*args[:place], value, *args[place + 1 :]), kwargs
    return args, {**kwargs, name: value} if name in kwargs else kwargs
