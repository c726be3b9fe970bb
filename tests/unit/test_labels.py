from __future__ import annotations

import pytest

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.labels import (
    LISTINGS,
    METHODS,
    OPEN_ENDED,
    OTHER,
    PROTOCOL_VERSIONS,
    TARGETS,
    Target,
)
from opentelemetry_instrumentation_mcp.metrics.store.bounds import BoundedTable, TargetNames


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "tools/call",
        "server/discover",
        "subscriptions/listen",
        "tasks/get",
        "notifications/message",
    ],
)
def test_methods_of_both_eras_are_in_the_closed_set(method: str) -> None:
    assert method in METHODS


@pytest.mark.parametrize("method", ["", "tools/Call", "tools/call ", "x/y", OTHER])
def test_what_is_not_a_method_of_the_protocol_is_not_in_the_closed_set(method: str) -> None:
    assert method not in METHODS


def test_methods_that_are_treated_specially_are_methods_of_the_protocol() -> None:
    assert OPEN_ENDED | TARGETS.keys() | LISTINGS.keys() <= METHODS


def test_every_published_revision_is_known() -> None:
    assert {"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} == PROTOCOL_VERSIONS


def test_a_target_is_named_after_the_attribute_that_shows_it() -> None:
    assert (Target.TOOL.value, Target.PROMPT.value) == (catalogue.TOOL, catalogue.PROMPT)


def test_each_target_is_called_by_one_method_and_listed_by_another() -> None:
    assert TARGETS == {"tools/call": Target.TOOL, "prompts/get": Target.PROMPT}
    assert LISTINGS == {"tools/list": (Target.TOOL, "tools"), "prompts/list": (Target.PROMPT, "prompts")}


def test_a_table_admits_values_up_to_its_limit() -> None:
    table = BoundedTable(2)
    assert [table.admit(value) for value in ("a", "b", "c")] == ["a", "b", OTHER]


def test_a_value_that_was_admitted_stays_when_the_table_is_full() -> None:
    table = BoundedTable(1)
    table.admit("a")
    table.admit("b")
    assert table.admit("a") == "a"


def test_a_value_that_comes_again_takes_no_second_place() -> None:
    table = BoundedTable(2)
    assert [table.admit(value) for value in ("a", "a", "a", "b")] == ["a", "a", "a", "b"]


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], {"a": 1}])
def test_what_is_no_string_is_never_admitted_and_takes_no_place(value: object) -> None:
    table = BoundedTable(1)
    assert table.admit(value) == OTHER
    assert table.admit("a") == "a"


def test_a_table_without_room_admits_nothing() -> None:
    assert BoundedTable(0).admit("a") == OTHER


def test_a_name_nobody_registered_or_proved_is_unknown() -> None:
    assert not TargetNames(10).has(Target.TOOL, "a")


def test_a_registered_name_is_known_and_may_be_registered_again() -> None:
    names = TargetNames(1)
    assert names.register(Target.TOOL, "a")
    assert names.register(Target.TOOL, "a")
    assert names.has(Target.TOOL, "a")


def test_a_tool_is_not_the_prompt_of_the_same_name() -> None:
    names = TargetNames(10)
    names.register(Target.TOOL, "a")
    names.prove(Target.PROMPT, "b")
    assert not names.has(Target.PROMPT, "a")
    assert not names.has(Target.TOOL, "b")


def test_tools_and_prompts_share_one_limit() -> None:
    names = TargetNames(2)
    assert names.register(Target.TOOL, "a")
    assert names.register(Target.PROMPT, "a")
    assert not names.register(Target.TOOL, "b")
    assert not names.has(Target.TOOL, "b")


def test_a_name_that_was_proved_is_known_and_may_be_proved_again() -> None:
    names = TargetNames(10, unregistered_limit=1)
    assert names.prove(Target.TOOL, "a")
    assert names.prove(Target.TOOL, "a")
    assert names.has(Target.TOOL, "a")


def test_at_most_twenty_names_are_admitted_by_working() -> None:
    names = TargetNames(100)
    assert [names.prove(Target.TOOL, f"t{number}") for number in range(25)] == [True] * 20 + [False] * 5
    assert not names.has(Target.TOOL, "t20")


