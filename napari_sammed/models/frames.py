"""Where a slice lies in the square input of a network, and how prompts and masks get there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Region
from napari_sammed.models.base import ModelCard
from napari_sammed.models.planes import plane_axes
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke


@dataclass(frozen=True)
class Frame:
    """A slice, resized and placed in a square of zeros.

    Parameters
    ----------
    axes : tuple of int
        Array axes of the rows and columns of the slice.
    low, size : tuple of int
        Its first row and column in the image, and its rows and columns.
    shape : tuple of int
        Rows and columns that it takes in the frame.
    offset : tuple of int
        Where it begins in the frame.
    side : int
        Rows, and columns, of the frame: the network's input size.
    """

    axes: tuple[int, int]
    low: tuple[int, int]
    size: tuple[int, int]
    shape: tuple[int, int]
    offset: tuple[int, int]
    side: int

    @classmethod
    def of(cls, region: Region, side: int, *, centred: bool = False) -> Frame:
        """The frame of a region: in its top left corner, or in the middle."""
        axes = plane_axes(region.box)
        shape = tuple(region.grid.shape[axis] for axis in axes)
        return cls(
            axes,
            tuple(region.box.low[axis] for axis in axes),
            tuple(region.box.shape[axis] for axis in axes),
            shape,
            tuple((side - length) // 2 for length in shape) if centred else (0, 0),
            side,
        )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index a frame with this to get the slice in it."""
        rows, columns = (slice(start, start + length) for start, length in zip(self.offset, self.shape, strict=True))
        return rows, columns

    def slices_at(self, side: int) -> tuple[slice, slice]:
        """The same for a smaller map of the frame, ``side`` pixels wide; pixels that the slice only touches count."""
        rows, columns = (
            slice(start * side // self.side, -(-(start + length) * side // self.side))
            for start, length in zip(self.offset, self.shape, strict=True)
        )
        return rows, columns

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Index coordinates of the image, (N, ndim), as x, y in the frame, (N, 2).

        As in the official codes, the centre of pixel 0 is the centre of the frame's pixel 0 (not its edge the edge).
        """
        places = np.asarray(indices, float)[:, list(self.axes)] - self.low
        places = places * (np.array(self.shape) / np.array(self.size)) + self.offset
        return places[:, ::-1]

    def corners(self, boxes: Sequence[Box], *, last: int) -> np.ndarray:
        """Boxes of the image cut to the slice, as x0, y0, x1, y1 in the frame, (N, 4).

        Parameters
        ----------
        boxes : sequence of Box
        last : {0, 1}
            Whether the second corner is the last pixel inside (1) or one past it (0).
        """
        rows, columns = self.axes
        low = np.array([(box.low[rows], box.low[columns]) for box in boxes]) - self.low
        high = np.array([(box.high[rows], box.high[columns]) for box in boxes]) - self.low
        limit = np.array(self.size)
        corners = np.stack([low.clip(0, limit - 1), high.clip(1, limit) - last], axis=1)
        corners = corners * (np.array(self.shape) / limit) + self.offset
        return corners[:, :, ::-1].reshape(-1, 4)

    def coverage(self, masks: Sequence[MaskPrompt], side: int) -> np.ndarray:
        """Which share of each pixel of a smaller map of the frame is covered by any of the masks.

        Parameters
        ----------
        masks : sequence of MaskPrompt
            Inside this slice.
        side : int
            Rows, and columns, of the map.

        Returns
        -------
        ndarray of float32, (side, side)
            0 to 1; 0 outside of the slice.
        """
        painted = np.zeros(self.size, np.float32)
        for prompt in masks:
            extent = prompt.extent
            part = tuple(
                slice(extent.low[axis] - first, extent.high[axis] - first)
                for axis, first in zip(self.axes, self.low, strict=True)
            )
            painted[part] = np.maximum(painted[part], prompt.mask.reshape(painted[part].shape))
        rows, columns = (
            _overlaps(size, shape, offset, self.side, side)
            for size, shape, offset in zip(self.size, self.shape, self.offset, strict=True)
        )
        return rows @ painted @ columns.T


def _overlaps(size: int, shape: int, offset: int, side: int, cells: int) -> np.ndarray:
    """Share of each cell of a line of the frame that lies on each pixel of the slice: (cells, size)."""
    edges = (np.arange(cells + 1) * (side / cells) - offset) * (size / shape)  # in pixels of the slice
    pixels = np.arange(size)
    common = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (common.clip(min=0) / np.diff(edges)[:, None]).astype(np.float32)


def in_slice(prompts: Prompts, region: Region, card: ModelCard) -> tuple[list[Point], list[Box], list[MaskPrompt]]:
    """Points, boxes and masks of the prompts, the latter two cut to the region that a model looks at.

    Raises
    ------
    InputError
        For prompts of other kinds than the card's, prompts that lie elsewhere, and if there is none.
    """
    points: list[Point] = []
    boxes: list[Box] = []
    masks: list[MaskPrompt] = []
    for item in prompts:
        kind = {Point: "point", Box: "box", MaskPrompt: "mask", Stroke: "stroke"}[type(item)]
        if kind not in card.prompts:
            raise InputError(f"{card.title} does not take a {kind}; it knows {_listed(card.prompts)}.")
        extent = item if isinstance(item, Box) else item.extent
        common = extent.intersect(region.box)
        if common is None:
            where = f"at {item.index}" if isinstance(item, Point) else f"from {extent.low} to {extent.high}"
            raise InputError(
                f"The {kind} {where} lies outside the part that {card.title} looks at, "
                f"{region.box.low} to {region.box.high}."
            )
        match item:
            case Point():
                points.append(item)
            case Box():
                boxes.append(common)
            case MaskPrompt():
                part = item.mask[common.shift([-first for first in item.offset]).slices]
                if not part.any():
                    raise InputError(f"The mask prompt has no voxel on the slice that {card.title} looks at.")
                masks.append(MaskPrompt(part, common.low))
    if not (points or boxes or masks):
        raise InputError(f"{card.title} needs a prompt: {_listed(card.prompts)}.")
    return points, boxes, masks


def _listed(kinds: frozenset[str]) -> str:
    return " or ".join(f"a {kind}" for kind in sorted(kinds))
