"""The table of releases says what is true of the release that is installed."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest

from . import releases
from .generation import VERSION
from .releases import FEATURES, Feature

pytestmark = pytest.mark.every_release


def is_there(feature: Feature) -> bool:
    """Whether the SDK that is installed has it."""
    found = re.fullmatch(r"([\w.]+)(?::(\w+))?(?:\((\w+)\))?", feature.where)
    assert found is not None, feature.where
    module, name, parameter = found.groups()
    try:
        owner = import_module(module)
    except ImportError:
        return False
    if name is None:
        return True
    return hasattr(owner, name) and (
        parameter is None or parameter in inspect.signature(getattr(owner, name)).parameters
    )


@pytest.mark.parametrize("name", FEATURES)
def test_the_installed_release_has_what_the_table_says(name: str) -> None:
    assert FEATURES[name].is_in(VERSION) == is_there(FEATURES[name])


def test_the_table_goes_from_the_oldest_supported_release_to_the_newest_of_both_generations() -> None:
    versions = list(releases.tested().values())
    assert versions[0][:2] == (1, 12)
    assert {(1, 30, 0), (2, 3, 0)} <= set(versions)
    assert versions == sorted(set(versions))
