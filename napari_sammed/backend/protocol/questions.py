"""What is asked of a server about an image: one call of a backend, with all its arguments."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_sammed.backend.protocol import values
from napari_sammed.backend.protocol.frames import Frame
from napari_sammed.backend.protocol.values import Arrays, LogitsReference
from napari_sammed.errors import ProtocolError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window

Pack = Callable[[Any, list[np.ndarray]], Any]
Unpack = Callable[[Any, Arrays], Any]


def _list(unpack: Unpack) -> Unpack:
    def several(items: Any, arrays: Arrays) -> list[Any]:
        if not isinstance(items, list):
            raise ProtocolError(f"Not a list: {str(items)[:80]}.")
        return [unpack(item, arrays) for item in items]

    return several


def _box(item: Any, arrays: Arrays) -> Box:
    return values.box_from_json(item)


def _box_or_none(item: Any, arrays: Arrays) -> Box | None:
    return None if item is None else values.box_from_json(item)


_ARGUMENTS: dict[str, tuple[Pack, Unpack]] = {  # None is left out; only `regions` has it inside
    "prompts": (values.pack_prompts, values.unpack_prompts),
    "window": (lambda window, _: window.to_json(), lambda item, _: values.checked(Window.from_json)(item)),
    "region": (lambda box, _: values.box_to_json(box), _box),
    "boxes": (lambda boxes, _: [values.box_to_json(box) for box in boxes], _list(_box)),
    "regions": (lambda boxes, _: [values.box_to_json(box) for box in boxes], _list(_box_or_none)),
    "anchors": (lambda masks, arrays: [values.pack_mask(m, arrays) for m in masks], _list(values.unpack_mask)),
    "axis": (lambda axis, _: int(axis), lambda item, _: values.whole(item)),
    "within": (lambda box, _: values.box_to_json(box), _box),
    "only": (lambda numbers, _: [int(n) for n in numbers], _list(lambda item, _: values.whole(item))),
    "coarse": (values.pack_mask, values.unpack_mask),
}

KINDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "predict": (frozenset({"prompts"}), frozenset({"window", "region"})),
    "predict_boxes": (frozenset({"boxes"}), frozenset({"window", "regions"})),
    "automatic": (frozenset(), frozenset({"window", "region"})),
    "propagate": (frozenset({"anchors", "axis"}), frozenset({"window", "within", "only"})),
    "refine": (frozenset({"region"}), frozenset({"coarse", "prompts", "axis", "window"})),
}
"""Methods of a `napari_sammed.backend.base.Backend`: the arguments that a question has to have, and those that it may.
Image, progress, cancel, stop, partial and idle are not among them: they are said by how the question is put."""

STARTS_FROM_LOGITS = ("predict",)
"""Kinds that may have a `previous`."""


def new_request_id() -> str:
    """A random id for a question."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Question:
    """One call of a backend.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    model : str
        Registry name.
    arguments : dict
        By name, as the backend's method takes them; without those that are None.
    request_id : str
        Under which the answer counts once, however often the question arrives.
    revision : int or None
        Of the session, as the one who asks knows it; the server refuses the question if it is at another.
    previous : LogitsReference or None
        Logits that the answer starts from.
    base : str or None
        Id of a request whose (first) answer the other side still has, so that only the difference is sent.
    """

    kind: str
    model: str
    arguments: dict[str, Any]
    request_id: str = field(default_factory=new_request_id)
    revision: int | None = None
    previous: LogitsReference | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", {k: v for k, v in self.arguments.items() if v is not None})

    def at(self, revision: int | None, base: str | None = None) -> Question:
        """The same question, put to a session at another revision."""
        return replace(self, revision=revision, base=base)

    def to_frame(self) -> Frame:
        arrays: list[np.ndarray] = []
        packed = {name: _ARGUMENTS[name][0](value, arrays) for name, value in self.arguments.items()}
        header = {"kind": self.kind, "model": self.model, "request_id": self.request_id, "arguments": packed}
        rest = {
            "revision": self.revision,
            "previous": None if self.previous is None else self.previous.to_json(),
            "base": self.base,
        }
        return Frame(header | {key: value for key, value in rest.items() if value is not None}, tuple(arrays))

    @classmethod
    def from_frame(cls, frame: Frame) -> Question:
        """The inverse of `to_frame`.

        Raises
        ------
        ProtocolError
            For what is no question: an unknown kind, arguments that it does not have or that are missing.
        InputError
            For values that cannot be: an empty box, prompts of several dimensions.
        """
        header = frame.header
        kind, packed = values.text(header.get("kind")), header.get("arguments")
        if kind not in KINDS:
            raise ProtocolError(f"There is no kind of question {kind!r}: choose one of {', '.join(KINDS)}.")
        required, optional = KINDS[kind]
        if not isinstance(packed, dict) or not required <= packed.keys() <= required | optional:
            raise ProtocolError(f"{kind} takes {', '.join(sorted(required | optional))}, not {str(packed)[:80]}.")
        arguments = {name: _ARGUMENTS[name][1](item, frame.arrays) for name, item in packed.items()}
        if arguments.get("regions") and len(arguments["regions"]) != len(arguments["boxes"]):
            raise ProtocolError(f"{len(arguments['regions'])} regions do not fit {len(arguments['boxes'])} boxes.")
        previous = header.get("previous")
        if previous is not None and kind not in STARTS_FROM_LOGITS:
            raise ProtocolError(f"{kind} starts from no earlier answer.")
        revision, base = header.get("revision"), header.get("base")
        return cls(
            kind,
            values.text(header.get("model"), 100),
            arguments,
            values.check_request_id(header.get("request_id")),
            None if revision is None else values.whole(revision),
            None if previous is None else LogitsReference.from_json(previous),
            None if base is None else values.check_request_id(base),
        )
