"""The bytes of a message, taken where they already are, and the request they belong to.

The SDK serialises the very object that was handed to the transport, and hands on the very object it has parsed. So the
join is by identity: an outgoing message waits here from its write until a transport serialises it, an incoming one from
its parsing until the session takes it. Nothing is kept alive for that. Where a message was dropped on the way, its
place may come to be another's; an outgoing one is told by its JSON-RPC id as well, and an incoming one has a new entry
from its own parsing. Nothing is serialised for a measure; text that is not ASCII is encoded once, since its length in
bytes stands nowhere.
"""

from __future__ import annotations

import functools
import sys
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ..core.fail_open import report
from ..metrics.events import Answered, Request
from ..patching.patches import names_in
from .lifecycle import Lifecycle
from .outbound import USE

if TYPE_CHECKING:
    from .state import ModulePatch, State


MOST_WAITING: Final = 10_000
"""So many messages may wait in each direction; of more, those that have waited longest are given up."""


_AT_ONCE: Final = 100


class Sizes:
    """Messages between two sights of them, by identity.

    Attributes:
        outgoing: The requests that messages on their way to a transport are, or answer; of one whose answer ended it,
            its id and those it was counted with.
        incoming: The bytes of messages that were parsed.
    """

    __slots__ = ("incoming", "outgoing")

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.outgoing: dict[int, Request | tuple[Any, Answered]] = {}
        self.incoming: dict[int, int] = {}
        lifecycle.at_fork(self.clear)
        lifecycle.at_end(self.clear)

    def expect(self, message: Any, request: Request | tuple[Any, Answered]) -> None:
        """A message goes to a transport that will serialise it: a request, or the response to one.

        Args:
            message: The object that will be serialised.
            request: Has the message's JSON-RPC id; or that id, and what the request was counted with.
        """
        self.outgoing[id(message)] = request
        if len(self.outgoing) > MOST_WAITING:
            self.give_up()

    def serialised(self, message: Any, size: int) -> None:
        """A transport has made ``size`` bytes of a message; another time is a replay."""
        expected = self.outgoing.pop(id(message), None)
        if expected is None:
            return
        root = unwrapped(message)
        # A notification has none: it may have the place of a message that was dropped.
        message_id = root.__dict__.get("id")
        if not isinstance(expected, Request):
            request_id, answered = expected
            if request_id == message_id:
                answered.measure_response(size)
        elif expected.id == message_id:
            expected.measured(size, response=type(root).__name__ != "JSONRPCRequest")

    def take(self, message: Any, metadata: Any) -> int:
        """The bytes of a message that has arrived; -1 if there are none or they are not known."""
        # In any case: what stays would be another's, some day.
        size = self.incoming.pop(id(message), -1)
        if metadata is not None:
            # A streamable HTTP server parses in two steps; the body is still with the request it came in.
            body = getattr(getattr(metadata, "request_context", None), "_body", None)
            if body is not None:
                return len(body)
        return size

    def give_up(self) -> None:
        """Forget what has waited longest: dropped on the way, or parsed by the application for itself.

        A little at a time: this is on an event loop.
        """
        for table in (self.outgoing, self.incoming):
            if len(table) > MOST_WAITING:
                for key in tuple(islice(table, _AT_ONCE)):
                    table.pop(key, None)

    def clear(self) -> None:
        """Nothing waits."""
        self.outgoing.clear()
        self.incoming.clear()


def patches(state: State, sizes: Sizes) -> tuple[ModulePatch, ...]:
    """What is patched, and in which modules."""
    return (
        ("mcp.types", functools.partial(_patch_v1, state, sizes)),
        ("mcp_types.jsonrpc", functools.partial(_patch_v2, state, sizes)),
    )


def unwrapped(message: Any) -> Any:
    """The request, notification or response in a ``JSONRPCMessage`` of 1.x; in 2.x a message is itself.

    Asked for an attribute that it does not have a pydantic model takes more time than all else that is done here.
    """
    return message.root if type(message).__name__ == "JSONRPCMessage" else message


def wire_size(text: str | bytes | bytearray) -> int:
    """The bytes of a message without its line ending."""
    if isinstance(text, str):
        size = len(text) if text.isascii() else len(text.encode())
        return size if text[-1:] != "\n" else size - (2 if text[-2:] == "\r\n" else 1)
    size = len(text)
    return size if text[-1:] != b"\n" else size - (2 if text[-2:] == b"\r\n" else 1)


# What follows runs for every message.


def _measured(sizes: Sizes, original: Any) -> Any:
    """Wrap a ``model_dump_json``."""

    @functools.wraps(original)
    def model_dump_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        text: Any = original(self, *args, **kwargs)
        if id(self) in sizes.outgoing:
            try:
                sizes.serialised(self, wire_size(text))
            except Exception as error:
                report("sizes.serialised", error)
        return text

    return model_dump_json


_DUMP: Final = frozenset({"__pydantic_serializer__", "to_json", "decode"})
_VALIDATE: Final = frozenset({"PydanticUserError", "validator", "validate_json"})
_VALIDATE_V1: Final = frozenset({"PydanticUserError", "__pydantic_validator__", "validate_json"})
"""All that pydantic's ``BaseModel.model_dump_json``, ``TypeAdapter.validate_json`` and
``BaseModel.model_validate_json`` use."""


