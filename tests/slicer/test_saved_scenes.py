"""Prompts in saved scenes: they come back, and the work goes on."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
from SammedLib import markups
from SammedLib.journal_nodes import KIND

from napari_sammed.prompts import Box, MaskPrompt, Point, Stroke
from tests.slicer.scenes import OBLIQUE, Face, add_points, add_transform, add_volume, blobs, matrix, segment_mask

LEFT, MIDDLE, BELOW = ((blobs() == value) for value in (300, 500, 700))
IN_LEFT, IN_MIDDLE, IN_BELOW = ((4, 5, 6), (4, 5, 8), (4, 8, 6))


def work(scene) -> Face:
    """A moved, oblique volume with two segments, made by clicks, one of them with prompts of all kinds."""
    volume = add_volume(blobs(), matrix(OBLIQUE))
    shift = np.eye(4)
    shift[:3, 3] = 1 / 3, -2 / 3, 0.1
    volume.SetAndObserveTransformNodeID(add_transform(shift).GetID())
    face = Face()
    face.logic.open(volume)
    face.logic.next_segment("liver")
    for prompt in (Point(IN_LEFT), Point(IN_BELOW), Point((0.0, 0.0, 14.0), False)):
        face.logic.add(prompt)
        face.wait()
    face.logic.next_segment("lesion")
    for prompt in (
        Stroke(((4, 5, 7), (4, 7, 8))),
        MaskPrompt(np.ones((1, 2, 2), bool), (4, 5, 7)),
        Box((3, 4, 7), (6, 8, 10)),
    ):
        face.logic.add(prompt)
        face.wait()
    return face


def masks() -> dict[str, np.ndarray]:
    volume = slicer.mrmlScene.GetFirstNodeByName("CT")
    segmentation = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    core = segmentation.GetSegmentation()
    return {core.GetSegment(id_).GetName(): segment_mask(segmentation, id_, volume) for id_ in core.GetSegmentIDs()}


def reopen() -> Face:
    face = Face()
    face.logic.open(
        slicer.mrmlScene.GetFirstNodeByName("CT"), slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    )
    face.wait()
    return face


def segment_named(face: Face, name: str) -> str:
    return face.logic.segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_a_saved_scene_comes_back_with_its_prompts_and_goes_on(application, scene, tmp_path, ending):
    face = work(scene)
    before = masks()
    said = {}
    for name in ("liver", "lesion"):
        face.logic.select(segment_named(face, name))
        said[name] = face.logic.prompts()
    for storable in scene.GetNodesByClass("vtkMRMLStorableNode"):  # as saving in Slicer does; .mrb does so itself
        if ending == "mrml" and storable.GetName() in ("CT", face.logic.segmentation.GetName()):
            storable.AddDefaultStorageNode()
            storable.GetStorageNode().SetFileName(str(tmp_path / f"{storable.GetID()}.seg.nrrd"))
            storable.GetStorageNode().WriteData(storable)
    assert application.io_manager.save_scene(tmp_path / f"scene.{ending}")
    face.logic.close()
    scene.Clear(False)
    assert application.io_manager.load_scene(tmp_path / f"scene.{ending}")

    face = reopen()
    assert face.logic.session.segment_id == segment_named(face, "lesion")  # where it was left
    for name, prompts in said.items():
        face.logic.select(segment_named(face, name))
        assert face.logic.prompts() == prompts
        assert np.array_equal(masks()[name], before[name])
    face.logic.undo()
    face.logic.undo()
    face.logic.undo()
    face.logic.undo()
    face.wait()
    assert not masks()["lesion"].any()
    assert np.array_equal(masks()["liver"], LEFT | BELOW)
    for _ in range(4):
        face.logic.redo()
    face.wait()
    assert all(np.array_equal(masks()[name], before[name]) for name in before)
    face.logic.select(segment_named(face, "liver"))
    face.logic.add(Point(IN_MIDDLE))
    face.wait()
    assert np.array_equal(masks()["liver"], LEFT | BELOW | MIDDLE)
    assert len(face.logic.prompts()) == 4
    face.logic.close()


def test_points_are_shown_again(scene):
    face = work(scene)
    face.logic.select(segment_named(face, "liver"))
    positive, negative = add_points(), add_points()
    markups.show_points(face.logic.prompts(), face.logic.volume, positive, negative)
    assert [p.index for p in markups.points(positive, face.logic.volume)] == [
        pytest.approx(IN_LEFT),
        pytest.approx(IN_BELOW),
    ]
    assert negative.GetNumberOfControlPoints() == 1
    face.logic.close()


def test_another_line_costs_only_itself(scene):
    face = work(scene)
    node = next(n for n in scene.GetNodesByClass("vtkMRMLScriptedModuleNode") if n.GetAttribute("Sammed.Kind") == KIND)
    before = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    face.logic.add(Point((4.0, 6.0, 8.0)))
    face.wait()
    after = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    changed = {name for name in after if before.get(name) != after[name]}
    assert {name for name in changed if name in before} <= {"count", "together"}
    assert len(changed - {"count", "together"}) == 2  # the prompt and its answer
    face.logic.close()


@pytest.mark.parametrize("damage", ["line", "shape", "future"])
def test_a_journal_that_makes_no_sense_is_begun_anew_and_the_segments_stay(scene, damage):
    face = work(scene)
    before = masks()
    kept = face.logic.session.kept.node
    face.logic.close()
    if damage == "future":
        kept.SetParameter("format", "99")
    else:
        kept.SetParameter("line2" if damage == "line" else "line0", '{"shape": [1, 2, 3]}')
    face = reopen()
    face.logic.select(segment_named(face, "liver"))
    assert face.logic.prompts() is None
    assert all(np.array_equal(masks()[name], before[name]) for name in before)
    face.logic.add(Point(IN_MIDDLE))
    face.wait()
    assert (masks()["liver"] & MIDDLE).sum() == MIDDLE.sum()
    face.logic.undo()
    face.wait()
    assert np.array_equal(masks()["liver"], before["liver"])
    assert len(face.logic.session.kept.lines) > 1
    face.logic.close()
    face = reopen()  # and what was begun anew can be read
    assert face.logic.session.session.history.undone
    face.logic.close()
