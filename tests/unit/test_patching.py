from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Any, Protocol

import pytest

from opentelemetry_instrumentation_mcp.patching.patches import ABSENT, Patches


class _Base:
    def greet(self) -> str:
        return "hello"

    def part(self) -> str:
        return "bye"


class _Derived(_Base):
    def part(self) -> str:
        return "so long"


def _louder(original: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(original)
    def wrapper(*args: Any) -> str:
        return original(*args) + "!"

    return wrapper


@pytest.fixture
def module() -> Any:
    module: Any = ModuleType("sdk.transport")

    @asynccontextmanager
    async def connect(url: str) -> AsyncGenerator[str, None]:
        yield f"streams to {url}"

    def deprecated(function: Callable[..., Any], advice: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            assert advice
            return function(*args)

        return wrapper

    module.connect = connect
    module.old_connect = deprecated(connect, "use connect")
    module.plain = lambda: "plain"
    return module


def _wrapped(original: Any) -> Any:
    opened = asynccontextmanager(original)

    @functools.wraps(original)
    async def generator(*args: Any) -> AsyncGenerator[str, None]:
        async with opened(*args) as streams:
            yield f"watched {streams}"

    return generator


def _enter(connect: Callable[[str], AbstractAsyncContextManager[str]]) -> str:
    async def enter() -> str:
        async with connect("there") as streams:
            return streams

    return asyncio.run(enter())


def test_an_attribute_of_the_class_itself_is_replaced_and_put_back() -> None:
    before = dict(vars(_Derived))
    patches = Patches()
    patches.replace(_Derived, "part", _louder)
    assert _Derived().part() == "so long!"
    assert _Base().part() == "bye"
    patches.restore()
    assert dict(vars(_Derived)) == before


def test_an_inherited_attribute_is_replaced_on_the_heir_alone_and_leaves_nothing_there() -> None:
    before = dict(vars(_Derived))
    patches = Patches()
    patches.replace(_Derived, "greet", _louder)
    assert _Derived().greet() == "hello!"
    assert _Base().greet() == "hello"
    patches.restore()
    assert "greet" not in vars(_Derived)
    assert dict(vars(_Derived)) == before


def test_a_global_of_a_module_is_replaced_and_put_back(module: Any) -> None:
    original = module.plain
    patches = Patches()
    patches.replace(module, "plain", _louder)
    assert module.plain() == "plain!"
    patches.restore()
    assert module.plain is original


def test_what_was_replaced_twice_is_put_back_in_reverse_order() -> None:
    original = vars(_Base)["greet"]
    patches = Patches()
    patches.replace(_Base, "greet", _louder)
    patches.replace(_Base, "greet", _louder)
    assert _Base().greet() == "hello!!"
    patches.restore()
    assert vars(_Base)["greet"] is original


def test_putting_back_again_changes_nothing(module: Any) -> None:
    patches = Patches()
    patches.replace(module, "plain", _louder)
    patches.restore()
    theirs = module.plain = lambda: "theirs"
    patches.restore()
    assert module.plain is theirs


def test_somebodys_wrapper_around_ours_is_left_alone(module: Any) -> None:
    patches = Patches()
    patches.replace(module, "plain", _louder)
    theirs = module.plain = _louder(module.plain)
    patches.restore()
    assert module.plain is theirs
    assert module.plain() == "plain!!"


def test_the_other_patches_are_put_back_all_the_same(module: Any) -> None:
    patches = Patches()
    patches.replace(module, "plain", _louder)
    patches.replace(_Base, "greet", _louder)
    module.plain = _louder(module.plain)
    patches.restore()
    assert _Base().greet() == "hello"


def test_a_name_the_sdk_does_not_have_is_left_out(module: Any) -> None:
    patches = Patches()
    patches.replace(module, "moved", _louder)
    patches.restore()
    assert not hasattr(module, "moved")


def test_what_is_missing_is_told_in_one_line_and_once(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    patches.replace(module, "moved", _louder)
    patches.replace(_Base, "gone", _louder)
    patches.replace_generator(module, "vanished", _wrapped)
    patches.tell()
    patches.tell()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    message = record.getMessage()
    for name in ("sdk.transport.moved", f"{__name__}._Base.gone", "sdk.transport.vanished"):
        assert f" {name}" in message


def test_something_else_that_is_missing_later_is_told_then(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    patches.replace(module, "moved", _louder)
    patches.tell()
    patches.replace(module, "gone", _louder)
    patches.tell()
    assert "moved" not in caplog.records[-1].getMessage()
    assert "sdk.transport.gone" in caplog.records[-1].getMessage()


def test_what_two_patches_miss_is_told_by_the_first(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    for _ in range(2):
        patches.replace(module, "moved", _louder)
        patches.tell()
    assert len(caplog.records) == 1


def test_nothing_is_replaced_in_what_is_absent(caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    patches.replace(ABSENT, "run", _louder)
    patches.replace(ABSENT.inner, "run", _louder)
    patches.tell()
    patches.restore()
    # Whoever found the owner absent has noted it.
    assert not caplog.records


def test_what_only_a_protocol_says_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    class Runs(Protocol):
        def run(self) -> str: ...

    class Moved(Runs):
        pass

    patches = Patches()
    patches.replace(Moved, "run", _louder)
    patches.tell()
    assert "run" not in vars(Moved)
    assert "Moved.run" in caplog.messages[0]


def test_nothing_is_told_when_everything_was_found(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    patches.replace(module, "plain", _louder)
    patches.replace_generator(module, "connect", _wrapped)
    patches.tell()
    assert not caplog.records


def test_a_reference_taken_before_sees_the_wrapped_generator_and_the_original_afterwards(module: Any) -> None:
    by_value = module.connect
    patches = Patches()
    patches.replace_generator(module, "connect", _wrapped)
    assert _enter(by_value) == "watched streams to there"
    assert module.connect is by_value
    patches.restore()
    assert _enter(by_value) == "streams to there"


def test_the_generator_is_found_behind_a_deprecation(module: Any) -> None:
    patches = Patches()
    patches.replace_generator(module, "old_connect", _wrapped)
    assert _enter(module.old_connect) == "watched streams to there"
    patches.restore()
    assert _enter(module.old_connect) == "streams to there"


def test_a_generator_wrapped_twice_is_put_back_whole(module: Any) -> None:
    patches = Patches()
    patches.replace_generator(module, "connect", _wrapped)
    patches.replace_generator(module, "connect", _wrapped)
    assert _enter(module.connect) == "watched watched streams to there"
    patches.restore()
    assert _enter(module.connect) == "streams to there"


def test_somebodys_generator_around_ours_is_left_alone(module: Any) -> None:
    ours, theirs = Patches(), Patches()
    ours.replace_generator(module, "connect", _wrapped)
    theirs.replace_generator(module, "connect", _wrapped)
    ours.restore()
    assert _enter(module.connect) == "watched watched streams to there"


def test_a_function_that_is_no_context_manager_is_left_as_it_is(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    patches = Patches()
    patches.replace_generator(module, "plain", _wrapped)
    assert module.plain() == "plain"
    patches.tell()
    assert "sdk.transport.plain" in caplog.text


def test_a_closure_with_an_empty_cell_is_no_obstacle(module: Any) -> None:
    connect = module.connect

    # Cells are in the order of their names.
    def enter(url: str) -> Any:
        return absent if url == "never" else connect(url)

    module.enter = enter
    patches = Patches()
    patches.replace_generator(module, "enter", _wrapped)
    assert _enter(module.enter) == "watched streams to there"
    patches.restore()
    absent = None
