"""The overlap rule "ask": whose voxels they are stays as it is until the user decides, whatever happens meanwhile."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from napari_sammed.volume import read_volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

MODEL = "thresholder"


@pytest.fixture
def backend():
    backend = LocalBackend(models={MODEL: Thresholder()})
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls()


@pytest.fixture
def session(scene, backend, tmp_path):
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl", overlap="ask") as session:
        session.model = MODEL
        yield session


def block(low: int, high: int) -> MaskPrompt:
    """Slices 5 to 7, rows 10 to 19, some columns."""
    return MaskPrompt(np.ones((3, 10, high - low), bool), (5, 10, low))


def row(session: Session) -> list[int]:
    """Labels at columns 10, 15, 20, ... in the middle of the blocks."""
    return session.labels()[6, 15, 10:40:5].tolist()


def asked(session: Session) -> list[tuple[int, int, int]]:
    return [(contest.label, contest.holder, contest.voxels) for contest in session.contests]


@pytest.fixture
def two(session):
    session.take(block(10, 20), "spleen")
    session.take(block(15, 30), "liver")
    return session


def test_voxels_stay_with_the_object_that_had_them_until_the_user_decides(two):
    assert row(two) == [1, 1, 2, 2, 0, 0] and asked(two) == [(2, 1, 150)]
    assert int(two.objects[2].mask.mask.sum()) == 300 and int(two.claimed[2].mask.mask.sum()) == 450
    two.settle(two.contests[0], 2)
    assert row(two) == [1, 2, 2, 2, 0, 0] and not two.contests
    assert two.history.done[-1].do == "settle" and two.current == 2
    two.undo()
    assert row(two) == [1, 1, 2, 2, 0, 0] and asked(two) == [(2, 1, 150)] and two.current == 2
    two.redo()
    assert row(two) == [1, 2, 2, 2, 0, 0] and not two.contests
    two.undo()
    two.settle(two.contests[0], 1)
    assert row(two) == [1, 1, 2, 2, 0, 0] and not two.contests
    two.delete(1)
    assert row(two) == [0, 0, 2, 2, 0, 0], "left is left, also when nobody has it any more"


def test_what_nobody_has_any_more_falls_to_the_object_it_was_withheld_from(two):
    two.delete(1)
    assert row(two) == [0, 2, 2, 2, 0, 0] and not two.contests
    two.undo()
    two.clear(1)
    assert row(two) == [0, 2, 2, 2, 0, 0] and not two.contests
    two.undo()
    assert row(two) == [1, 1, 2, 2, 0, 0] and asked(two) == [(2, 1, 150)]


def test_several_neighbours_are_asked_about_one_by_one(session):
    for low, high in ((10, 16), (24, 30), (14, 26)):
        session.take(block(low, high))
    assert asked(session) == [(3, 1, 60), (3, 2, 60)] and row(session) == [1, 1, 3, 2, 0, 0]
    session.settle(session.contests[1], 3)
    assert asked(session) == [(3, 1, 60)] and row(session) == [1, 1, 3, 3, 0, 0]
    session.settle(session.contests[0], 1)
    assert not session.contests
    session.undo()
    session.undo()
    assert asked(session) == [(3, 1, 60), (3, 2, 60)]


def test_what_was_left_once_is_not_asked_about_again(two):
    two.settle(two.contests[0], 1)
    grown = np.ones((3, 10, 18), bool)
    two.current = 2
    two.edit(grown, Box((5, 10, 12), (8, 20, 30)), 2)  # by hand: what is painted counts
    assert row(two) == [1, 2, 2, 2, 0, 0] and not two.contests
    two.undo()
    two.take(block(18, 32), "again")
    assert asked(two) == [(3, 1, 60), (3, 2, 300)]
    two.settle(two.contests[0], 1)
    two.settle(two.contests[0], 2)
    assert not two.contests


def test_locked_neighbours_never_lose_and_are_not_asked_about(session):
    session.take(block(10, 20))
    session.lock(1)
    session.take(block(15, 30))
    assert row(session) == [1, 1, 2, 2, 0, 0] and not session.contests
    session.lock(1, False)
    assert row(session) == [1, 1, 2, 2, 0, 0] and asked(session) == [(2, 1, 150)]
    contest = session.contests[0]
    session.lock(1)
    with pytest.raises(InputError, match="locked"):
        session.settle(contest, 2)


def test_other_rules_ask_nothing_and_asking_goes_on_where_it_was(two):
    two.overlap = "replace"
    assert row(two) == [1, 2, 2, 2, 0, 0] and not two.contests
    two.overlap = "keep"
    assert row(two) == [1, 1, 2, 2, 0, 0] and not two.contests
    two.undo()
    two.undo()
    assert two.overlap == "ask" and asked(two) == [(2, 1, 150)]


def test_overlaps_of_before_the_rule_are_left_alone(session):
    session.overlap = "replace"
    session.take(block(10, 20))
    session.take(block(15, 30))
    session.overlap = "ask"
    assert row(session) == [1, 2, 2, 2, 0, 0] and not session.contests


def test_an_outdated_or_foreign_decision_is_refused(two):
    contest = two.contests[0]
    with pytest.raises(InputError, match="Object 7 has no part"):
        two.settle(contest, 7)
    two.settle(contest, 2)
    with pytest.raises(InputError, match="look again"):
        two.settle(contest, 2)


def test_answers_of_models_are_withheld_too_and_replayed_to_the_same_masks(session, scene, backend, tmp_path):
    image, first, _ = scene
    middle = tuple(int(c) for c in np.argwhere(first).mean(0))
    session.take(MaskPrompt(np.ones((3, 3, 3), bool), tuple(c - 1 for c in middle)), "core")
    session.new_object("ball")
    session.add(Point(middle)).result(10)
    assert asked(session) == [(2, 1, 27)] and session.labels()[middle] == 1
    session.add(Point(tuple(c + 1 for c in middle))).result(10)
    assert asked(session) == [(2, 1, 27)], "a further answer asks about the same voxels"
    session.remove(0)
    session.settle(session.contests[0], 2)
    session.undo()
    session.redo()
    session.take(block(10, 14))
    labels, states, open_ = session.labels(), session.objects, asked(session)
    assert labels[middle] == 2 and open_ == [(3, 2, 43)]
    history = replay(session.journal, image, backend)
    assert history.objects == states and history.overlap == "ask"
    np.testing.assert_array_equal(history.labels(image.grid.box), labels)
    session.close()
    with Session(image, backend, journal=session.journal) as again:
        assert again.overlap == "ask" and again.objects == states and asked(again) == open_
        np.testing.assert_array_equal(again.labels(), labels)
        while again.undo():
            pass
        assert not again.objects
        while again.redo():
            pass
        np.testing.assert_array_equal(again.labels(), labels)


def test_an_answer_in_which_nothing_was_found_asks_nothing(two, scene):
    two.new_object("nothing")
    inside, outside = Point((10, 20, 12)), Point((10, 20, 12), False)  # the thresholder takes everything away again
    answers = [two.add(prompt).result(10) for prompt in (inside, outside)]
    assert answers[0].mask.any() and not answers[1].mask.any()
    assert two.objects[3].mask is None and asked(two) == [(2, 1, 150)]


def test_files_have_each_voxel_once(two, tmp_path):
    two.save(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "labels.nii.gz").array, two.labels())
    states = two.objects.values()
    total = sum(int(state.mask.mask.sum()) for state in states)
    assert total == np.count_nonzero(two.labels())


def test_a_journal_that_begins_with_an_unknown_rule_is_refused(scene, backend, tmp_path):
    path = tmp_path / "bad.jsonl"
    header = {"napari-sammed session": 1, "image": scene[0].hash, "shape": [1], "source": {}, "overlap": "fight"}
    path.write_text(json.dumps(header) + "\n")
    with pytest.raises(InputError, match="overlap rule 'fight'"):
        Session(scene[0], backend, journal=path)
