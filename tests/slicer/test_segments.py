"""Masks written into segments: at their place, and without harm to their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
import vtk
from SammedLib import names
from SammedLib.segments import EditorLogic, SegmentWriter

from napari_sammed.geometry import Box
from tests.slicer.scenes import (
    OBLIQUE,
    PROPER,
    SHAPE,
    add_transform,
    add_volume,
    blobs,
    directions,
    matrix,
    segment_mask,
)

TURNED = {f"{''.join('RAS'[a] for a in order)}{flips}": directions(order, flips) for order, flips in PROPER}
TURNED["oblique"] = OBLIQUE
TURNED["mirrored"] = OBLIQUE * (1, -1, 1)

WHOLE = Box.of_shape(SHAPE)
Editor = slicer.vtkMRMLSegmentEditorNode
Allowed = slicer.vtkMRMLSegmentationNode


def add_segmentation() -> slicer.vtkMRMLSegmentationNode:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")


def writer_on(scene, volume, segmentation=None, **options) -> SegmentWriter:
    return SegmentWriter(volume, segmentation or add_segmentation(), EditorLogic(scene, volume, **options))


def ball(centre=(4, 6, 7), radius=2.6) -> np.ndarray:
    return np.linalg.norm(np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius


@pytest.mark.parametrize("moved", [False, True], ids=["", "transformed"])
@pytest.mark.parametrize("columns", TURNED.values(), ids=TURNED)
def test_a_written_mask_occupies_its_place_in_the_world(scene, columns, moved):
    volume = add_volume(blobs(), matrix(columns))
    to_world = matrix(columns)
    if moved:
        turn = np.eye(4)
        turn[:3] = [[0, -1, 0, 5], [0.6, 0, 0.8, -6], [-0.8, 0, 0.6, 7]]
        volume.SetAndObserveTransformNodeID(add_transform(turn).GetID())
        to_world = turn @ to_world
    writer = writer_on(scene, volume)
    segment = names.add_segment(writer.segmentation)
    mask = ball() & (np.indices(SHAPE)[2] > 5)  # not symmetric
    writer.write(segment, WHOLE, mask)
    # the labelmap as it lies in the world, without any help of the writer
    image = writer.segmentation.GetBinaryLabelmapInternalRepresentation(segment)
    image_to_world = vtk.vtkMatrix4x4()
    slicer.vtkSlicerSegmentEditorLogic.ImageToWorldMatrix(image, writer.segmentation, image_to_world)
    extent = image.GetExtent()
    found = set()
    for k in range(extent[4], extent[5] + 1):
        for j in range(extent[2], extent[3] + 1):
            for i in range(extent[0], extent[1] + 1):
                if image.GetScalarComponentAsDouble(i, j, k, 0):
                    found.add(tuple(np.round(image_to_world.MultiplyPoint((i, j, k, 1))[:3], 3)))
    k, j, i = np.nonzero(mask)
    expected = np.round((to_world @ np.stack([i, j, k, np.ones_like(i)]))[:3].T, 3)
    overlap = len(found & set(map(tuple, expected)))
    assert 2 * overlap / (len(found) + len(expected)) == 1.0  # Dice
    assert np.array_equal(segment_mask(writer.segmentation, segment, volume), mask)
    assert np.array_equal(writer.read(segment, WHOLE), mask)


def test_a_segmentation_under_another_transform_than_the_volume(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    segmentation = add_segmentation()
    shift = np.eye(4)
    shift[:3, 3] = 11, -7, 3
    segmentation.SetAndObserveTransformNodeID(add_transform(shift).GetID())
    writer = writer_on(scene, volume, segmentation)
    segment = names.add_segment(segmentation)
    writer.write(segment, WHOLE, ball())
    assert writer.exact
    assert np.array_equal(segment_mask(segmentation, segment, volume), ball())


def test_only_what_has_changed_is_written(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    writer = writer_on(scene, volume)
    segment = names.add_segment(writer.segmentation)
    written = []
    modify = writer.target.modify
    writer.target.modify = lambda s, i, labelmap, how: (written.append((how, labelmap)), modify(s, i, labelmap, how))
    assert writer.write(segment, WHOLE, ball()).box == Box.of_mask(ball())
    assert writer.write(segment, WHOLE, ball()) is None
    changed = ball()
    changed[4, 6, 7] = False
    changed[0, 0, 3] = True
    written.clear()
    edit = writer.write(segment, WHOLE, changed)
    assert [(how, labelmap.GetExtent()) for how, labelmap in written] == [
        ("remove", (7, 7, 6, 6, 4, 4)),
        ("add", (3, 3, 0, 0, 0, 0)),
    ]
    assert edit.box == Box((0, 0, 3), (5, 7, 8))
    assert np.array_equal(segment_mask(writer.segmentation, segment, volume), changed)


def three_touching(scene, volume, **options):
    """A writer on a segmentation with three segments side by side, in one shared layer."""
    writer = writer_on(scene, volume, **options)
    array = blobs()
    ids = [names.add_segment(writer.segmentation, name) for name in ("left", "middle", "below")]
    for segment, value in zip(ids, (300, 500, 700), strict=True):
        writer.write(segment, WHOLE, array == value)
    assert writer.segmentation.GetSegmentation().GetNumberOfLayers() == 1
    return writer, ids, [array == value for value in (300, 500, 700)]


def editable(mode: int, own: np.ndarray, others: list[np.ndarray], visible: list[np.ndarray]) -> np.ndarray:
    """Where Slicer's masking lets the first segment change."""
    everywhere = np.ones(SHAPE, bool)
    return {
        Allowed.EditAllowedEverywhere: everywhere,
        Allowed.EditAllowedInsideAllSegments: np.any([own, *others], 0),
        Allowed.EditAllowedInsideVisibleSegments: np.any([own, *visible], 0),
        Allowed.EditAllowedOutsideAllSegments: ~np.any(others, 0),
        Allowed.EditAllowedOutsideVisibleSegments: ~np.any(visible, 0),
        Allowed.EditAllowedInsideSingleSegment: others[0] | own,
    }[mode]