def _dump(sizes: Sizes, model: Any, original: Any) -> Any:
    """Take the place of pydantic's ``model_dump_json``, which hands its arguments on to the serializer of the model.

    The serializer makes bytes, so that their number is at hand; and done here it takes less time than before.
    """
    serializer: Any = getattr(model, "__pydantic_serializer__", None)
    # Before pydantic 2.11 there is another default, which is not None.
    defaults: dict[str, Any] = getattr(original, "__kwdefaults__", None) or {}
    has_known_defaults = defaults.get("by_alias", ...) is None
    if names_in(original) != _DUMP or type(serializer).__name__ != "SchemaSerializer" or not has_known_defaults:
        return _measured(sizes, original)
    to_json = serializer.to_json
    pop = sizes.outgoing.pop
    # 1.x has a model around all of them.
    is_wrapped = model.__name__ == "JSONRPCMessage"
    request_class = getattr(sys.modules[model.__module__], "JSONRPCRequest", None)

    @functools.wraps(original)
    def model_dump_json(self: Any, *args: Any, **kwargs: Any) -> Any:
        expected = pop(id(self), None)
        data: Any = None
        if len(kwargs) == 2 and "by_alias" in kwargs and type(self) is model and not args:
            # As the SDK calls it, 2.x with the one and 1.x with the other.
            if "exclude_unset" in kwargs:
                data = to_json(self, by_alias=kwargs["by_alias"], exclude_unset=kwargs["exclude_unset"])
            elif "exclude_none" in kwargs:
                data = to_json(self, by_alias=kwargs["by_alias"], exclude_none=kwargs["exclude_none"])
        text: Any = original(self, *args, **kwargs) if data is None else data.decode()
        if expected is not None:
            try:
                root = self.__dict__["root"] if is_wrapped else self
                size = wire_size(text) if data is None else len(data)
                if not isinstance(expected, tuple):
                    if expected.id == root.__dict__["id"]:
                        expected.measured(size, response=type(root) is not request_class)
                elif expected[0] == root.__dict__["id"]:
                    expected[1].measure_response(size)
            except Exception as error:
                report("sizes.dump", error)
        return text

    return model_dump_json


def _validate(state: State, sizes: Sizes, type_adapter: Any, original: Any) -> Any:
    """Take the place of pydantic's ``TypeAdapter.validate_json``, which hands its arguments on to the validator."""
    validator: Any = getattr(type_adapter, "validator", None)
    is_known = names_in(original) == _VALIDATE and type(validator).__name__ == "SchemaValidator"
    parse = validator.validate_json if is_known else original
    incoming = sizes.incoming

    @functools.wraps(original)
    def validate_json(*args: Any, **kwargs: Any) -> Any:
        try:
            # As the SDK calls it. Handing the keywords on one by one is cheaper than as a dictionary.
            if "by_name" in kwargs and len(kwargs) == 1 == len(args):
                parsed = parse(args[0], by_name=kwargs["by_name"])
            else:
                parsed = original(*args, **kwargs)
        except Exception as error:
            _unparsable(state, error)
            raise
        if state.recorder is None:
            return parsed
        try:
            data = args[0] if args else kwargs["data"]
            if type(data) is str and data.isascii():
                # As wire_size() has it, without the call.
                size = len(data)
                if data[-1:] == "\n":
                    size -= 2 if data[-2:-1] == "\r" else 1
                incoming[id(parsed)] = size
            elif type(data) is bytes and data[-1:] != b"\n":
                incoming[id(parsed)] = len(data)
            else:
                incoming[id(parsed)] = wire_size(data)
            if len(incoming) > MOST_WAITING:
                sizes.give_up()
        except Exception as error:
            report("sizes.validate", error)
        return parsed

    return validate_json


def _unparsable(state: State, error: Exception) -> None:
    use = USE.get()
    if use is not None and state.recorder is not None:
        # The SDK answers the waiting request itself; elsewhere the error arrives on the read stream.
        use.unparsable(error)


def _patch_v1(state: State, sizes: Sizes, module: ModuleType) -> None:
    message = getattr(module, "JSONRPCMessage", None)
    if not isinstance(message, type):  # 2.x keeps a module of this name with other contents.
        return
    state.patches.replace(
        message, "model_validate_json", lambda original: _validate_v1(state, sizes, message, original)
    )
    _patch_model(state, sizes, message)


def _validate_v1(state: State, sizes: Sizes, model: Any, original: Any) -> Any:
    """Likewise for the class method ``model_validate_json`` of 1.x."""
    validator: Any = getattr(model, "__pydantic_validator__", None)
    is_known = names_in(original) == _VALIDATE_V1 and type(validator).__name__ == "SchemaValidator"
    parse = validator.validate_json if is_known else None
    incoming = sizes.incoming

    @functools.wraps(original.__func__)
    def model_validate_json(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if parse is None or len(args) != 1 or kwargs or cls is not model:
            parsed = original.__func__(cls, *args, **kwargs)
        else:
            parsed = parse(*args)
        if state.recorder is not None:
            try:
                json_data = args[0] if args else kwargs["json_data"]
                if type(json_data) is str and json_data.isascii() and json_data[-1:] != "\n":
                    incoming[id(parsed)] = len(json_data)
                else:
                    incoming[id(parsed)] = wire_size(json_data)
                if len(incoming) > MOST_WAITING:
                    sizes.give_up()
            except Exception as error:
                report("sizes.parsed", error)
        return parsed

    return classmethod(model_validate_json)


def _patch_v2(state: State, sizes: Sizes, module: ModuleType) -> None:
    for name in ("JSONRPCRequest", "JSONRPCResponse", "JSONRPCError"):
        _patch_model(state, sizes, getattr(module, name))
    # On the one ``TypeAdapter`` that everybody imports by value.
    type_adapter = module.jsonrpc_message_adapter
    state.patches.replace(
        type_adapter, "validate_json", lambda original: _validate(state, sizes, type_adapter, original)
    )


def _patch_model(state: State, sizes: Sizes, model: Any) -> None:
    state.patches.replace(model, "model_dump_json", lambda original: _dump(sizes, model, original))
