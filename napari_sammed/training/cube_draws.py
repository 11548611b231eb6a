"""Cubes around labelled objects, cut out, mirrored and clicked into as SAM-Med3D learns from them.

Cubes and their samples are those of `napari_sammed.models.cubes` and `napari_sammed.models.sam_med3d`, so that what is
learnt from looks as what is segmented later. Reference sheet ``sam_med3d``, sections 4 and 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.evaluation import users
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.cube_choice import SPACING
from napari_sammed.models.cubes import CubeRegion, canonical_lattice, centred_cube, on_lattice
from napari_sammed.models.resampling import covered
from napari_sammed.models.sam_med3d import network_input
from napari_sammed.training.material import Example
from napari_sammed.volume import Volume, resample_labels


@dataclass(frozen=True)
class Target:
    """An object in the cube around it.

    Parameters
    ----------
    region : CubeRegion
        In the middle of which the box of the object's samples lies.
    mask : ndarray of bool
        (side, side, side), nearest samples, axes as those of the cube.
    """

    region: CubeRegion
    mask: np.ndarray


def target(example: Example, value: int, box: Box, side: int) -> Target | None:
    """An object and its cube; None if it falls between the samples.

    Parameters
    ----------
    example : Example
    value : int
        Label of the object.
    box : Box
        Of the object.
    side : int
        Samples along each side of the cube.
    """
    image = example.image.grid
    lattice = canonical_lattice(image, SPACING)
    around = on_lattice(box, image, lattice).grow(1)
    found = Box.of_mask(_sampled(example, value, box, lattice.crop(around)))
    if found is None:
        return None
    cube = lattice.crop(centred_cube(found.shift(around.low), side))
    region = CubeRegion.seeing(image, cube, image.box)
    return None if region is None else Target(region, _sampled(example, value, box, cube))


def _sampled(example: Example, value: int, box: Box, grid: Grid) -> np.ndarray:
    """The object on another grid, bool."""
    part = box.grow(1).intersect(example.image.grid.box)
    mask = np.asarray(example.labels[part.slices]) == value
    return resample_labels(Volume(mask, example.image.grid.crop(part)), grid) > 0


def samples(example: Example, region: CubeRegion, limits: tuple[float, float] | None) -> np.ndarray:
    """What the network sees of a cube, float32 of (side, side, side).

    Parameters
    ----------
    example : Example
    region : CubeRegion
    limits : tuple of float or None
        To which grey values of CT (by the image's modality) are cut, before they are sampled.

    Raises
    ------
    InputError
        As of `napari_sammed.models.sam_med3d.network_input`, with the example's name.
    """
    image = example.image
    if limits is not None and image.modality == "CT":
        seen = covered(image.grid, region.grid)
        part = (region.box if seen is None else seen).grow(2).intersect(image.grid.box)  # interpolated with neighbours
        values = image.part(part)
        image = Volume(_cut(values, limits), image.grid.crop(part), modality="CT")
    try:
        return network_input(image, region)
    except InputError as error:
        raise InputError(f"{example.name}: {error}") from None


def _cut(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Values between limits, which may lie beyond those of their dtype."""
    low, high = max(limits[0], values.min()), min(limits[1], values.max())
    return values.clip(low, high).astype(values.dtype, copy=False) if low <= high else values


def mirrored(cube: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A cube mirrored along some of its axes."""
    return np.ascontiguousarray(np.flip(cube, axes)) if axes else cube


def clicked(found: np.ndarray, masks: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A click on any wrong sample of each object; anywhere inside, where nothing is wrong.

    Parameters
    ----------
    found, masks : ndarray of bool
        (B, side, side, side), the answers so far and what is wanted.
    random : Generator

    Returns
    -------
    points : ndarray of float32
        (B, 1, 3), index coordinates.
    labels : ndarray of float32
        (B, 1): 1 on what was missed, 0 on what leaked.
    """
    clicks = []
    for answer, mask in zip(found, masks, strict=True):
        situation = users.Situation(mask, answer, Grid.plain(mask.shape))
        clicks.append(users.any_mistake(situation, random) or users.uniform_point(situation, random))
    points = np.array([click.index for click in clicks], np.float32)[:, None]
    return points, np.array([[click.positive] for click in clicks], np.float32)