MASKING = {
    name.removeprefix("EditAllowed"): getattr(Allowed, name)
    for name in (
        "EditAllowedEverywhere",
        "EditAllowedInsideAllSegments",
        "EditAllowedInsideVisibleSegments",
        "EditAllowedOutsideAllSegments",
        "EditAllowedOutsideVisibleSegments",
        "EditAllowedInsideSingleSegment",
    )
}
OVERWRITE = {
    "none": Editor.OverwriteNone,
    "visible": Editor.OverwriteVisibleSegments,
    "all": Editor.OverwriteAllSegments,
}


@pytest.mark.parametrize("intensity", [False, True], ids=["", "bright only"])
@pytest.mark.parametrize("masking", MASKING.values(), ids=MASKING)
@pytest.mark.parametrize("overwrite", OVERWRITE.values(), ids=OVERWRITE)
def test_touching_segments_change_only_as_the_modes_allow(scene, overwrite, masking, intensity):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    writer, ids, before = three_touching(scene, volume, undo_states=5)
    node = writer.target.node
    node.SetOverwriteMode(overwrite)
    node.SetMaskMode(masking)
    node.SetMaskSegmentID(ids[1])
    if intensity:
        node.SetSourceVolumeIntensityMask(True)
        node.SetSourceVolumeIntensityMaskRange(200, 1000)
    writer.segmentation.GetDisplayNode().SetSegmentVisibility(ids[2], False)

    wanted = before[0].copy()
    wanted[:, :, 7:] |= ball((4, 7, 8), 3.5)[:, :, 7:]  # over both neighbours and the background
    wanted[3] = False  # and less of itself
    writer.target.save_state(writer.segmentation)
    edit = writer.write(ids[0], WHOLE, wanted)
    after = [segment_mask(writer.segmentation, segment, volume) for segment in ids]

    allowed = editable(masking, before[0], before[1:], [before[1]])
    if intensity:
        bright = (blobs() >= 200) & (blobs() <= 1000)
        allowed = allowed & bright
    changed = [b != a for b, a in zip(before, after, strict=True)]
    may_overwrite = [True, overwrite != Editor.OverwriteNone, overwrite == Editor.OverwriteAllSegments]
    # erasing inside one segment gives what is erased back to that segment, as Slicer always does
    given_back = before[0] & ~wanted if masking == Allowed.EditAllowedInsideSingleSegment else np.zeros(SHAPE, bool)
    assert (changed[0] & ~allowed).sum() == 0
    assert np.array_equal(after[0] & allowed, wanted & allowed)  # and there it does what was wanted
    for number in (1, 2):
        reach = after[0] & ~before[0] if may_overwrite[number] else np.zeros(SHAPE, bool)
        if number == 1:
            reach = reach | given_back
        assert (changed[number] & ~reach).sum() == 0

    # our own way back, and Slicer's
    layers = writer.segmentation.GetSegmentation().GetNumberOfLayers()
    writer.put(edit.box, edit.before)
    assert writer.segmentation.GetSegmentation().GetNumberOfLayers() == layers
    restored = [segment_mask(writer.segmentation, segment, volume) for segment in ids]
    assert all(np.array_equal(a, b) for a, b in zip(before, restored, strict=True))
    writer.put(edit.box, edit.after)
    again = [segment_mask(writer.segmentation, segment, volume) for segment in ids]
    assert all(np.array_equal(a, b) for a, b in zip(after, again, strict=True))
    writer.target.logic.Undo()
    restored = [segment_mask(writer.segmentation, segment, volume) for segment in ids]
    assert all(np.array_equal(a, b) for a, b in zip(before, restored, strict=True))


