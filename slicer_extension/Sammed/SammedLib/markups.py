"""From what a user places in the views to prompts in index coordinates of a volume.

Positions are taken in the world, so that transforms of the markups (of any kind) and linear ones of the volume count,
and oblique volumes are exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer

from . import volumes

if TYPE_CHECKING:
    from napari_sammed.prompts import Box, MaskPrompt, Point, Prompt, Stroke

_EDGE = 1e-4  # voxels; tells a face that lies between two voxels from one just beyond it
_FLAT = 0.5  # voxels; a curve that leaves its slice by more is not drawn along the voxels


def point(
    node: slicer.vtkMRMLMarkupsNode, number: int, volume: slicer.vtkMRMLVolumeNode, *, positive: bool = True
) -> Point:
    """A control point as a click.

    Raises
    ------
    InputError
        If it has no position yet, or lies outside of the volume.
    """
    from napari_sammed.errors import InputError
    from napari_sammed.prompts import Point

    label = node.GetNthControlPointLabel(number)
    if node.GetNthControlPointPositionStatus(number) != slicer.vtkMRMLMarkupsNode.PositionDefined:
        raise InputError(f"The point {label} has no position yet: place it in a slice view.")
    index = volumes.to_index(volume, [node.GetNthControlPointPositionWorld(number)])[0]
    _check_inside(f"The point {label}", index[None], volume)
    return Point(tuple(index), positive)


def points(node: slicer.vtkMRMLMarkupsNode, volume: slicer.vtkMRMLVolumeNode, *, positive: bool = True) -> list[Point]:
    """All placed control points of a node as clicks, in order."""
    placed = slicer.vtkMRMLMarkupsNode.PositionDefined
    numbers = [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == placed]
    return [point(node, number, volume, positive=positive) for number in numbers]


def box(
    node: slicer.vtkMRMLMarkupsROINode, volume: slicer.vtkMRMLVolumeNode, *, on: tuple[int, int] | None = None
) -> Box:
    """A region of interest as a box.

    Boxes of prompts run along the voxels. An ROI that is turned against them becomes the smallest such box that holds
    all of it: larger than what was drawn, never smaller.

    Parameters
    ----------
    node : vtkMRMLMarkupsROINode
    volume : vtkMRMLVolumeNode
    on : tuple of int, optional
        Array axis and index of the only slice to take the box on (`volumes.slice_shown`).

    Raises
    ------
    InputError
        If it has no size yet, or lies outside of the volume.
    """
    from napari_sammed.errors import InputError
    from napari_sammed.prompts import Box

    size = np.array(node.GetSize())
    if node.GetNumberOfControlPoints() == 0 or (size <= 0).all():
        raise InputError(f"The ROI {node.GetName()} has no size yet: draw it in a slice view.")
    to_node = slicer.util.arrayFromVTKMatrix(node.GetObjectToNodeMatrix())
    corners = np.array(list(itertools.product(*([-half, half] for half in size / 2)))) @ to_node[:3, :3].T
    world = [_through_parents(node, corner) for corner in corners + to_node[:3, 3]]
    index = volumes.to_index(volume, np.array(world))
    low, high = _touched(index)
    if on is not None:
        axis, place = on
        if not low[axis] <= place < high[axis]:
            raise InputError(f"The ROI {node.GetName()} does not reach the slice that is shown: move one of them.")
        low[axis], high[axis] = place, place + 1
    found = Box(tuple(map(int, low)), tuple(map(int, high)))
    inside = found.intersect(Box.of_shape(_shape(volume)))
    if inside is None:
        raise InputError(f"The ROI {node.GetName()} lies outside of the volume {volume.GetName()}.")
    return inside


def lasso(node: slicer.vtkMRMLMarkupsClosedCurveNode, volume: slicer.vtkMRMLVolumeNode) -> MaskPrompt:
    """A closed curve on a slice as a mask: the voxels whose centres lie inside, or those under a very small curve.

    Raises
    ------
    InputError
        If the curve is not drawn along a slice of the volume (an oblique view), or lies outside of it.
    """
    from skimage.draw import polygon2mask

    from napari_sammed.errors import InputError
    from napari_sammed.geometry import Box, nearest_voxel
    from napari_sammed.prompts import MaskPrompt, Stroke

    outline = _curve(node, volume)
    if len(outline) < 3:
        raise InputError(f"The curve {node.GetName()} needs three points at least.")
    spread = np.ptp(outline, axis=0)
    axis = int(np.argmin(spread))
    if spread[axis] > _FLAT:
        raise InputError(
            f"The curve {node.GetName()} is not drawn along the voxels of {volume.GetName()}: it crosses "
            f"{spread[axis]:.1f} slices. Turn the slice view with 'Rotate to volume plane' and draw it again, or take "
            "points."
        )
    outline[:, axis] = nearest_voxel(outline[:, axis].mean())
    _check_inside(f"The curve {node.GetName()}", outline, volume, part=True)
    around = Box.around(outline).intersect(Box.of_shape(_shape(volume)))
    plane = [other for other in range(3) if other != axis]
    filled = polygon2mask([around.shape[a] for a in plane], (outline - around.low)[:, plane])
    mask = np.expand_dims(filled, axis)
    if not mask.any():
        under = Stroke((*map(tuple, outline), tuple(outline[0]))).voxels()
        under = under[[around.contains(voxel) for voxel in under]] - around.low
        mask[tuple(under.T)] = True
    return MaskPrompt(mask, around.low)


def stroke(node: slicer.vtkMRMLMarkupsCurveNode, volume: slicer.vtkMRMLVolumeNode, *, positive: bool = True) -> Stroke:
    """An open curve as a scribble, in any direction through the volume.

    Raises
    ------
    InputError
        If it has no point yet, or leaves the volume.
    """
    from napari_sammed.errors import InputError
    from napari_sammed.prompts import Stroke

    line = _curve(node, volume)
    if not len(line):
        raise InputError(f"The curve {node.GetName()} has no points yet: draw it in a slice view.")
    _check_inside(f"The curve {node.GetName()}", line, volume)
    return Stroke(tuple(map(tuple, line)), positive)


def strokes_of_paint(mask: np.ndarray, offset: Sequence[int], *, positive: bool = True) -> list[Stroke]:
    """What was painted with a brush as scribbles: of each connected part the longest way along its centre line.

    Parameters
    ----------
    mask : ndarray of bool
        (k, j, i), of the painted voxels.
    offset : sequence of int
        Index of its first voxel in the volume.
    positive : bool
    """
    from skimage.measure import label
    from skimage.morphology import skeletonize

    from napari_sammed.prompts import Stroke

    parts, count = label(np.pad(mask, 1), connectivity=3, return_num=True)
    found = []
    for number in range(1, count + 1):
        line = np.argwhere(skeletonize(parts == number) > 0)
        if not len(line):  # thinning can eat a part of a few voxels
            line = np.argwhere(parts == number)[:1]
        path = _longest_way([tuple(map(int, voxel)) for voxel in line])
        found.append(Stroke(tuple(tuple(np.add(voxel, offset) - 1.0) for voxel in path), positive))
    return found


def show_points(
    prompts: Sequence[Prompt],
    volume: slicer.vtkMRMLVolumeNode,
    positive: slicer.vtkMRMLMarkupsFiducialNode,
    negative: slicer.vtkMRMLMarkupsFiducialNode,
) -> None:
    """Put the clicks among some prompts back into two fiducial nodes, in place of what these hold."""
    from napari_sammed.prompts import Point

    for node, sign in ((positive, True), (negative, False)):
        with slicer.util.NodeModify(node):
            node.RemoveAllControlPoints()
            for prompt in prompts:
                if isinstance(prompt, Point) and prompt.positive == sign:
                    node.AddControlPointWorld(*volumes.to_world(volume, prompt.index)[0])


def _curve(node: slicer.vtkMRMLMarkupsCurveNode, volume: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The points of a curve as it is drawn, (N, 3) index coordinates; its control points while they are too few."""
    drawn = node.GetCurvePointsWorld()
    if drawn is not None and drawn.GetNumberOfPoints():
        world = [drawn.GetPoint(number) for number in range(drawn.GetNumberOfPoints())]
    else:
        world = [node.GetNthControlPointPositionWorld(number) for number in range(node.GetNumberOfControlPoints())]
    return volumes.to_index(volume, np.array(world)) if world else np.zeros((0, 3))


