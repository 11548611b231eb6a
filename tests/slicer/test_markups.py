"""What users place in the views, as prompts: at the voxels that a hand calculation gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
import vtk
from SammedLib import markups, volumes

from napari_sammed.errors import InputError
from napari_sammed.prompts import Box, Point
from tests.slicer.scenes import (
    OBLIQUE,
    PROPER,
    SHAPE,
    add_bend,
    add_points,
    add_transform,
    add_volume,
    blobs,
    directions,
    matrix,
)

TURNED = {f"{''.join('RAS'[a] for a in order)}{flips}": directions(order, flips) for order, flips in PROPER}
TURNED["oblique"] = OBLIQUE


def ras(columns: np.ndarray, i: float, j: float, k: float) -> np.ndarray:
    """Where a voxel lies, by hand."""
    return np.array((12.5, -30.0, 7.25)) + columns[:, 0] * 0.8 * i + columns[:, 1] * 1.1 * j + columns[:, 2] * 3.0 * k


@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_a_fiducial_reaches_its_voxel(scene, columns):
    volume = add_volume(blobs(), matrix(columns))
    node = add_points(ras(columns, 11, 7, 4), ras(columns, 0.4, 3, 8.3))
    first, second = markups.points(node, volume, positive=False)
    assert first.index == pytest.approx((4, 7, 11), abs=1e-9)
    assert second.index == pytest.approx((8.3, 3, 0.4), abs=1e-9)
    assert not first.positive


def test_transforms_of_point_and_volume_both_count(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    moved = np.eye(4)
    moved[:3, 3] = 100, 0, 0
    volume.SetAndObserveTransformNodeID(add_transform(moved).GetID())
    node = add_points(np.add(ras(OBLIQUE, 11, 7, 4), (60, 0, 0)))
    moved[:3, 3] = 40, 0, 0
    node.SetAndObserveTransformNodeID(add_transform(moved).GetID())
    assert markups.point(node, 0, volume).index == pytest.approx((4, 7, 11), abs=1e-9)


def test_a_bent_fiducial_counts_where_it_is_seen(scene):
    volume = add_volume(blobs((40, 40, 40)), np.diag([1.0, 1.0, 1.0, 1.0]))
    bend = add_bend()
    seen = [0.0, 0.0, 0.0]
    node = add_points((10, 11, 12))
    node.SetAndObserveTransformNodeID(bend.GetID())
    bend.GetTransformToParent().TransformPoint((10, 11, 12), seen)
    assert seen[0] > 10.5  # it is bent at all
    assert markups.point(node, 0, volume).index == pytest.approx(seen[::-1], abs=1e-6)


def test_a_point_outside_or_without_position_is_refused_by_name(scene):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    node = add_points(ras(np.eye(3), 15, 3, 3))
    with pytest.raises(InputError, match=r"The point F-1 lies outside of the volume CT \(voxel 15, 3, 3\)"):
        markups.point(node, 0, volume)
    node.UnsetNthControlPointPosition(0)
    with pytest.raises(InputError, match="no position yet"):
        markups.point(node, 0, volume)
    assert markups.points(node, volume) == []


def test_points_come_back_where_they_were(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    prompts = [Point((4.0, 7.0, 11.0)), Box((0, 0, 0), (2, 2, 2)), Point((1.5, 2.0, 3.0), False)]
    positive, negative = add_points((0, 0, 0)), add_points()
    markups.show_points(prompts, volume, positive, negative)
    assert [p.index for p in markups.points(positive, volume)] == [pytest.approx((4, 7, 11))]
    assert [p.index for p in markups.points(negative, volume)] == [pytest.approx((1.5, 2, 3))]


def add_roi(columns: np.ndarray, low: tuple, high: tuple) -> slicer.vtkMRMLMarkupsROINode:
    """An ROI with axes along i, j, k, from one corner to the other, (i, j, k) with halves at the faces of voxels."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    node.SetSize(*(np.subtract(high, low) * (0.8, 1.1, 3.0)))
    to_node = np.eye(4)
    to_node[:3, :3] = columns
    to_node[:3, 3] = ras(columns, *np.add(low, high) / 2)
    values = vtk.vtkMatrix4x4()
    slicer.util.updateVTKMatrixFromArray(values, to_node)
    node.SetAndObserveObjectToNodeMatrix(values)
    return node


@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_an_roi_along_the_voxels_holds_just_the_voxels_it_touches(scene, columns):
    volume = add_volume(blobs(), matrix(columns))
    node = add_roi(columns, (1.5, 2.5, 0.5), (5.5, 8.5, 3.5))  # between voxels: 2..5, 3..8, 1..3
    assert markups.box(node, volume) == Box((1, 3, 2), (4, 9, 6))
    node = add_roi(columns, (1.4, 2.6, 0.6), (5.6, 8.4, 3.4))
    assert markups.box(node, volume) == Box((1, 3, 1), (4, 9, 7))


