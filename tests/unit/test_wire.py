from __future__ import annotations

from types import MappingProxyType

import pytest

from opentelemetry_instrumentation_mcp.core.json_shapes import fields, items


def test_an_object_is_read_as_it_is() -> None:
    value = {"name": "a"}
    assert fields(value) is value


def test_any_mapping_is_an_object() -> None:
    assert fields(MappingProxyType({"name": "a"})).get("name") == "a"


@pytest.mark.parametrize("value", [None, 1, "name", ["name"], object()])
def test_what_is_no_object_has_no_fields(value: object) -> None:
    assert len(fields(value)) == 0
    assert fields(value).get("name") is None


def test_an_array_is_read_as_it_is() -> None:
    value = [1, {"name": "a"}]
    assert items(value) is value


@pytest.mark.parametrize("value", [None, 1, "ab", {"a": 1}, object()])
def test_what_is_no_array_has_no_items(value: object) -> None:
    assert items(value) == []
