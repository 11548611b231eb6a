"""Prompts of mouse movements in a slice view, for faces that draw without markups (the Segment Editor effect)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer

from . import volumes

if TYPE_CHECKING:
    from napari_sammed.prompts import Box, Point, Stroke


def click(volume: slicer.vtkMRMLVolumeNode, world: Sequence[float], *, positive: bool = True) -> Point:
    """A press of the button.

    Parameters
    ----------
    volume : vtkMRMLVolumeNode
    world : sequence of float
        RAS, mm.
    positive : bool
    """
    from napari_sammed.prompts import Point

    return Point(tuple(volumes.to_index(volume, [world])[0]), positive)


def scribble(volume: slicer.vtkMRMLVolumeNode, way: Sequence[Sequence[float]], *, positive: bool = True) -> Stroke:
    """The way of the pointer while the button was held, RAS in mm."""
    from napari_sammed.prompts import Stroke

    return Stroke(tuple(map(tuple, volumes.to_index(volume, np.array(way)))), positive)


def rectangle(
    volume: slicer.vtkMRMLVolumeNode, view: slicer.vtkMRMLSliceNode, one: Sequence[float], other: Sequence[float]
) -> Box:
    """The box on one slice between two opposite corners, RAS in mm, inside of the volume.

    In a view that is turned against the voxels it is the smallest box along the voxels that holds both corners.

    Raises
    ------
    InputError
        If it lies outside of the volume.
    """
    from napari_sammed.errors import InputError
    from napari_sammed.geometry import nearest_voxel
    from napari_sammed.prompts import Box

    index = volumes.to_index(volume, [one, other])
    low, high = nearest_voxel(index.min(0)), nearest_voxel(index.max(0)) + 1
    axis = volumes.axis_across(volume, view)
    low[axis] = nearest_voxel(index[:, axis].mean())
    high[axis] = low[axis] + 1
    columns, rows, slices = volume.GetImageData().GetDimensions()
    inside = Box(tuple(map(int, low)), tuple(map(int, high))).intersect(Box.of_shape((slices, rows, columns)))
    if inside is None:
        raise InputError(f"The box lies outside of the volume {volume.GetName()}.")
    return inside


def world_of(view: slicer.vtkMRMLSliceNode, x: float, y: float) -> np.ndarray:
    """Where a pixel of a slice view lies in the world, RAS in mm; (0, 0) is below on the left."""
    return (slicer.util.arrayFromVTKMatrix(view.GetXYToRAS()) @ (x, y, 0.0, 1.0))[:3]
