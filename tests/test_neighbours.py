"""Finished neighbours tell a model what is not the object: recorded with the question, replayed exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.session import Session
from napari_sammed.session.actions import ObjectState
from napari_sammed.session.neighbours import MOST, beside, told
from napari_sammed.session.records import replay
from napari_sammed.volume import Volume

GRID = Grid.plain((20, 60, 60), (4.0, 1.0, 1.0))


def block(low, high) -> MaskPrompt:
    return MaskPrompt(np.ones(np.subtract(high, low), bool), low)


def finished(label: int, low, high, locked: bool = True) -> ObjectState:
    return ObjectState(label, f"Object {label}", mask=block(low, high), locked=locked)


CLICK = Point((10, 30, 30))
SLICE = Box((10, 0, 0), (11, 60, 60))


def test_points_lie_well_inside_of_the_slice_that_is_asked_about():
    states = [finished(1, (5, 20, 40), (15, 41, 51)), finished(2, (0, 20, 5), (10, 40, 20))]
    points = beside(Prompts((CLICK,)), SLICE, states, 9, GRID, True)
    assert {label for label, _ in points} == {1}, "the other one does not reach this slice"
    for _, point in points:
        assert not point.positive and point.index[0] == 10
        assert 22 <= point.index[1] <= 38 and 41 <= point.index[2] <= 48
    assert beside(Prompts((CLICK,)), None, states, 9, GRID, False), "in the volume it does"
    assert {label for label, _ in beside(Prompts((CLICK,)), None, states, 9, GRID, False)} == {1, 2}


def test_a_long_neighbour_gives_its_middle_and_a_place_near_the_prompts():
    mask = np.zeros((1, 14, 13), bool)
    mask[0, 5:8] = mask[0, :, 8:] = True  # thin at the prompts, thick away from them
    tadpole = ObjectState(1, "Tadpole", mask=MaskPrompt(mask, (10, 24, 33)), locked=True)
    points = beside(Prompts((CLICK,)), SLICE, [tadpole, finished(2, (10, 40, 30), (11, 45, 35))], 9, GRID, True)
    assert sorted(label for label, _ in points) == [1, 1, 2]
    first, second = (point.index for label, point in points if label == 1)
    assert first[2] >= 42 and second[2] < 36 and second[1] == 30


def test_only_near_finished_others_count_and_at_most_some_of_them():
    prompts = Prompts((CLICK,))
    assert not beside(prompts, SLICE, [finished(1, (5, 20, 40), (15, 41, 51), locked=False)], 9, GRID, True)
    assert not beside(prompts, SLICE, [finished(9, (5, 20, 40), (15, 41, 51))], 9, GRID, True)
    assert not beside(prompts, SLICE, [finished(1, (5, 0, 52), (15, 8, 60))], 9, GRID, True), "too far"
    assert not beside(prompts, SLICE, [finished(1, (5, 25, 25), (15, 41, 41))], 9, GRID, True), "clicked on"
    only_negative = Prompts((Point((10, 30, 30), False),))
    assert not beside(only_negative, SLICE, [finished(1, (5, 20, 40), (15, 41, 51))], 9, GRID, True)
    many = [finished(n, (5, 20, 32 + 2 * n), (15, 41, 33 + 2 * n)) for n in range(1, 7)]
    near = list(dict.fromkeys(label for label, _ in beside(prompts, SLICE, many, 9, GRID, True)))
    assert near == [1, 2, 3, 4] and len(near) == MOST


def test_a_thin_neighbour_of_a_large_image_is_not_missed():
    grid = Grid.plain((500, 500), (1.0, 1.0))
    mask = np.zeros((300, 300), bool)
    mask[::7, 3] = True  # between the samples
    state = ObjectState(1, "Vessel", mask=MaskPrompt(mask, (100, 260)), locked=True)
    points = beside(Prompts((Point((240, 250)),)), None, [state], 2, grid, True)
    assert points and all(mask[int(p.index[0]) - 100, int(p.index[1]) - 260] for _, p in points)


def test_the_sentence_names_the_neighbours():
    point = Point((0, 0), False)
    names = {1: "Liver", 2: "Spleen"}
    assert told((), names) == ""
    assert told(((1, point),), names).startswith("One point inside of Liver, finished,")
    three = ((1, point), (1, point), (2, point))
    assert told(three, names).startswith("3 points inside of Liver and Spleen, finished,")


# ---- in a session, with the random walker ------------------------------------------------------------------------


@pytest.fixture
def volume() -> Volume:
    """Two blocks of nearly the same grey that touch: one click on the one flows into the other."""
    array = np.random.default_rng(0).normal(0, 1, (12, 40, 60)).astype(np.float32)
    array[2:10, 10:30, 5:30] += 100
    array[2:10, 10:30, 30:55] += 100.2
    return Volume(array, Grid.plain(array.shape, (2.0, 2.0, 2.0)), "two blocks")


@pytest.fixture
def backend():
    backend = LocalBackend()
    yield backend
    backend.shutdown()


def segmented(session: Session) -> np.ndarray:
    session.new_object("right")
    session.add(Point((6, 20, 42)), model="random-walker").result(60)
    return session.claimed[2].mask


def test_a_finished_neighbour_keeps_the_walker_out_and_is_replayed(volume, backend, tmp_path):
    left = block((2, 10, 5), (10, 30, 30))

    def leaked(mask: MaskPrompt) -> int:
        voxels = np.zeros(volume.grid.shape, bool)
        voxels[mask.extent.slices] = mask.mask
        return int(voxels[left.extent.slices].sum())

    with Session(volume, backend) as plain:
        plain.take(left, "left")
        plain.lock(1)
        without = leaked(segmented(plain))
    path = tmp_path / "session.jsonl"
    with Session(volume, backend, journal=path) as session:
        session.neighbours = True
        session.take(left, "left")
        session.lock(1)
        mask = segmented(session)
        action = session.history.done[-1]
        assert [label for label, _ in action.beside][:1] == [1]
        assert session.objects[2].prompts.items == (Point((6, 20, 42)),), "they are no prompts of the object"
        reductions = session.history.answers[action.id].reductions
        assert any("inside of left, finished" in sentence for sentence in reductions)
        assert leaked(mask) < without / 4
        session.lock(1, False)
        session.delete(1)  # what becomes of the neighbour later changes nothing of what was asked
        labels = session.labels()
        count = len(session.history.done)
        session.undo()
        session.redo()
        assert len(session.history.done) == count
    history = replay(path, volume, backend)
    np.testing.assert_array_equal(history.labels(volume.grid.box), labels)
    stored = [line["beside"] for line in map(json.loads, path.read_text().splitlines()) if "beside" in line]
    assert len(stored) == 1 and history.find(action.id).beside == action.beside


def test_changed_and_removed_prompts_take_them_along_networks_of_boxes_get_none(volume, backend):
    with Session(volume, backend) as session:
        session.neighbours = True
        session.take(block((2, 10, 5), (10, 30, 30)), "left")
        session.lock(1)
        segmented(session)
        session.add(Point((6, 15, 42))).result(60)
        session.replace(1, Point((6, 25, 42))).result(60)
        assert session.history.done[-1].do == "replace" and session.history.done[-1].beside
        session.remove(1).result(60)
        assert session.history.done[-1].do == "remove" and session.history.done[-1].beside
        session.new_object()
        box = Box((6, 12, 32), (7, 28, 50))
        session.add(box, model="litemedsam").cancel()
        assert session.history.done[-1].prompt == box and not session.history.done[-1].beside
        session.neighbours = False
        session.add(Point((6, 15, 42)), model="random-walker").cancel()
        assert not session.history.done[-1].beside