def test_a_segmentation_on_other_voxels_gets_the_nearest(scene):
    coarse = add_volume(blobs((5, 6, 8)), np.diag([2.0, 2.0, 4.0, 1.0]), "Coarse")
    segmentation = add_segmentation()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(coarse)
    volume = add_volume(blobs(), np.diag([1.0, 1.0, 2.0, 1.0]))
    writer = writer_on(scene, volume, segmentation)
    assert not writer.exact
    segment = names.add_segment(segmentation)
    mask = np.zeros(SHAPE, bool)
    mask[2:7, 2:9, 3:10] = True
    writer.write(segment, WHOLE, mask)
    found = segment_mask(segmentation, segment, coarse)
    k, j, i = np.meshgrid(*(np.arange(n) for n in found.shape), indexing="ij")
    k, j, i = (np.minimum(2 * axis, size - 1) for axis, size in zip((k, j, i), SHAPE, strict=True))
    assert np.array_equal(found, mask[k, j, i])
    read = writer.read(segment, WHOLE)
    assert 2 * (read & mask).sum() / (read.sum() + mask.sum()) > 0.7


def test_reading_is_a_part_of_the_whole(scene):
    volume = add_volume(blobs(), matrix(OBLIQUE))
    writer = writer_on(scene, volume)
    segment = names.add_segment(writer.segmentation)
    assert writer.extent(segment) is None
    assert not writer.read(segment, WHOLE).any()
    writer.write(segment, WHOLE, ball())
    part = Box((3, 0, 6), (9, 7, 15))
    assert np.array_equal(writer.read(segment, part), ball()[part.slices])
    assert not writer.read(segment, Box((0, 0, 0), (1, 1, 1))).any()


def test_a_name_that_terminologies_know_brings_its_code_and_colour(scene):
    segmentation = add_segmentation()
    core = segmentation.GetSegmentation()
    liver = core.GetSegment(names.add_segment(segmentation, "Liver"))
    assert liver.GetName() == "Liver"
    assert "SCT^10200004^Liver" in liver.GetTerminology()
    assert np.round(np.multiply(liver.GetColor(), 255)).astype(int).tolist() == [221, 130, 101]
    kidney = core.GetSegment(names.add_segment(segmentation, "left kidney"))
    assert "SCT^64033007^Kidney~SCT^7771000^Left" in kidney.GetTerminology()


def test_other_names_get_a_colour_of_their_own(scene):
    segmentation = add_segmentation()
    core = segmentation.GetSegmentation()
    segments = [core.GetSegment(names.add_segment(segmentation, name)) for name in ("", "thing", "liver 2")]
    assert [segment.GetName() for segment in segments] == ["Segment_1", "thing", "liver 2"]
    assert len({segment.GetColor() for segment in segments}) == 3


def test_surfaces_are_made_voxels_before_they_are_edited(scene):
    volume = add_volume(blobs((40, 40, 40)), np.eye(4))
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(20, 20, 20)
    sphere.SetRadius(9)
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.Update()
    segmentation = add_segmentation()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "sphere", (1, 0, 0), "sphere")
    writer = writer_on(scene, volume, segmentation)
    assert writer.read("sphere", Box.of_shape((40, 40, 40))).sum() == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.05)
