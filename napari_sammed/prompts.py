"""What a user says about an object: points, boxes, strokes and masks, and the immutable ordered collection of them.

All in index coordinates of the image array (`napari_sammed.geometry`). A flat image has 2D prompts, a volume 3D ones;
a box, stroke or mask drawn on one slice of a volume is one voxel thick along the axis across that slice.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.strokes import Stroke, coordinates

__all__ = ["Box", "MaskPrompt", "Point", "Prompt", "Prompts", "Stroke"]


@dataclass(frozen=True)
class Point:
    """A click: this voxel belongs to the object (positive) or does not.

    Parameters
    ----------
    index : tuple of float
        Index coordinates; a fraction places the click between voxel centres.
    positive : bool
    """

    index: tuple[float, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", coordinates(self.index, "point"))

    @property
    def ndim(self) -> int:
        return len(self.index)

    @property
    def extent(self) -> Box:
        return Box.around(np.array(self.index))


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A coarse mask handed over: the object looks about like this.

    Parameters
    ----------
    mask : ndarray of bool
        At least one true voxel; cropped to its tight box and made read-only.
    offset : tuple of int
        Index of the mask array's first voxel in the image.
    """

    mask: np.ndarray
    offset: tuple[int, ...]

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype != bool:
            raise InputError(f"A mask prompt is a boolean array, not {mask.dtype}: compare with the label first.")
        if len(self.offset) != mask.ndim:
            raise InputError(f"A mask of {mask.ndim} axes needs as many offsets, not {self.offset}.")
        tight = Box.of_mask(mask)
        if tight is None:
            raise InputError("The mask prompt is empty: it needs at least one voxel.")
        cropped = mask[tight.slices].copy()
        cropped.setflags(write=False)
        object.__setattr__(self, "mask", cropped)
        object.__setattr__(self, "offset", tuple(int(o) + lo for o, lo in zip(self.offset, tight.low, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskPrompt) and self.offset == other.offset and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.offset, self.mask.shape, self.mask.tobytes()))

    @property
    def ndim(self) -> int:
        return self.mask.ndim

    @property
    def extent(self) -> Box:
        return Box.of_shape(self.mask.shape).shift(self.offset)


_MOST_VOXELS = 1 << 40

Prompt: TypeAlias = Point | Box | Stroke | MaskPrompt