def test_a_name_cannot_be_proved_into_a_full_table() -> None:
    names = TargetNames(2)
    names.register(Target.TOOL, "a")
    names.register(Target.TOOL, "b")
    assert not names.prove(Target.TOOL, "c")
    assert names.has(Target.TOOL, "a")
    assert names.has(Target.TOOL, "b")


def test_a_registered_name_takes_the_place_of_a_proved_one_when_the_table_is_full() -> None:
    names = TargetNames(2)
    names.prove(Target.TOOL, "a")
    names.prove(Target.TOOL, "b")
    assert names.register(Target.TOOL, "c")
    assert names.has(Target.TOOL, "c")
    assert [names.has(Target.TOOL, name) for name in "ab"].count(True) == 1


def test_registered_names_displace_every_proved_one_and_then_no_more() -> None:
    names = TargetNames(2)
    names.prove(Target.TOOL, "a")
    names.prove(Target.TOOL, "b")
    assert [names.register(Target.TOOL, name) for name in "cde"] == [True, True, False]
    assert [name for name in "abcde" if names.has(Target.TOOL, name)] == ["c", "d"]


def test_a_registered_name_displaces_nobody_while_there_is_room() -> None:
    names = TargetNames(3)
    names.prove(Target.TOOL, "a")
    names.register(Target.TOOL, "b")
    names.register(Target.TOOL, "c")
    assert names.has(Target.TOOL, "a")


def test_a_proved_name_that_is_registered_later_gives_its_place_among_the_proved_back() -> None:
    names = TargetNames(10, unregistered_limit=1)
    names.prove(Target.TOOL, "a")
    names.register(Target.TOOL, "a")
    assert names.prove(Target.TOOL, "b")
    assert names.has(Target.TOOL, "a")


def test_a_proved_name_that_is_registered_in_a_full_table_displaces_nobody() -> None:
    names = TargetNames(2)
    names.prove(Target.TOOL, "a")
    names.prove(Target.TOOL, "b")
    assert names.register(Target.TOOL, "a")
    assert names.has(Target.TOOL, "b")


def test_a_table_of_no_names_admits_none_either_way() -> None:
    names = TargetNames(0)
    assert not names.register(Target.TOOL, "a")
    assert not names.prove(Target.TOOL, "a")
    assert not names.has(Target.TOOL, "a")


def test_a_name_of_our_own_takes_the_place_of_one_that_a_peer_listed() -> None:
    names = TargetNames(2)
    assert [names.register(Target.TOOL, name, by_peer=True) for name in "abc"] == [True, True, False]
    assert [names.register(Target.TOOL, name) for name in "def"] == [True, True, False]
    assert [name for name in "abcdef" if names.has(Target.TOOL, name)] == ["d", "e"]


def test_what_a_peer_lists_displaces_what_nobody_lists_and_nothing_of_our_own() -> None:
    names = TargetNames(3)
    names.register(Target.TOOL, "own")
    names.prove(Target.TOOL, "a")
    names.prove(Target.TOOL, "b")
    assert [names.register(Target.TOOL, name, by_peer=True) for name in "cde"] == [True, True, False]
    assert not names.prove(Target.TOOL, "f")
    assert [name for name in ("own", *"abcdef") if names.has(Target.TOOL, name)] == ["own", "c", "d"]


def test_a_name_that_a_peer_listed_and_we_have_counts_once() -> None:
    names = TargetNames(2)
    assert names.register(Target.TOOL, "a", by_peer=True)
    assert names.register(Target.TOOL, "a")
    assert names.register(Target.TOOL, "b", by_peer=True)
    assert names.has(Target.TOOL, "a")
    assert names.has(Target.TOOL, "b")


@pytest.mark.parametrize("value", ["x" * 257, "two\nlines", "\x00", "\ud800", "\u202e"], ids=ascii)
def test_what_is_no_name_is_not_admitted(value: str) -> None:
    names = TargetNames(10)
    assert BoundedTable(10).admit(value) == OTHER
    assert not names.register(Target.TOOL, value)
    assert not names.prove(Target.TOOL, value)
    assert not names.has(Target.TOOL, value)


@pytest.mark.parametrize("value", ["x" * 256, "a name", "名前", "weather/today.v2", ""])
def test_a_name_may_be_in_any_script(value: str) -> None:
    assert BoundedTable(10).admit(value) == value
    assert TargetNames(10).register(Target.TOOL, value)
