"""The logic of the extension on real scenes: prompts in, segments out, and back again."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'napari-sammed[slicer]'")

import slicer
from SammedLib import names, volumes
from SammedLib.segments import EditorLogic

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point
from tests.slicer.scenes import OBLIQUE, Face, add_bend, add_points, add_volume, blobs, matrix, segment_mask
from tests.thresholder import Ambiguous, Thresholder

LEFT, MIDDLE, BELOW = ((blobs() == value) for value in (300, 500, 700))
IN_LEFT, IN_MIDDLE, IN_BELOW = ((4, 5, 6), (4, 5, 8), (4, 8, 6))


@pytest.fixture
def face(scene):
    face = Face()
    yield face
    face.logic.close()


@pytest.fixture
def volume(scene):
    return add_volume(blobs(), matrix(OBLIQUE))


def click(face: Face, index: tuple, positive: bool = True) -> None:
    """Place a fiducial on a voxel, and wait for the answer."""
    node = add_points(volumes.to_world(face.logic.volume, [index])[0])
    face.logic.add_point(node, 0, positive=positive)
    face.wait()


def masks(face: Face) -> list[np.ndarray]:
    segmentation = face.logic.segmentation
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    return [segment_mask(segmentation, segment_id, face.logic.volume) for segment_id in ids]


def same(found: list[np.ndarray], *expected: np.ndarray) -> bool:
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


NOTHING = np.zeros(LEFT.shape, bool)


def test_clicks_become_segments(face, volume):
    segmentation = face.logic.open(volume)
    assert segmentation.GetScene() is not None
    click(face, IN_LEFT)
    assert same(masks(face), LEFT)
    face.logic.next_segment("liver")
    click(face, IN_MIDDLE)
    assert same(masks(face), LEFT, MIDDLE)
    assert segmentation.GetSegmentation().GetNthSegment(1).GetName() == "liver"
    assert face.backends == 1
    assert len(face.answers) == 2


def test_what_is_asked_before_the_session_is_open_waits_for_it(face, volume):
    face.logic.open(volume)
    assert face.logic.session is None
    face.logic.add(Point(IN_LEFT))
    face.logic.next_segment("other")
    face.logic.add(Point(IN_MIDDLE))
    assert face.logic.busy
    face.wait()
    assert same(masks(face), LEFT, MIDDLE)


def test_undo_and_redo_go_through_all_segments(face, volume):
    face.logic.open(volume)
    click(face, IN_LEFT)
    click(face, IN_BELOW)
    face.logic.next_segment()
    click(face, IN_MIDDLE)
    story = [(LEFT | BELOW, MIDDLE), (LEFT | BELOW, NOTHING), (LEFT, NOTHING), (NOTHING, NOTHING)]
    assert same(masks(face), *story[0])
    for expected in story[1:]:
        face.logic.undo()
        face.wait()
        assert same(masks(face), *expected)
    face.logic.undo()
    face.wait()
    assert same(masks(face), NOTHING, NOTHING)
    for expected in reversed(story[:-1]):
        face.logic.redo()
        face.wait()
        assert same(masks(face), *expected)


def test_one_state_of_the_editors_undo_an_action(face, volume):
    target = EditorLogic(slicer.mrmlScene, volume, undo_states=10)
    saved = []
    save_state = target.save_state
    target.save_state = lambda segmentation: (saved.append(segmentation), save_state(segmentation))
    face.logic.open(volume, target=target)
    face.logic.next_segment()
    click(face, IN_LEFT)
    assert len(saved) == 2  # the segment, and the click
    click(face, IN_BELOW)
    assert len(saved) == 3
    click(face, (0, 0, 0), positive=False)  # changes nothing
    assert len(saved) == 3


def test_the_editors_own_undo_is_followed(face, volume):
    target = EditorLogic(slicer.mrmlScene, volume, undo_states=10)
    face.logic.open(volume, target=target)
    face.logic.next_segment()
    click(face, IN_LEFT)
    click(face, IN_BELOW)
    target.logic.Undo()
    assert same(masks(face), LEFT)
    click(face, IN_MIDDLE)  # the taken-back click is no longer a prompt
    assert same(masks(face), LEFT | MIDDLE)
    assert [p.index for p in face.logic.prompts()] == [pytest.approx(IN_LEFT), pytest.approx(IN_MIDDLE)]
    target.logic.Undo()
    target.logic.Undo()
    target.logic.Redo()
    face.logic.undo()
    face.wait()
    assert same(masks(face), NOTHING)


@pytest.mark.parametrize("overwrite", ["None", "AllSegments"])
def test_neighbours_are_overwritten_only_if_asked_for_and_undo_brings_them_back(face, volume, overwrite):
    segmentation = face.logic.open(volume)
    face.wait()
    face.logic.next_segment("neighbour")
    click(face, IN_MIDDLE)
    node = face.logic.session.writer.target.node
    assert node.GetOverwriteMode() == slicer.vtkMRMLSegmentEditorNode.OverwriteNone  # the default
    node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, f"Overwrite{overwrite}"))
    face.logic.next_segment("all of it")
    face.logic.add(Point(IN_LEFT))
    face.logic.add(Point(IN_MIDDLE))
    face.wait()
    taken = overwrite == "AllSegments"
    assert same(masks(face), NOTHING if taken else MIDDLE, LEFT | MIDDLE)
    objects = list(face.logic.session.session.objects.values())
    assert (objects[0].mask is None) == taken  # and the session knows
    assert segmentation.GetSegmentation().GetNumberOfLayers() == (1 if taken else 2)
    face.logic.undo()
    face.wait()
    assert same(masks(face), MIDDLE, LEFT)
    face.logic.redo()
    face.wait()
    assert same(masks(face), NOTHING if taken else MIDDLE, LEFT | MIDDLE)


def test_masking_is_minded_and_the_session_knows_what_it_left(face, volume):
    face.logic.open(volume)
    face.logic.next_segment("neighbour")
    click(face, IN_MIDDLE)
    node = face.logic.session.writer.target.node
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    face.logic.next_segment()
    face.logic.add(Point(IN_LEFT))
    face.wait()
    face.logic.add(Point(IN_MIDDLE))
    face.wait()
    assert same(masks(face), MIDDLE, LEFT)
    assert face.logic.state.mask.mask.sum() == LEFT.sum()
    face.logic.undo()
    face.wait()
    assert same(masks(face), MIDDLE, LEFT)
    assert len(face.logic.prompts()) == 1
    face.logic.undo()
    face.wait()
    assert same(masks(face), MIDDLE, NOTHING)
    face.logic.redo()
    face.logic.redo()
    face.wait()
    assert same(masks(face), MIDDLE, LEFT)
    assert face.logic.state.mask.mask.sum() == LEFT.sum()


def test_what_was_painted_is_taken_over_and_can_be_undone(face, volume):
    segmentation = face.logic.open(volume)
    click(face, IN_LEFT)
    painted = LEFT.copy()
    painted[0, 0, :3] = True
    painted[3, 4:6, 5] = False
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), segmentation, face.logic.segment_id, volume
    )
    click(face, (0, 0, 14), positive=False)
    assert same(masks(face), painted), "the model finds nothing of it, and yet it stays"
    face.logic.undo()
    face.wait()
    assert same(masks(face), painted)
    assert face.logic.state.mask.mask.sum() == painted.sum()
    face.logic.undo()
    face.wait()
    assert same(masks(face), LEFT)


def test_a_segment_from_elsewhere_is_gone_on_from(face, volume):
    segmentation = face.logic.open(volume)
    other = names.add_segment(segmentation, "painted")
    slicer.util.updateSegmentBinaryLabelmapFromArray(BELOW.astype(np.uint8), segmentation, other, volume)
    face.logic.select(other)
    click(face, IN_LEFT)
    assert face.logic.state.name == "painted"
    found = masks(face)[0]
    assert (found & LEFT).sum() == LEFT.sum()
    face.logic.undo()
    face.wait()
    assert same(masks(face), BELOW)
    face.logic.redo()
    face.wait()
    assert same(masks(face), found)


def test_readings_of_an_ambiguous_answer(scene, volume):
    face = Face(thresholder=Ambiguous())
    face.logic.open(volume)
    face.wait()
    click(face, IN_LEFT)
    own = masks(face)[0]
    face.logic.next_reading()
    face.mailbox.run()
    inside = masks(face)[0]
    assert inside.sum() < own.sum()
    face.logic.undo()
    face.wait()
    assert same(masks(face), own)
    face.logic.close()


def test_propagation_through_slices(face, scene):
    grey = np.random.default_rng(0).integers(96, 104, (9, 30, 30)).astype(np.int16)
    bar = np.zeros(grey.shape, bool)
    bar[2:7, 8:20, 10:22] = True
    grey[bar] = 300
    volume = add_volume(grey, matrix(OBLIQUE))
    inside = (4, 12, 15)
    face.logic.model = "planar"
    face.logic.open(volume)
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    view.SetSliceToRASByNTP(*OBLIQUE[:, 2], *OBLIQUE[:, 0], *volumes.to_world(volume, [inside])[0], 0)
    axis, index = volumes.slice_shown(volume, view)
    assert (axis, index) == (0, 4)
    face.logic.add(Point(inside), axis=axis)
    face.wait()
    assert Box.of_mask(masks(face)[0]) == Box((4, 8, 10), (5, 20, 22))
    face.logic.propagate(axis=axis)
    face.wait()
    assert same(masks(face), bar)
    assert face.progress
    face.logic.undo()
    face.wait()
    assert Box.of_mask(masks(face)[0]) == Box((4, 8, 10), (5, 20, 22))


def test_prompts_are_replaced_and_removed(face, volume):
    face.logic.open(volume)
    click(face, IN_LEFT)
    click(face, IN_BELOW)
    face.logic.replace(1, Point(IN_MIDDLE))
    face.wait()
    assert same(masks(face), LEFT | MIDDLE)
    face.logic.remove(0)
    face.wait()
    assert same(masks(face), MIDDLE)
    face.logic.undo()
    face.wait()
    assert same(masks(face), LEFT | MIDDLE)


def test_bad_prompts_are_refused_at_once_and_change_nothing(face, volume):
    segmentation = face.logic.open(volume)
    with pytest.raises(InputError, match="outside of the volume CT"):
        face.logic.add_point(add_points((1000, 0, 0)), 0)
    with pytest.raises(InputError, match="outside the image"):
        face.logic.add(Point((99, 0, 0)))
    face.wait()
    with pytest.raises(InputError, match="neither a mask nor a prompt"):
        face.logic.refine()
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 0
    assert not face.logic.session.session.objects
    assert not face.logic.session.session.history.done


def test_nothing_is_open_at_first(face, volume):
    with pytest.raises(InputError, match="no volume to segment"):
        face.logic.undo()
    volume.SetAndObserveTransformNodeID(add_bend().GetID())
    with pytest.raises(InputError, match="non-linear"):
        face.logic.open(volume)
    assert face.logic.volume is None


def test_an_image_that_no_model_can_use_says_so(face, scene):
    volume = add_volume(np.zeros((3, 4, 5), np.int16), np.eye(4))
    face.logic.open(volume)
    with pytest.raises(InputError, match="same value"):
        face.wait()
    with pytest.raises(InputError, match="same value"):
        face.logic.add(Point((1, 1, 1)))
    assert not face.logic.busy


def test_a_model_that_fails_is_reported_and_the_next_prompt_works(scene, volume):
    class Broken(Thresholder):
        def decode(self, *arguments):
            if self.fails:
                raise RuntimeError("out of order")
            return super().decode(*arguments)

    model = Broken()
    model.fails = True
    face = Face(thresholder=model)
    face.logic.open(volume)
    with pytest.raises(RuntimeError, match="out of order"):
        click(face, IN_LEFT)
    model.fails = False
    click(face, IN_MIDDLE)
    assert same(masks(face), LEFT | MIDDLE)
    face.logic.close()


# ---- in mid-flight ---------------------------------------------------------------------------------------------------


class Held(Thresholder):
    """Answers when it is let."""

    def __init__(self, planar: bool = False) -> None:
        super().__init__(planar)
        self.asked, self.let = threading.Event(), threading.Event()

    def decode(self, *arguments):
        self.asked.set()
        assert self.let.wait(30)
        return super().decode(*arguments)


@pytest.fixture
def held(scene, volume):
    """A face whose first question is on its way."""
    face = Face(thresholder=Held())
    face.logic.open(volume)
    face.wait()
    face.logic.add(Point(IN_LEFT))
    assert face.models["thresholder"].asked.wait(30)
    yield face
    face.models["thresholder"].let.set()
    face.logic.close()


def settle(face: Face) -> None:
    """Let the model answer, and everything that comes of it come."""
    face.models["thresholder"].let.set()
    face.wait(lambda: not face.logic._expected)


def test_cancelling_drops_the_answer_and_the_next_prompt_asks_for_both(held):
    held.logic.cancel()
    settle(held)
    assert same(masks(held), NOTHING)
    assert not held.answers
    click(held, IN_BELOW)
    assert same(masks(held), LEFT | BELOW)


def test_undoing_a_prompt_that_is_not_answered_yet(held):
    held.logic.undo()
    settle(held)
    assert same(masks(held), NOTHING)
    assert held.logic.state is None


def test_two_masked_answers_that_arrive_together(scene, volume):
    face = Face(thresholder=Thresholder(), planar=Held(planar=True))
    face.logic.open(volume)
    face.logic.next_segment("neighbour")
    click(face, IN_MIDDLE)
    face.logic.session.writer.target.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    face.logic.next_segment()
    face.logic.model = "planar"
    face.logic.add(Point((4, 5, 8)), axis=0)
    face.logic.add(Point((5, 5, 8)), axis=0)
    face.models["planar"].let.set()
    face.wait()
    assert len(face.answers) == 3
    assert same(masks(face), MIDDLE, NOTHING)
    face.logic.session.follow()
    assert face.logic.state.mask is None
    assert same(masks(face), MIDDLE, NOTHING)
    face.logic.close()


def test_a_volume_that_is_deleted_meanwhile(held, scene):
    segmentation = held.logic.segmentation
    scene.RemoveNode(held.logic.volume)
    assert held.logic.volume is None
    settle(held)
    assert not held.answers
    core = segmentation.GetSegmentation()
    assert not segmentation.GetBinaryLabelmapInternalRepresentation(core.GetNthSegmentID(0)).GetNumberOfPoints()
    with pytest.raises(InputError, match="no volume"):
        held.logic.add(Point(IN_LEFT))
    assert not [n for n in scene.GetNodesByClass("vtkMRMLScriptedModuleNode") if n.GetAttribute("Sammed.Kind")]


def test_a_segmentation_that_is_deleted_meanwhile(held, scene, volume):
    scene.RemoveNode(held.logic.segmentation)
    settle(held)
    assert not held.answers
    held.logic.open(volume)
    click(held, IN_BELOW)
    assert same(masks(held), BELOW)


def test_a_segment_that_is_deleted_meanwhile_stays_deleted(held, volume):
    held.logic.segmentation.GetSegmentation().RemoveSegment(held.logic.segment_id)
    settle(held)
    assert masks(held) == []
    click(held, IN_BELOW)
    assert same(masks(held), BELOW)


def test_a_scene_that_is_closed_meanwhile_and_another_one_with_the_same_ids(held, scene):
    old_volume, old = held.logic.volume.GetID(), held.logic.segmentation.GetID()
    scene.Clear(False)
    assert held.logic.segmentation is None
    volume = add_volume(blobs(), matrix(OBLIQUE))
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    names.add_segment(segmentation)
    assert (volume.GetID(), segmentation.GetID()) == (old_volume, old)
    settle(held)
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert not segment_mask(segmentation, segmentation.GetSegmentation().GetNthSegmentID(0), volume).any()
    held.logic.open(volume, segmentation)
    click(held, IN_BELOW)
    assert same(masks(held)[1:], BELOW)


def test_switching_volumes_meanwhile_writes_to_the_one_that_was_asked_about(held):
    first, first_volume = held.logic.segmentation, held.logic.volume
    held.logic.open(add_volume(blobs()[::-1].copy(), matrix(np.eye(3)), "Other"))
    held.logic.add(Point((4, 8, 6)))
    held.models["thresholder"].let.set()
    held.wait()
    assert np.array_equal(masks(held)[0], BELOW[::-1])
    held.logic.open(first_volume, first)
    assert same(masks(held), LEFT)
    assert held.backends == 1
    held.logic.undo()
    held.wait()
    assert same(masks(held), NOTHING)


def test_closing_meanwhile(held):
    held.logic.close()
    settle(held)
    assert same([segment_mask(held.logic.segmentation, i, held.logic.volume) for i in ()])


def let_arrive(face: Face, prompt: Point) -> None:
    """Have a prompt answered, without the main thread noticing yet."""
    face.logic.add(prompt)
    end = time.monotonic() + 30
    while not any(action.asks for action in face.logic.session.session.history.done) or face.logic.session.session.busy:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.05)  # it is handed over just after


@pytest.mark.parametrize("gone", ["volume", "segmentation"])
def test_an_answer_that_is_there_but_not_written_when_a_node_is_deleted(face, volume, scene, gone):
    segmentation = face.logic.open(volume)
    face.wait()
    let_arrive(face, Point(IN_LEFT))
    scene.RemoveNode(getattr(face.logic, gone))
    face.mailbox.run()
    assert not face.answers
    assert not face.logic.busy
    segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
    assert not segmentation.GetBinaryLabelmapInternalRepresentation(segment_id).GetNumberOfPoints()


@pytest.mark.parametrize("swap", ["voxels", "image"])
def test_an_answer_about_voxels_that_are_there_no_more(face, volume, swap):
    face.logic.open(volume)
    face.wait()
    let_arrive(face, Point(IN_LEFT))
    if swap == "voxels":
        slicer.util.updateVolumeFromArray(volume, blobs()[:, :, ::-1].copy())
    else:
        volume.SetAndObserveImageData(add_volume(blobs()[:, :, ::-1].copy(), np.eye(4), "Other").GetImageData())
    face.mailbox.run()
    assert same(masks(face), NOTHING)
    click(face, (4, 8, 8))
    assert same(masks(face), BELOW[:, :, ::-1])


def test_an_answer_that_arrives_while_its_prompt_is_taken_back(face, volume):
    face.logic.open(volume)
    face.wait()
    let_arrive(face, Point(IN_LEFT))
    face.logic.session.follow = lambda: None  # as if it had come just after this
    face.logic.undo()
    face.wait()
    assert same(masks(face), NOTHING)


def test_painting_before_an_answer_is_written(face, volume):
    segmentation = face.logic.open(volume)
    click(face, IN_BELOW)
    let_arrive(face, Point(IN_LEFT))
    painted = BELOW.copy()
    painted[0, 0, 3] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), segmentation, face.logic.segment_id, volume
    )
    face.logic.session.follow()
    assert same(masks(face), painted | LEFT)
    assert face.logic.state.mask.mask.sum() == (painted | LEFT).sum()


def test_opening_again_after_a_failure_keeps_the_saved_prompts(face, volume):
    segmentation = face.logic.open(volume)
    click(face, IN_LEFT)

    def fails():
        raise InputError("The server is asleep.")

    face.logic.use_backend(fails)
    with pytest.raises(InputError, match="asleep"):
        face.wait()
    face.logic.open(volume, segmentation)
    with pytest.raises(InputError, match="asleep"):
        face.wait()
    face.logic.use_backend(face.make_backend)
    face.wait()
    assert len(face.logic.prompts()) == 1
    click(face, IN_BELOW)
    assert same(masks(face), LEFT | BELOW)


def test_voxels_that_change_start_a_new_session(face, volume):
    segmentation = face.logic.open(volume)
    click(face, IN_LEFT)
    turned = blobs()[:, :, ::-1].copy()
    slicer.util.updateVolumeFromArray(volume, turned)
    click(face, (4, 8, 8))
    assert np.array_equal(face.logic.session.session.image.array, turned)
    assert face.logic.segmentation is segmentation
    assert len(masks(face)) == 1  # the segment that was the current one is gone on from
    assert masks(face)[0][BELOW[:, :, ::-1]].all()
    assert len(face.logic.prompts()) == 1
    face.logic.undo()
    face.wait()
    assert same(masks(face), LEFT)


def test_moving_the_volume_keeps_the_session(face, volume):
    from tests.slicer.scenes import add_transform

    segmentation = face.logic.open(volume)
    click(face, IN_LEFT)
    shift = np.eye(4)
    shift[:3, 3] = 40, 50, 60
    transform = add_transform(shift)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    click(face, IN_BELOW)
    assert same(masks(face), LEFT | BELOW)
    assert len(face.logic.prompts()) == 2


def test_another_backend_goes_on_where_the_first_one_was(face, volume):
    face.logic.open(volume)
    click(face, IN_LEFT)
    face.logic.use_backend(face.make_backend)
    face.wait()
    click(face, IN_BELOW)
    assert face.backends == 2
    assert same(masks(face), LEFT | BELOW)
    assert len(face.logic.prompts()) == 2
    face.logic.undo()
    face.wait()
    assert same(masks(face), LEFT)


def test_prompts_about_voxels_that_are_there_no_more_are_not_asked_at_another_backend(held, volume):
    slicer.util.updateVolumeFromArray(volume, blobs()[:, :, ::-1].copy())
    held.logic.use_backend(held.make_backend)
    settle(held)
    held.wait()
    assert same(masks(held), NOTHING) and held.logic.prompts() is None
    click(held, (4, 8, 8))
    assert same(masks(held), BELOW[:, :, ::-1]) and len(held.logic.prompts()) == 1


def test_one_volume_that_can_be_segmented_no_more_does_not_hold_others_up_at_another_backend(face, volume, scene):
    face.logic.open(volume)
    click(face, IN_LEFT)
    other = add_volume(blobs(), matrix(OBLIQUE), "Bent")
    face.logic.open(other)
    face.wait()
    face.logic.open(volume, scene.GetFirstNodeByName("CT segmentation"))
    other.SetAndObserveTransformNodeID(add_bend().GetID())
    face.logic.use_backend(face.make_backend)
    with pytest.raises(InputError, match="non-linear"):
        face.wait()
    face.wait()
    assert face.logic.volume is volume
    click(face, IN_BELOW)
    assert same(masks(face), LEFT | BELOW)