def test_an_roi_is_cut_at_the_volume_and_refused_outside(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    assert markups.box(add_roi(OBLIQUE, (-9, 2.5, 0.5), (3.5, 30, 3.5)), volume) == Box((1, 3, 0), (4, 12, 4))
    with pytest.raises(InputError, match="The ROI R lies outside of the volume CT"):
        markups.box(add_roi(OBLIQUE, (-9, -9, -9), (-3, -3, -3)), volume)
    with pytest.raises(InputError, match="no size yet"):
        markups.box(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R"), volume)


def test_a_turned_roi_becomes_the_smallest_box_around_it(scene):
    volume = add_volume(blobs((30, 30, 30)), np.eye(4))
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    node.SetCenterWorld(15, 15, 15)
    node.SetSizeWorld(10, 10, 4)
    half = np.sqrt(0.5)
    turned = np.eye(4)  # an eighth of a turn about S, about the centre
    turned[:2, :2] = [[half, -half], [half, half]]
    turned[:3, 3] = np.array((15, 15, 15)) - turned[:3, :3] @ (15, 15, 15)
    node.SetAndObserveTransformNodeID(add_transform(turned).GetID())
    found = markups.box(node, volume)
    reach = 5 * np.sqrt(2)  # of the corners, along R and A
    expected = range(int(np.floor(15 - reach + 0.5)), int(np.ceil(15 + reach + 0.5)))
    assert found == Box((13, expected.start, expected.start), (18, expected.stop, expected.stop))


def test_an_roi_on_one_slice(scene):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    node = add_roi(np.eye(3), (1.5, 2.5, 0.5), (5.5, 8.5, 3.5))
    assert markups.box(node, volume, on=(0, 2)) == Box((2, 3, 2), (3, 9, 6))
    with pytest.raises(InputError, match="does not reach the slice"):
        markups.box(node, volume, on=(0, 5))


def add_curve(columns: np.ndarray, ijk: list, kind: str = "ClosedCurve") -> slicer.vtkMRMLMarkupsCurveNode:
    node = slicer.mrmlScene.AddNewNodeByClass(f"vtkMRMLMarkups{kind}Node", "C")
    node.SetCurveTypeToLinear()
    for place in ijk:
        node.AddControlPoint(vtk.vtkVector3d(*ras(columns, *place)))
    return node


@pytest.mark.parametrize("across", range(3), ids=["i", "j", "k"])
@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_a_lasso_on_a_slice_takes_the_voxels_inside(scene, columns, across):
    volume = add_volume(blobs(), matrix(columns))
    square = [(1.6, 2.6), (1.6, 6.4), (5.4, 6.4), (5.4, 2.6)]
    node = add_curve(columns, [(*corner[:across], 4.3, *corner[across:]) for corner in square])
    prompt = markups.lasso(node, volume)
    expected = np.zeros(SHAPE[::-1], bool)
    inside = [slice(2, 6), slice(3, 7)]
    expected[tuple([*inside[:across], 4, *inside[across:]])] = True
    found = np.zeros(SHAPE, bool)
    found[prompt.extent.slices] = prompt.mask
    assert np.array_equal(found, expected.T)


def test_a_lasso_smaller_than_a_voxel_takes_the_voxel_under_it(scene):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    node = add_curve(np.eye(3), [(5.1, 6.1, 4), (5.3, 6.1, 4), (5.2, 6.3, 4)])
    assert markups.lasso(node, volume).extent == Box((4, 6, 5), (5, 7, 6))


def test_a_lasso_in_an_oblique_view_is_refused_with_the_reason(scene):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    node = add_curve(np.eye(3), [(2, 2, 1), (2, 8, 3), (10, 8, 5), (10, 2, 3)])
    with pytest.raises(InputError, match=r"crosses 4\.0 slices.*Rotate to volume plane"):
        markups.lasso(node, volume)


def test_a_lasso_needs_three_points_and_the_volume(scene):
    volume = add_volume(blobs(), matrix(np.eye(3)))
    with pytest.raises(InputError, match="three points"):
        markups.lasso(add_curve(np.eye(3), [(2, 2, 1)]), volume)
    with pytest.raises(InputError, match="outside of the volume"):
        markups.lasso(add_curve(np.eye(3), [(20, 20, 1), (22, 20, 1), (22, 22, 1)]), volume)


def test_a_stroke_goes_any_way_through_an_oblique_volume(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    node = add_curve(OBLIQUE, [(1, 1, 1), (9, 5, 5)], "Curve")
    prompt = markups.stroke(node, volume, positive=False)
    assert prompt.points[0] == pytest.approx((1, 1, 1))
    assert prompt.points[-1] == pytest.approx((5, 5, 9))
    assert not prompt.positive
    voxels = prompt.voxels()
    assert tuple(voxels[0]) == (1, 1, 1)
    assert tuple(voxels[-1]) == (5, 5, 9)
    with pytest.raises(InputError, match="outside of the volume"):
        markups.stroke(add_curve(OBLIQUE, [(1, 1, 1), (90, 5, 5)], "Curve"), volume)


def test_paint_becomes_strokes_that_stay_in_it(scene):
    paint = np.zeros((5, 30, 30), bool)
    for angle in np.linspace(0, np.pi, 60):  # a broad arc, and a dab
        row, column = int(15 - 10 * np.sin(angle)), int(15 + 10 * np.cos(angle))
        paint[2, row - 1 : row + 2, column - 1 : column + 2] = True
    paint[2, 25:27, 15:17] = True
    arc, dab = sorted(markups.strokes_of_paint(paint, (100, 200, 300)), key=lambda s: -len(s.voxels()))
    for stroke in (arc, dab):
        local = stroke.voxels() - (100, 200, 300)
        assert paint[tuple(local.T)].all()
    assert np.ptp(arc.voxels()[:, 2]) > 17
    reach = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.pairwise(arc.points)]
    assert max(reach) < 1.8


def test_index_and_world_of_the_volume_agree_with_slicer(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    to_ijk = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(to_ijk)
    place = (3.0, 4.0, 5.0)
    assert volumes.to_index(volume, [place])[0] == pytest.approx(to_ijk.MultiplyPoint((*place, 1))[:3][::-1])
