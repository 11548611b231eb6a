"""Boxes, prompts and grids as JSON; masks and other arrays go into the frame beside it.

Functions ``pack_...`` append the arrays to a list and put their number into the JSON; functions ``unpack_...`` take
both, check everything, and raise `ProtocolError` (or the value's own `InputError`) for what is not one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from napari_sammed.errors import InputError, ProtocolError
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import MaskPrompt, Prompt, Prompts, Stroke, prompt_from_json, prompt_to_json

T = TypeVar("T")
Arrays = Sequence[np.ndarray]

_FAR = 1 << 31  # no image reaches there
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


@dataclass(frozen=True)
class LogitsReference:
    """Which logits, kept at the server, are meant.

    Parameters
    ----------
    request : str
        Id of the question that they came with.
    answer : int
        Which of its answers, where boxes were asked about together.
    reading : int
        Which of the readings of that.
    """

    request: str
    answer: int = 0
    reading: int = 0

    def to_json(self) -> list[Any]:
        return [self.request, self.answer, self.reading]

    @classmethod
    def from_json(cls, item: Any) -> LogitsReference:
        """The inverse of `to_json`; ProtocolError for anything that is not one."""
        request, answer, reading = _list_of(item, 3, "reference to an earlier answer")
        return cls(check_request_id(request), whole(answer), whole(reading))


def checked(unpack: Callable[..., T]) -> Callable[..., T]:
    """What goes wrong in reading a value is a ProtocolError; InputError, which speaks of the value, gets through."""

    @wraps(unpack)
    def careful(item: Any, *rest: Any, **named: Any) -> T:
        try:
            return unpack(item, *rest, **named)
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
            what = unpack.__name__.removeprefix("unpack_").removesuffix("_from_json").replace("_", " ")
            raise ProtocolError(f"Not a {what}: {str(item)[:80]} ({type(error).__name__}).") from None

    return careful


def check_request_id(value: Any) -> str:
    """A request id: 16 to 64 letters, digits, hyphens and underscores, such as a UUID."""
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value):
        raise ProtocolError(f"Not an id of a request: {str(value)[:80]!r}.")
    return value


def whole(value: Any) -> int:
    """A whole number from 0 to 2**31 - 1."""
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ProtocolError(f"Not a whole number: {str(value)[:80]}.")
    return value


def text(value: Any, most: int = 1000) -> str:
    """A string of bounded length."""
    if not isinstance(value, str) or len(value) > most:
        raise ProtocolError(f"Not a text of at most {most} characters: {str(value)[:80]!r}.")
    return value


def box_to_json(box: Box | None) -> list[list[int]] | None:
    return None if box is None else [list(box.low), list(box.high)]


@checked
def box_from_json(item: Any) -> Box:
    low, high = _list_of(item, 2, "box")
    if not 2 <= len(low) <= 3 or any(type(i) is not int or abs(i) >= _FAR for i in (*low, *high)):
        raise ProtocolError(f"Not a box: {str(item)[:80]}.")
    return Box(tuple(low), tuple(high))


def pack_mask(mask: MaskPrompt, arrays: list[np.ndarray]) -> dict[str, Any]:
    arrays.append(mask.mask)
    return {"offset": list(mask.offset), "array": len(arrays) - 1}


@checked
def unpack_mask(item: Any, arrays: Arrays) -> MaskPrompt:
    offset = tuple(item["offset"])
    if any(type(i) is not int or abs(i) >= _FAR for i in offset):
        raise ProtocolError(f"Not an offset of a mask: {str(offset)[:80]}.")
    return MaskPrompt(array_at(item["array"], arrays), offset)


def pack_prompts(prompts: Prompts, arrays: list[np.ndarray]) -> list[dict[str, Any]]:
    """In the form of `Prompts.to_json`, except for masks and the vertices of strokes, which may be many."""
    return [_pack_prompt(prompt, arrays) for prompt in prompts]


@checked
def unpack_prompts(items: Any, arrays: Arrays) -> Prompts:
    if not isinstance(items, list):
        raise ProtocolError(f"Prompts are a list, not {str(items)[:80]}.")
    return Prompts(tuple(_unpack_prompt(item, arrays) for item in items))


def _pack_prompt(prompt: Prompt, arrays: list[np.ndarray]) -> dict[str, Any]:
    if isinstance(prompt, MaskPrompt):
        return {"kind": "mask", **pack_mask(prompt, arrays)}
    item = prompt_to_json(prompt)
    if isinstance(prompt, Stroke):
        arrays.append(np.array(item.pop("points"), float))
        item["array"] = len(arrays) - 1
    return item


def _unpack_prompt(item: Any, arrays: Arrays) -> Prompt:
    match item["kind"]:
        case "mask":
            return unpack_mask(item, arrays)
        case "stroke":
            points = array_at(item["array"], arrays)
            if points.ndim != 2 or points.dtype != float or not (np.abs(points) < _FAR).all():
                raise ProtocolError(f"Not the vertices of a stroke: {points.dtype} of {points.shape}.")
            return prompt_from_json({**item, "points": points.tolist()})
        case "box":
            return box_from_json([item["low"], item["high"]])
        case "point" if any(abs(i) >= _FAR for i in item["index"]):
            raise ProtocolError(f"Not a point: {str(item)[:80]}.")
    return prompt_from_json(item)


def grid_to_json(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "origin": list(grid.origin),
        "direction": [list(row) for row in grid.direction],
    }


@checked
def grid_from_json(item: Any) -> Grid:
    """A grid, to the last bit the one that was sent."""
    shape = tuple(whole(size) for size in item["shape"])
    if math.prod(shape) >= 1 << 40:
        raise ProtocolError(f"There is no image of shape {shape}.")
    direction = tuple(tuple(row) for row in item["direction"])
    return Grid(shape, tuple(item["spacing"]), tuple(item["origin"]), direction, mirrored=True)


def array_at(number: Any, arrays: Arrays) -> np.ndarray:
    """An array of a frame by its number."""
    if whole(number) >= len(arrays):
        raise ProtocolError(f"There is no array {number} in a frame of {len(arrays)}.")
    return arrays[number]


def _list_of(item: Any, count: int, what: str) -> list[Any]:
    if not isinstance(item, list) or len(item) != count:
        raise ProtocolError(f"Not a {what}: {str(item)[:80]}.")
    return item


def number_to_json(value: float) -> float | None:
    """A number, finite or not; JSON has no NaN."""
    value = float(value)
    return value if math.isfinite(value) else None


def number_from_json(value: Any) -> float:
    """The inverse of `number_to_json`."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ProtocolError(f"Not a number: {str(value)[:80]}.")
    return float(value)
