"""Which cubes of a volume SAM-Med3D looks at: around prompts, closer at a part, beyond a face. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.adjoining import open_faces
from napari_sammed.models.base import Logits
from napari_sammed.models.cubes import (
    CubeRegion,
    aligned,
    canonical_lattice,
    centred_cube,
    covering_cubes,
    on_lattice,
    place_of,
)
from napari_sammed.prompts import Point, Prompts

SPACING = 1.5
"""mm between samples, as in the training of the network."""

_MARGIN = 4  # samples around a part to look at closely: one voxel of the decoder's logits


def first_cube(grid: Grid, prompts: Prompts, within: Box | None, side: int) -> CubeRegion:
    """A cube in canonical orientation around `within`, or where that does not fit, around the prompts.

    Around the first positive prompt, so that more clicks keep the cube, while it holds all prompts; then around the
    middle of all of them; around the newest positive one where they are too far apart for one cube.

    Parameters
    ----------
    grid : Grid
        Of the image.
    prompts : Prompts
    within : Box or None
        Look only here.
    side : int
        Samples along each side of the cube.

    Raises
    ------
    InputError
        For flat images, for parts outside of the image, and if there is neither a positive prompt nor a part that fits
        into the cube.
    """
    limit = _limit(grid, within)
    lattice = canonical_lattice(grid, SPACING)
    part = on_lattice(limit, grid, lattice)
    if within is None or max(part.shape) > side:
        part = _middle(grid, lattice, prompts, side)
    region = CubeRegion.seeing(grid, lattice.crop(centred_cube(part, side)), limit)
    if region is None:
        raise InputError("No prompt lies in the part of the image to look at.")
    return region


def closer_cubes(grid: Grid, part: Box, side: int) -> list[CubeRegion]:
    """One cube that a part just fills, if that takes no more than 1.5 mm between samples; else several at 1.5 mm.

    Samples lie at least as far apart as the image's finest voxels, and at least 0.75 mm. The network has seen nothing
    but 1.5 mm in its training, so this is bounded: structures appear twice as large as usual at the most.

    Raises
    ------
    InputError
        For flat images and for parts outside of the image.
    """
    part = _limit(grid, part)
    longest = max(size * step for size, step in zip(part.shape, grid.spacing, strict=True))
    finest = max(min(grid.spacing), SPACING / 2)
    spacing = min(max(longest / (side - 2 * _MARGIN), finest), SPACING)
    lattice = canonical_lattice(grid, spacing)
    wanted = on_lattice(part, grid, lattice).grow(1).intersect(lattice.box)  # rounding must not lose a voxel
    cubes = covering_cubes(wanted, lattice.box, side)
    regions = (CubeRegion.seeing(grid, lattice.crop(cube), grid.box) for cube in cubes)
    return [region for region in regions if region is not None]


def next_cube(answers: Sequence[Logits], prompts: Prompts, within: Box | None) -> CubeRegion | None:
    """A half-overlapping cube beyond a face that the object touches, or one around a positive click elsewhere.

    The former as Wang et al. describe it (SAM-Med3D, 2023: inference on volumes larger than the cube); the official
    code has neither.

    Parameters
    ----------
    answers : sequence of Logits
        About the cubes so far, that of `first_cube` first.
    prompts : Prompts
    within : Box or None
        Look only here.

    Returns
    -------
    CubeRegion or None
        A multiple of the low-resolution cells away from the others; None if nothing more of the image is to be seen.
    """
    image = cast(CubeRegion, answers[0].region).image
    side = answers[0].region.grid.shape[0]
    limit, lattice = _limit(image, within), canonical_lattice(image, SPACING)
    cubes = [place_of(answer.region.grid, lattice) for answer in answers]
    wanted = [
        cube.shift([direction * side // 2 if axis == across else 0 for axis in range(3)])
        for answer, cube in zip(answers, cubes, strict=True)
        for across, direction in open_faces(answer, image.crop(limit))
    ]
    for click in prompts.of(Point):
        place = on_lattice(click.extent, image, lattice)
        if click.positive and not any(place.intersect(cube) == place for cube in cubes):
            wanted.append(aligned(centred_cube(place, side), cubes[0], cell=side // len(answers[0].values)))
    seen = [answer.region.box for answer in answers]
    for cube in wanted:
        region = CubeRegion.seeing(image, lattice.crop(cube), limit)
        if region is not None and all(region.box.intersect(box) != region.box for box in seen):
            return region
    return None


def _limit(grid: Grid, within: Box | None) -> Box:
    """The part of the image that may be looked at."""
    if grid.ndim != 3:
        raise InputError("SAM-Med3D looks at volumes only: choose a model of flat images for this one.")
    limit = grid.box if within is None else within.intersect(grid.box)
    if limit is None:
        raise InputError(f"The part from {within.low} to {within.high} lies outside the image of shape {grid.shape}.")
    return limit


def _middle(grid: Grid, lattice: Grid, prompts: Prompts, side: int) -> Box:
    """The part of the lattice whose middle is that of the cube."""
    extents = [item if isinstance(item, Box) else item.extent for item in prompts]
    positive = [
        extent
        for item, extent in zip(prompts, extents, strict=True)
        if isinstance(item, Box) or getattr(item, "positive", True)
    ]
    if not positive:
        raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
    everything = on_lattice(prompts.extent, grid, lattice)
    first = on_lattice(positive[0], grid, lattice)
    around_first = centred_cube(first, side)
    if everything.intersect(around_first) == everything:
        return first
    if max(everything.shape) <= side:
        return everything
    return on_lattice(positive[-1], grid, lattice)
