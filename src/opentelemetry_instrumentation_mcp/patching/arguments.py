"""Finds or replaces one argument of a call that is passed on unchanged otherwise.

A release of the SDK may add a parameter, or move one. So every wrapper takes any arguments, and finds the one that it
needs by name and place. A call without this argument goes through all the same.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..core.fail_open import report

_NOWHERE: Final = sys.maxsize

_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Parameter:
    """One parameter of a function that is wrapped. Nothing here raises.

    Args:
        original: The function.
        name: What the parameter is called.
        usual: Where it stands among the positional ones, ``self`` left out, should the function not say so; -1 for the
            last one.
    """

    __slots__ = ("_name", "_place")

    def __init__(self, original: Any, name: str, usual: int) -> None:
        self._name = name
        self._place = _place(original, name, usual)

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Its argument in a call; None if it is not there. ``self`` is no part of the arguments."""
        try:
            place = self._place
            return args[place] if place < len(args) else kwargs.get(self._name)
        except Exception as error:
            report("Parameter.of", error)
            return None

    def is_given(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a call has this argument."""
        try:
            return self._place < len(args) or self._name in kwargs
        except Exception as error:
            report("Parameter.is_given", error)
            return True

    def put(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> _Arguments:
        """The arguments with another value for it; as they are if it is not there."""
        try:
            place = self._place
            if place < len(args):
                return (*args[:place], value, *args[place + 1 :]), kwargs
            return args, {**kwargs, self._name: value} if self._name in kwargs else kwargs
        except Exception as error:
            report("Parameter.put", error)
            return args, kwargs

    def change(self, args: tuple[Any, ...], kwargs: dict[str, Any], make: Callable[[Any], Any]) -> _Arguments:
        """The arguments with the value that ``make`` returns in its place; unchanged if that is None.

        ``make`` contains itself.
        """
        try:
            value = self.of(args, kwargs)
            changed = make(value) if value is not None else None
            return (args, kwargs) if changed is None else self.put(args, kwargs, changed)
        except Exception as error:
            report("Parameter.change", error)
            return args, kwargs


def _place(original: Any, name: str, usual: int) -> int:
    try:
        parameters = [
            each.name
            for each in inspect.signature(original).parameters.values()
            if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        ]
    except Exception:
        # It has no signature, a function of C for instance.
        return usual if usual >= 0 else _NOWHERE
    if parameters[:1] in (["self"], ["cls"]):
        del parameters[0]
    if name in parameters:
        return parameters.index(name)
    return usual if usual >= 0 else len(parameters) - 1 if parameters else _NOWHERE