@dataclass(frozen=True)
class Prompts:
    """Everything said about one object so far, in order; immutable.

    Parameters
    ----------
    items : tuple of Point, Box, Stroke or MaskPrompt
        All of the same dimension.
    """

    items: tuple[Prompt, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        if len({item.ndim for item in self.items}) > 1:
            raise InputError("The prompts of an object must all be 2D or all be 3D.")

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def add(self, prompt: Prompt) -> Prompts:
        """These prompts and one more."""
        return Prompts((*self.items, prompt))

    def of(self, kind: type) -> tuple[Any, ...]:
        """The prompts of one kind, in order."""
        return tuple(item for item in self.items if isinstance(item, kind))

    def points(self, *, positive: bool) -> np.ndarray:
        """Index coordinates (N, ndim) of the clicks of one sign."""
        picked = [p.index for p in self.of(Point) if p.positive == positive]
        return np.array(picked, float).reshape(len(picked), self.ndim or 0)

    @property
    def ndim(self) -> int | None:
        """Dimension of the prompts; None while there are none."""
        return self.items[0].ndim if self.items else None

    @property
    def extent(self) -> Box | None:
        """The smallest box that holds all prompts; None while there are none."""
        extent = None
        for item in self.items:
            own = item if isinstance(item, Box) else item.extent
            extent = own if extent is None else extent.union(own)
        return extent

    def check_inside(self, grid: Grid) -> None:
        """Refuse prompts of another dimension than the image, and prompts that lie outside of it.

        A box may reach beyond the image on some sides, and so may the width of a stroke; everything else must be
        inside.

        Raises
        ------
        InputError
        """
        for item in self.items:
            if item.ndim != grid.ndim:
                raise InputError(
                    f"A {item.ndim}D prompt does not fit an image of {grid.ndim} axes (shape {grid.shape})."
                )
            if isinstance(item, Box):
                if item.intersect(grid.box) is None:
                    raise InputError(
                        f"The box from {item.low} to {item.high} lies outside the image of shape {grid.shape}."
                    )
                continue
            extent = item.line if isinstance(item, Stroke) else item.extent
            if extent.intersect(grid.box) != extent:
                what = {Point: "point", Stroke: "stroke", MaskPrompt: "mask prompt"}[type(item)]
                where = item.index if isinstance(item, Point) else f"{extent.low} to {extent.high}"
                raise InputError(
                    f"The {what} at {where} lies outside the image of shape {grid.shape} (indices start at 0)."
                )

    def to_json(self) -> list[dict[str, Any]]:
        """A list of plain dictionaries, one a prompt, ready for ``json.dumps``."""
        return [prompt_to_json(item) for item in self.items]

    @classmethod
    def from_json(cls, items: Iterable[dict[str, Any]]) -> Prompts:
        """The inverse of `to_json`; InputError for anything that is not one."""
        return cls(tuple(prompt_from_json(item) for item in items))


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """One prompt as a plain dictionary; masks as zlib-packed bits in base64."""
    match prompt:
        case Point():
            return {"kind": "point", "index": list(prompt.index), "positive": prompt.positive}
        case Box():
            return {"kind": "box", "low": list(prompt.low), "high": list(prompt.high)}
        case Stroke():
            width = {"radius": prompt.radius} if prompt.radius else {}
            across = {} if prompt.axis is None else {"axis": prompt.axis}
            points = [list(p) for p in prompt.points]
            return {"kind": "stroke", "points": points, "positive": prompt.positive, **width, **across}
        case MaskPrompt():
            return {"kind": "mask", "offset": list(prompt.offset), **pack_mask(prompt.mask)}
    raise InputError(f"{type(prompt).__name__} is not a prompt.")


def prompt_from_json(item: dict[str, Any]) -> Prompt:
    """The inverse of `prompt_to_json`; InputError for anything that is not one."""
    try:
        match item["kind"]:
            case "point":
                return Point(tuple(item["index"]), bool(item["positive"]))
            case "box":
                return Box(tuple(item["low"]), tuple(item["high"]))
            case "stroke":
                points = tuple(map(tuple, item["points"]))
                return Stroke(points, bool(item["positive"]), item.get("radius", 0.0), item.get("axis"))
            case "mask":
                return MaskPrompt(unpack_mask(item), tuple(item["offset"]))
            case kind:
                raise InputError(f"Unknown kind of prompt {kind!r}.")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"Not a prompt: {str(item)[:80]} ({error!r}).") from None


def pack_mask(mask: np.ndarray) -> dict[str, Any]:
    """A boolean array as JSON: its shape, and its bits in C order, zlib-compressed, in base64."""
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)  # the fastest for masks, which are on the way of every click
    packed = packer.compress(np.packbits(mask).tobytes()) + packer.flush()
    return {"shape": list(mask.shape), "bits": base64.b64encode(packed).decode("ascii")}


def unpack_mask(item: dict[str, Any]) -> np.ndarray:
    """The inverse of `pack_mask`; never inflates to more than the shape needs."""
    shape = tuple(int(s) for s in item["shape"])
    count = math.prod(shape)
    if not 2 <= len(shape) <= 3 or min(shape) < 1 or count >= _MOST_VOXELS:
        raise InputError(f"A mask has 2 or 3 axes with voxels, not shape {shape}.")
    size = (count + 7) // 8
    try:
        bits = zlib.decompressobj().decompress(base64.b64decode(item["bits"], validate=True), size + 1)
    except (zlib.error, ValueError):
        raise InputError("The bits of a mask are damaged.") from None
    if len(bits) != size:
        raise InputError(f"A mask of shape {shape} has {size} bytes of bits, not {len(bits)}.")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(bool).reshape(shape)
