"""Cubes of isotropic samples in canonical orientation, as networks of whole volumes look at images. Imports no torch.

The samples of an image lie on one lattice, whatever cube of it is looked at: cubes differ by whole samples, so that
a click elsewhere does not sample the same tissue at other places. Lattice and cube are those of the official code of
SAM-Med3D (``medim_infer.py``: resampling to 1.5 mm, ``tio.ToCanonical``, ``tio.CropOrPad`` around a mask).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from napari_sammed.geometry import Box, Grid, Region, nearest_voxel
from napari_sammed.models.axial import AxialView
from napari_sammed.models.resampling import covered
from napari_sammed.models.windows import covering

_ROUNDING = 1e-6  # a quotient this little above a whole number is one: spacings of headers are rounded


@dataclass(frozen=True)
class CubeRegion(Region):
    """A region whose samples lie along other axes than the image's, which is needed to bring an answer back.

    Parameters
    ----------
    image : Grid
        Of the whole image.
    """

    image: Grid

    @classmethod
    def seeing(cls, image: Grid, cube: Grid, limit: Box) -> CubeRegion | None:
        """The region of a cube whose answer may change all that it sees of the image inside a box; None if that is
        nothing."""
        seen = covered(image, cube)
        box = None if seen is None else seen.intersect(limit)
        return None if box is None else cls(box, cube, image)

    @property
    def answered(self) -> Grid:
        """The grid of the part of the image that the answer may change."""
        return self.image.crop(self.box)


def canonical_lattice(image: Grid, spacing: float) -> Grid:
    """The grid of isotropic samples that covers a volume, axes to the patient's right-hand, front and head sides.

    Parameters
    ----------
    image : Grid
        Of a volume, in any orientation; oblique ones stay oblique, each axis stands for the nearest of the patient's.
    spacing : float
        mm between samples.

    Returns
    -------
    Grid
        Array axes run from left to right, from posterior to anterior, from inferior to superior. The outer corner of
        its first voxel, in the order of the image's own axes, is that of the image; at the far end it may reach beyond.
    """
    ratio = spacing / np.array(image.spacing)
    shape = [max(math.ceil(size / step - _ROUNDING), 1) for size, step in zip(image.shape, ratio, strict=True)]
    view = AxialView.of(image, rows="A", columns="R")
    to_image = np.eye(4)  # homogeneous, from lattice to image indices
    to_image[:3, :3] = 0
    for axis, (own, backwards) in enumerate(zip(view.axes[::-1], view.backwards[::-1], strict=True)):
        first = shape[own] - 1 if backwards else 0
        to_image[own, axis] = -ratio[own] if backwards else ratio[own]
        to_image[own, 3] = (first + 0.5) * ratio[own] - 0.5
    return Grid.from_affine(tuple(shape[own] for own in view.axes[::-1]), image.affine @ to_image)


def on_lattice(box: Box, image: Grid, lattice: Grid) -> Box:
    """The samples of the lattice that are nearest to the voxel centres of a box of the image, and all between them."""
    ends = [(low, high - 1) for low, high in zip(box.low, box.high, strict=True)]
    return Box.around(lattice.to_index(image.to_world(np.array(list(itertools.product(*ends))))))


def centred_cube(box: Box, side: int) -> Box:
    """The cube of `side` samples around the middle of a box; the middle of an odd number is the first of its halves.

    It may reach beyond the image: there is nothing to see there, but the target stays in the middle.
    """
    low = [(first + last) // 2 - side // 2 for first, last in zip(box.low, box.high, strict=True)]
    return Box(tuple(low), tuple(first + side for first in low))


def place_of(cube: Grid, lattice: Grid) -> Box:
    """Where a cube lies in its lattice, or in another cube of it."""
    return Box.of_shape(cube.shape).shift(nearest_voxel(lattice.to_index(cube.origin)).tolist())


def aligned(cube: Box, other: Box, cell: int) -> Box:
    """A cube moved by less than `cell` samples, so that it is a multiple of them away from another one."""
    return cube.shift([(b - a) % cell for a, b in zip(cube.low, other.low, strict=True)])


def covering_cubes(part: Box, lattice: Box, side: int) -> list[Box]:
    """Half-overlapping cubes of `side` samples that cover a part of a lattice; one, if the part fits into it.

    They lie inside the lattice, and around its middle along axes where it is shorter than a cube.
    """
    middle = centred_cube(lattice, side)
    short = [high - low < side for low, high in zip(lattice.low, lattice.high, strict=True)]
    room = Box(
        tuple(a if s else b for s, a, b in zip(short, middle.low, lattice.low, strict=True)),
        tuple(a if s else b for s, a, b in zip(short, middle.high, lattice.high, strict=True)),
    )
    return covering(part, (side,) * lattice.ndim, room)