def _through_parents(node: slicer.vtkMRMLTransformableNode, position: np.ndarray) -> list[float]:
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(position.tolist(), world)
    return world


def _touched(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last voxel that a body with these corners touches; a voxel reaches half its size."""
    low = np.floor(index.min(0) + 0.5 + _EDGE).astype(int)
    high = np.ceil(index.max(0) + 0.5 - _EDGE).astype(int)
    return low, np.maximum(high, low + 1)


def _longest_way(voxels: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The way between the two ends of a line of voxels that lie farthest apart along it."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]
    line = set(voxels)

    def ways_from(start: tuple[int, ...]) -> dict[tuple[int, ...], tuple[int, ...] | None]:
        came: dict[tuple[int, ...], tuple[int, ...] | None] = {start: None}
        queue = [start]
        for voxel in queue:  # grows meanwhile: breadth first
            for step in steps:
                other = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if other in line and other not in came:
                    came[other] = voxel
                    queue.append(other)
        return came

    one_end = next(reversed(ways_from(voxels[0])))
    came = ways_from(one_end)
    path = [next(reversed(came))]
    while (before := came[path[-1]]) is not None:
        path.append(before)
    return path


def _shape(volume: slicer.vtkMRMLVolumeNode) -> tuple[int, int, int]:
    columns, rows, slices = volume.GetImageData().GetDimensions()
    return slices, rows, columns


def _check_inside(what: str, index: np.ndarray, volume: slicer.vtkMRMLVolumeNode, *, part: bool = False) -> None:
    """Refuse positions outside of the volume; with ``part``, only if all are."""
    from napari_sammed.errors import InputError
    from napari_sammed.geometry import nearest_voxel

    nearest = nearest_voxel(index)
    inside = ((nearest >= 0) & (nearest < _shape(volume))).all(1)
    if not (inside.any() if part else inside.all()):
        where = ", ".join(map(str, nearest[int(np.argmin(inside))][::-1]))
        raise InputError(f"{what} lies outside of the volume {volume.GetName()} (voxel {where}).")
