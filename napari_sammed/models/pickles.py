"""Reading the pickle inside a ``torch.save`` archive as data: nothing in it is imported, called or executed.

A pickle is a program for a small stack machine. The machine here knows the same instructions as Python's own, but
works on plain values only: where a pickle names a class or a function it gets a `Named`, where it calls one it gets
an `Inert` stand-in that remembers the name. Three calls mean something, and none of them runs foreign code: the
empty dictionary that a state dict is, the record of a tensor, and the parameter around a tensor. So training files
that carry optimisers, arguments or schedulers give their tensors, and hostile ones give nothing.

Limits on size and steps keep a small file from filling the memory; values that a pickle shares are shared here too,
and nothing walks through them, so that nesting cannot grow into work.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

SIZE_LIMIT = 16_000_000
"""Bytes of a pickle; that of ViT-H with its optimiser has less than one million, tensors not being in it."""
_STEP_LIMIT = 4_000_000
_MOST_AXES = 8

_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_DICTIONARIES = {("collections", "OrderedDict"), ("collections", "defaultdict")}
_TENSORS = {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}
_PARAMETERS = {("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state")}


class MalformedPickle(ValueError):
    """The bytes are no pickle that `read` can follow."""


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle refers to by name; only the name is kept."""

    module: str
    name: str


@dataclass(frozen=True)
class Inert:
    """What stands in for an object that a pickle would have made by calling something.

    Parameters
    ----------
    kind : str
        ``module.name`` of what would have been called; ``object`` if that is not a name.
    """

    kind: str


@dataclass(frozen=True)
class StorageRecord:
    """The piece of memory that holds the values of one or more tensors: a member ``data/<key>`` of the archive."""

    key: str
    dtype: str
    size: int  # values, not bytes


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as a pickle describes it: a view of a storage; offset and strides count values."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def fits(self) -> bool:
        """Whether it lies inside its storage and holds no value more often than that has it."""
        if len(self.shape) != len(self.stride) or len(self.shape) > _MOST_AXES:
            return False
        if 0 in self.shape:
            return True
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return last < self.storage.size and prod(self.shape) <= self.storage.size


def read(content: bytes) -> Any:
    """What a pickle describes, made of plain values and the records of this file.

    Parameters
    ----------
    content : bytes
        The pickle, protocol 0 to 5.

    Returns
    -------
    Any
        Numbers, texts, bytes, lists, tuples, dictionaries with plain keys, sets as `Inert`, and `Named`, `Inert`,
        `StorageRecord`, `TensorRecord`.

    Raises
    ------
    MalformedPickle
        If it is none, is cut short, or is larger than the limits.
    """
    if len(content) > SIZE_LIMIT:
        raise MalformedPickle(f"its table of contents has {len(content):,} bytes, more than any known model needs")
    machine = _Machine()
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if step > _STEP_LIMIT:
                raise MalformedPickle("its table of contents has more entries than any known model needs")
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.run(opcode.name, argument)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedPickle(str(error) or "its table of contents is incomplete") from error
    raise MalformedPickle("its table of contents is incomplete")


