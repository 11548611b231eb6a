"""How far each slice of an object can be trusted, by the model's word and by the slices beside it.

A propagation goes wrong in ways that show in the mask itself: it leaks (the area jumps), it wanders off (the overlap
with the neighbours falls), or the network is not sure. None of these proves a mistake; together they say where to look
first. Pure functions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sammed.prompts import MaskPrompt


@dataclass(frozen=True)
class SliceQuality:
    """What is known of one slice of an object.

    Parameters
    ----------
    index : int
        Along the axis of the image array.
    voxels : int
        Of the object on the slice.
    score : float
        The model's confidence, 0..1; NaN where it has said none.
    overlap : float
        Dice with the slices beside it, of the object's own; the mean of two. NaN where there is none.
    jump : float
        By how much the area differs from the mean of those on both sides, as a share of the larger one, 0..1: 0 where
        the object grows or shrinks evenly. NaN at its ends.
    around : int
        The largest number of voxels on this slice and those beside it.
    marked : bool
        Whether the user prompted or painted there.
    """

    index: int
    voxels: int
    score: float
    overlap: float
    jump: float
    around: int
    marked: bool

    @property
    def steadiness(self) -> float:
        """1 less the jump."""
        return 1 - self.jump

    @property
    def quality(self) -> float:
        """All of it in one figure, 0..1: what is known, multiplied; 1 on slices that the user has marked."""
        if self.marked:
            return 1.0
        return math.prod(value for value in (self.score, self.overlap, self.steadiness) if not math.isnan(value))

    @property
    def doubt(self) -> float:
        """How much may be wrong here: what the quality lacks, times a length of the border; ends are small."""
        return (1 - self.quality) * math.sqrt(self.around)


def assess(
    mask: MaskPrompt | None, axis: int, scores: Mapping[int, float], marked: Collection[int]
) -> tuple[SliceQuality, ...]:
    """Every slice of an object from the first to the last, with the empty ones between them.

    Parameters
    ----------
    mask : MaskPrompt or None
        Of a volume.
    axis : int
        Across the slices.
    scores : mapping of int to float
        Slice -> the model's confidence.
    marked : collection of int
        Slices that the user has marked.
    """
    if mask is None:
        return ()
    slices = np.moveaxis(mask.mask, axis, 0)
    areas = [int(np.count_nonzero(flat)) for flat in slices]
    common = [int(np.count_nonzero(one & other)) for one, other in itertools.pairwise(slices)]
    overlaps = [
        2 * shared / max(one + other, 1) for (one, other), shared in zip(itertools.pairwise(areas), common, strict=True)
    ]
    found = []
    for i, area in enumerate(areas):
        beside = overlaps[max(i - 1, 0) : i + 1]
        inside = 0 < i < len(areas) - 1
        usual = (areas[i - 1] + areas[i + 1]) / 2 if inside else math.nan
        index = mask.offset[axis] + i
        found.append(
            SliceQuality(
                index=index,
                voxels=area,
                score=scores.get(index, math.nan),
                overlap=sum(beside) / len(beside) if beside else math.nan,
                jump=abs(area - usual) / max(area, usual, 1) if inside else math.nan,
                around=max(areas[max(i - 1, 0) : i + 2]),
                marked=index in marked,
            )
        )
    return tuple(found)


def ranked(slices: Sequence[SliceQuality]) -> list[SliceQuality]:
    """The slices in the order in which to look at them, the most doubtful first, without those that were marked."""
    return sorted((one for one in slices if not one.marked), key=lambda one: (-one.doubt, one.index))
