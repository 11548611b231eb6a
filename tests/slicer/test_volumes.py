"""Volume nodes as images: voxels, geometry, parent transforms, and what is refused with which words."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
import vtk
from SammedLib import volumes

from napari_sammed.errors import InputError
from tests.slicer.scenes import (
    OBLIQUE,
    PROPER,
    SPACING,
    add_bend,
    add_transform,
    add_volume,
    blobs,
    directions,
    matrix,
)

TURNED = {f"{''.join('RAS'[a] for a in order)}{flips}": directions(order, flips) for order, flips in PROPER}
TURNED["oblique"] = OBLIQUE
TURNED["mirrored"] = OBLIQUE * (1, -1, 1)


@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_grid_is_that_of_the_node(scene, columns):
    array = blobs()
    image = volumes.volume_of(add_volume(array, matrix(columns)))
    assert np.array_equal(image.array, array)
    assert image.grid.spacing == pytest.approx(SPACING[::-1])
    k, j, i = 4, 7, 11
    ras = np.array((12.5, -30.0, 7.25)) + columns[:, 0] * 0.8 * i + columns[:, 1] * 1.1 * j + columns[:, 2] * 3.0 * k
    assert image.grid.to_world(np.array((k, j, i))) == pytest.approx(ras * (-1, -1, 1))


@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_a_position_reaches_its_voxel_and_comes_back(scene, columns):
    node = add_volume(blobs(), matrix(columns))
    i, j, k = 3.0, 10.25, 6.5
    ras = np.array((12.5, -30.0, 7.25)) + columns @ (0.8 * i, 1.1 * j, 3.0 * k)
    assert volumes.to_index(node, [ras])[0] == pytest.approx((k, j, i), abs=1e-9)
    assert volumes.to_world(node, [(k, j, i)])[0] == pytest.approx(ras, abs=1e-9)


def test_linear_transforms_of_all_parents_count(scene):
    node = add_volume(blobs(), matrix(OBLIQUE))
    moved, turned = np.eye(4), np.eye(4)
    moved[:3, 3] = 5, -6, 7
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # a quarter turn about S
    inner, outer = add_transform(moved), add_transform(turned)
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())
    r, a, s = np.array((12.5, -30.0, 7.25)) + OBLIQUE @ (0.8 * 2, 1.1 * 3, 3.0 * 4) + (5, -6, 7)
    assert volumes.to_world(node, [(4, 3, 2)])[0] == pytest.approx((-a, r, s))
    assert volumes.volume_of(node).grid.spacing == pytest.approx(SPACING[::-1])


def test_a_transform_that_stretches_changes_the_spacing(scene):
    node = add_volume(blobs(), matrix(np.eye(3)))
    node.SetAndObserveTransformNodeID(add_transform(np.diag([2.0, 1.0, 0.5, 1.0])).GetID())
    assert volumes.volume_of(node).grid.spacing == pytest.approx((1.5, 1.1, 1.6))


def test_the_copy_is_ours(scene):
    node = add_volume(blobs(), matrix(np.eye(3)))
    image = volumes.volume_of(node)
    slicer.util.arrayFromVolume(node)[:] = 0
    assert image.array.max() == 700


@pytest.mark.parametrize("components", [3, 4])
def test_colour_is_kept_without_its_opacity(scene, components):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    colours = np.random.default_rng(0).integers(0, 255, (1, 5, 6, components)).astype(np.uint8)
    slicer.util.updateVolumeFromArray(node, colours)
    image = volumes.volume_of(node)
    assert image.channels == 3
    assert image.grid.shape == (1, 5, 6)
    assert np.array_equal(image.array, colours[..., :3])


def test_modality_comes_from_the_subject_hierarchy(scene):
    node = add_volume(blobs(), matrix(np.eye(3)))
    assert volumes.volume_of(node).modality is None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert volumes.volume_of(node).modality == "MR"


def _bent(scene):
    node = add_volume(blobs(), matrix(np.eye(3)))
    node.SetAndObserveTransformNodeID(add_bend().GetID())
    return node


def _labels(scene):
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(node, np.ones((2, 3, 4), np.int16))
    return node


def _vectors(scene):
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Flow")
    slicer.util.updateVolumeFromArray(node, np.ones((2, 3, 4, 2), np.float32))
    return node


def _nothing_allocated(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Bare")
    image = vtk.vtkImageData()
    image.SetDimensions(2, 3, 4)
    node.SetAndObserveImageData(image)
    return node


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_bent, "CT lies under the non-linear transform Bent: harden"),
        (_labels, "Labels is a label map"),
        (_vectors, "Flow has 2 values at each voxel"),
        (_nothing_allocated, "Bare has no grey values"),
        (lambda scene: scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"), "The volume Empty has no voxels"),
        (lambda scene: None, "There is no volume"),
    ],
    ids=["non-linear", "label map", "vectors", "no scalars", "no voxels", "none"],
)
def test_what_cannot_be_segmented_is_refused_with_the_reason(scene, make, words):
    with pytest.raises(InputError, match=words):
        volumes.volume_of(make(scene))


@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_the_slice_that_a_view_shows(scene, columns):
    node = add_volume(blobs(), matrix(columns))
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    for axis in range(3):  # a view along each axis of the voxels, on their slice 5
        across = columns[:, 2 - axis]
        up = columns[:, (3 - axis) % 3]
        place = volumes.to_world(node, [np.where(np.arange(3) == axis, 5.2, 3.0)])[0]
        view.SetSliceToRASByNTP(*across, *up, *place, 0)
        assert volumes.axis_across(node, view) == axis
        assert volumes.slice_shown(node, view) == (axis, 5)


def test_moving_a_volume_leaves_its_voxels_what_they_are(scene):
    node = add_volume(blobs(), matrix(np.eye(3)))
    state = volumes.State(node)
    turned = np.eye(4)
    turned[:3, :3] = OBLIQUE
    transform = add_transform(turned)
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert state.holds(node)
    node.SetAndObserveTransformNodeID(add_transform(np.diag([2.0, 1.0, 1.0, 1.0])).GetID())
    assert not state.holds(node)
    node.SetAndObserveTransformNodeID(None)
    assert state.holds(node)
    slicer.util.arrayFromVolume(node)[0] = 5
    slicer.util.arrayFromVolumeModified(node)
    assert not state.holds(node)