class _Machine:
    """Stack, memo and instructions of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Follow one instruction; `argument` is what stands behind it in the file."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _FRESH:
            self.stack.append(_FRESH[name]())
        elif name in _MEMORIZING:
            self._memo[len(self._memo) if argument is None else int(argument)] = self.stack[-1]
        elif name in _RECALLING:
            self.stack.append(self._memo[int(argument)])
        elif name not in _IGNORED:
            instruction = _INSTRUCTIONS.get(name)
            if instruction is None:
                raise MalformedPickle(f"its table of contents has the instruction {name}")
            instruction(self, argument)

    def take_since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise MalformedPickle("its table of contents takes more than it has")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    # ---- containers

    def mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(self.take(count)))

    def gather(self, make: Callable[[list[Any]], Any]) -> None:
        self.stack.append(make(self.take_since_mark()))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_pairs(items))

    def pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()  # POP directly after MARK takes the mark, as in Python's own machine
        else:
            self.stack.pop()

    def discard(self) -> None:
        self.take_since_mark()

    # ---- names and calls, none of which is looked up or made

    def named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(Named(module, name))

    def stack_named(self, _: Any) -> None:
        module, name = self.take(2)
        self.stack.append(Named(str(module), str(name)))

    def reduce(self, _: Any) -> None:
        function, arguments = self.take(2)
        self.stack.append(_stand_in(function, arguments))

    def new_object(self, count: int) -> None:
        self.stack.append(Inert(_kind(self.take(count)[0])))

    def old_object(self, _: Any) -> None:
        self.stack.append(Inert(_kind(self.take_since_mark()[0])))

    def inst(self, argument: str) -> None:
        self.take_since_mark()
        self.stack.append(Inert(argument.replace(" ", ".")))

    def build(self, _: Any) -> None:
        self.stack.pop()  # the state of an object; a state dict's is its version numbers

    def persistent(self, _: Any) -> None:
        self.stack.append(_storage(self.stack.pop()))


# fmt: off
_LITERALS = frozenset({
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})
# fmt: on
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: Inert("set"),
}
_MEMORIZING = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_RECALLING = frozenset({"GET", "BINGET", "LONG_BINGET"})
_IGNORED = frozenset({"PROTO", "FRAME"})
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.gather(tuple),
    "LIST": lambda machine, _: machine.gather(list),
    "DICT": lambda machine, _: machine.gather(_pairs),
    "FROZENSET": lambda machine, _: machine.gather(lambda _: Inert("frozenset")),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.take_since_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.take_since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.take_since_mark()),
    "POP": _Machine.pop,
    "POP_MARK": lambda machine, _: machine.discard(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_named,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": lambda machine, _: machine.new_object(2),
    "NEWOBJ_EX": lambda machine, _: machine.new_object(3),
    "OBJ": _Machine.old_object,
    "INST": _Machine.inst,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """A dictionary of keys and values in turn; keys of other kinds than a plain value are left out, since hashing
    a deeply shared tuple can take for ever."""
    return {
        key: value
        for key, value in zip(items[::2], items[1::2], strict=True)
        if isinstance(key, str | int | float | bytes) or key is None
    }


def _kind(value: Any) -> str:
    return f"{value.module}.{value.name}" if isinstance(value, Named) else "object"


def _stand_in(function: Any, arguments: Any) -> Any:
    """What a call would have made, if it is one of the few that mean something here."""
    called = (function.module, function.name) if isinstance(function, Named) else None
    if called in _DICTIONARIES:
        return {}
    if called in _TENSORS and isinstance(arguments, tuple) and len(arguments) >= 4:
        storage, offset, shape, stride = arguments[:4]
        if isinstance(storage, StorageRecord) and _counts((offset,)) and _counts(shape) and _counts(stride):
            return TensorRecord(storage, offset, shape, stride)
    if called in _PARAMETERS and isinstance(arguments, tuple) and arguments:
        return arguments[0] if isinstance(arguments[0], TensorRecord) else Inert(_kind(function))
    if called == ("torch", "Size") and isinstance(arguments, tuple) and len(arguments) == 1:
        return arguments[0]
    return Inert(_kind(function))


def _counts(values: Any) -> bool:
    """Whether this is a tuple of whole numbers that can count something."""
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)


def _storage(identity: Any) -> StorageRecord | Inert:
    """The storage that ``torch.save`` names by ('storage', type, key, device, size)."""
    if isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage":
        _, kind, key, _, size = identity
        dtype = _DTYPES.get(kind.name) if isinstance(kind, Named) else None
        if dtype is not None and isinstance(key, str) and _counts((size,)):
            return StorageRecord(key, dtype, size)
    return Inert("storage")
