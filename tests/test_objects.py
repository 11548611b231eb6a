"""The list of objects: looks, locks, order, copies, mergers and overlaps, undone, restarted and replayed."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from napari_sammed.session.roster import PALETTE, covering, uncovered
from napari_sammed.volume import read_volume
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

MODEL = "thresholder"
LOW, MIDDLE, HIGH = (Box((5, 10, 10 + 5 * i), (8, 20, 20 + 5 * i)) for i in range(3))  # each overlaps its neighbour


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
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as session:
        session.model = MODEL
        yield session


def full(box: Box) -> MaskPrompt:
    return MaskPrompt(np.ones(box.shape, bool), box.low)


@pytest.fixture
def three(session):
    """Three objects that overlap in a row."""
    for name, box in (("low", LOW), ("middle", MIDDLE), ("high", HIGH)):
        session.take(full(box), name)
    return session


def centre(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(c) for c in np.argwhere(mask).mean(0))


def row(session: Session) -> list[int]:
    """Labels along the overlapping objects, one every five voxels."""
    return session.labels()[6, 15, [12, 17, 22, 27]].tolist()


def looks(session: Session) -> list[tuple]:
    return [(s.label, s.name, s.kind, s.colour, s.visible, s.locked, s.mask) for s in session.objects.values()]


DEEDS = {
    "classify": lambda s: s.classify(2, "tumour"),
    "recolour": lambda s: s.recolour(2, "#12AB34"),
    "hide": lambda s: s.show(2, False),
    "lock": lambda s: s.lock(2),
    "to the front": lambda s: s.move(1, 2),
    "to the back": lambda s: s.move(3, 0),
    "duplicate": lambda s: s.duplicate(2),
    "merge": lambda s: s.merge([2, 3, 1]),
    "delete": lambda s: s.delete(1),
    "keep": lambda s: setattr(s, "overlap", "keep"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_each_is_one_step_of_undo_and_survives_a_restart_and_a_replay(three, scene, backend, tmp_path, deed):
    before, row_before, count = looks(three), row(three), len(three.history.done)
    heard = []
    three.on_change(heard.append)
    DEEDS[deed](three)
    after, row_after = looks(three), row(three)
    assert (after, row_after) != (before, row_before) and len(three.history.done) == count + 1 and len(heard) == 1
    if row_after != row_before:
        assert heard[0].box is not None, "faces must know where to look"
    for _ in range(2):
        assert three.undo() is not None
        assert (looks(three), row(three)) == (before, row_before)
        three.redo()
        assert (looks(three), row(three)) == (after, row_after)
    three.close()
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as again:
        assert (looks(again), row(again)) == (after, row_after)
        again.undo()
        assert (looks(again), row(again)) == (before, row_before)
        again.redo()
    history = replay(tmp_path / "session.jsonl", scene[0], backend)
    assert {label: s.mask for label, s in history.objects.items()} == {a[0]: a[-1] for a in after}
    np.testing.assert_array_equal(history.labels(Box((6, 15, 12), (7, 16, 28)))[0, 0, ::5], row_after)


@pytest.mark.parametrize("deed", ["classify", "recolour", "hide", "lock", "to the front", "keep"])
def test_what_changes_nothing_is_no_step(three, deed):
    DEEDS[deed](three)
    count = len(three.history.done)
    DEEDS[deed](three)
    assert len(three.history.done) == count


def test_colours_come_from_the_palette_by_label(session):
    for _ in range(3):
        session.new_object()
    assert [s.colour for s in session.objects.values()] == list(PALETTE[:3])
    session.delete(2)
    session.new_object()
    assert {s.label: s.colour for s in session.objects.values()} == {1: PALETTE[0], 3: PALETTE[2], 4: PALETTE[3]}
    assert len(set(PALETTE)) == len(PALETTE)
    with pytest.raises(InputError, match="'red' is not of the form #rrggbb"):
        session.recolour(1, "red")


# ---- overlaps ------------------------------------------------------------------------------------------------------


def test_the_rule_and_the_order_decide_where_objects_overlap(three):
    assert three.overlap == "replace" and row(three) == [1, 2, 3, 3]
    three.overlap = "keep"
    assert row(three) == [1, 1, 2, 3]
    three.move(1, 5)
    assert list(three.objects) == [2, 3, 1] and row(three) == [1, 2, 2, 3]
    three.overlap = "replace"
    assert row(three) == [1, 1, 3, 3]
    with pytest.raises(InputError, match="no overlap rule 'none': choose keep, replace or ask"):
        three.overlap = "none"


@pytest.mark.parametrize("rule", ["keep", "replace"])
def test_locked_objects_lose_no_voxel(three, rule):
    three.overlap = rule
    three.lock(2)
    assert row(three) == [1, 2, 2, 3]
    three.take(full(Box((0, 0, 0), (20, 40, 50))), "all")
    assert np.count_nonzero(three.labels() == 2) == np.prod(MIDDLE.shape)
    assert three.stack[-1].label == 2


def test_files_have_what_is_shown(three, tmp_path):
    three.overlap = "keep"
    three.lock(3)
    three.show(1, False)
    three.save(tmp_path / "objects.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "objects.nii.gz").array, three.labels())
    assert row(three) == [1, 1, 3, 3], "hidden objects are saved"


def test_what_is_left_of_an_object_under_others(three):
    stack = three.stack
    for state in stack:
        left = uncovered(state.mask, covering(state, stack))
        mine = three.labels() == state.label
        assert left == MaskPrompt(mine, (0, 0, 0))
    top = three.objects[3]
    assert uncovered(top.mask, covering(top, stack)) is top.mask
    three.take(full(Box((0, 0, 0), (20, 40, 50))), "all")
    assert uncovered(top.mask, covering(three.objects[3], three.stack)) is None


# ---- locks ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "add": lambda s: s.add(Point((6.0, 15.0, 12.0))),
    "remove": lambda s: s.remove(0),
    "replace": lambda s: s.replace(0, Point((6.0, 15.0, 12.0))),
    "choose": lambda s: s.choose(0),
    "propagate": lambda s: s.propagate(),
    "refine": lambda s: s.refine(),
    "edit": lambda s: s.edit(np.ones(LOW.shape, bool), LOW),
    "clear": lambda s: s.clear(),
    "delete": lambda s: s.delete(s.current),
    "merge": lambda s: s.merge([s.current, s.new_object()]),
    "merge into another": lambda s: s.merge([1, s.current]),
}


@pytest.mark.parametrize("deed", REFUSED)
def test_a_locked_object_cannot_be_changed(session, scene, deed):
    session.take(full(LOW), "other")
    session.new_object("Liver")
    session.add(Point(centre(scene[1]))).result(10)
    session.lock(2)
    mask, prompts = session.objects[2].mask, session.objects[2].prompts
    with pytest.raises(InputError, match="Liver is locked: unlock it"):
        REFUSED[deed](session)
    assert session.objects[2].mask is mask and session.objects[2].prompts == prompts
    session.rename(2, "Spleen")
    session.lock(2, False)
    session.clear(2)
    assert session.objects[2].mask is None


class Slow(Thresholder):
    """Waits for permission before every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def decode(self, embedding, prompts, previous):
        self.asked.set()
        assert self.go.wait(10)
        return super().decode(embedding, prompts, previous)


def test_an_answer_that_comes_after_the_lock_is_dropped_and_asked_again_after_it(scene):
    slow = Slow()
    backend = LocalBackend(models={MODEL: slow})
    with Session(scene[0], backend) as session:
        answer = session.add(Point(centre(scene[1])), model=MODEL)
        assert slow.asked.wait(10)
        session.lock(1)
        slow.go.set()
        with pytest.raises(Cancelled):
            answer.result(10)
        assert session.objects[1].mask is None and session.resume() == []
        step = session.undo()
        assert len([answer.result(10) for answer in step.answers]) == 1
        np.testing.assert_array_equal(session.labels() == 1, scene[1])
    backend.shutdown()


# ---- copies and mergers --------------------------------------------------------------------------------------------


def test_a_copy_has_the_mask_and_class_and_goes_its_own_way(session, scene):
    _, first, second = scene
    session.new_object("Liver")
    session.add(Point(centre(first))).result(10)
    session.classify(1, "organ")
    session.lock(1)
    copy = session.duplicate()
    assert session.current == copy == 2
    state = session.objects[2]
    assert (state.name, state.kind, state.locked, state.mask) == ("Liver copy", "organ", False, session.objects[1].mask)
    assert not state.prompts and state.colour == PALETTE[1]
    session.add(Point(centre(second))).result(10)
    assert session.objects[2].mask == MaskPrompt(first | second, (0, 0, 0))
    assert np.count_nonzero(session.objects[1].mask.mask) == np.count_nonzero(first)
    session.new_object("empty")
    copy = session.duplicate()
    assert session.objects[copy].mask is None


def test_a_merger_keeps_the_first_ones_prompts_and_the_next_click_keeps_the_voxels(session, scene):
    _, first, second = scene
    for mask in (first, second):
        session.new_object()
        session.add(Point(centre(mask))).result(10)
    session.take(full(Box((0, 0, 0), (2, 3, 4))), "corner")
    prompts = session.objects[1].prompts
    assert session.merge([1, 2, 1]) == session.current == 1
    assert list(session.objects) == [1, 3] and session.objects[1].prompts == prompts
    np.testing.assert_array_equal(session.labels() == 1, first | second)
    session.add(Point(tuple(c + 1 for c in centre(first)))).result(10)
    np.testing.assert_array_equal(session.labels() == 1, first | second)
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.labels() == 2, second)
    assert session.new_object() == 4, "labels of merged objects are not used again"


def test_merging_needs_two(three):
    for labels in ([], [1], [1, 1]):
        with pytest.raises(InputError, match="two objects or more"):
            three.merge(labels)
    with pytest.raises(InputError, match="no object 9"):
        three.merge([1, 9])
    assert three.history.done[-1].do == "take"


def test_empty_objects_merge_into_an_empty_one(session):
    session.new_object()
    session.new_object()
    session.merge([1, 2])
    assert list(session.objects) == [1] and session.objects[1].mask is None


# ---- journals of before --------------------------------------------------------------------------------------------


def test_a_journal_without_any_of_this_still_loads(scene, backend, tmp_path):
    """As it was written before: no class, colour, order or rule in it."""
    path = tmp_path / "old.jsonl"
    lines = [
        {"napari-sammed session": 1, "image": scene[0].hash, "shape": list(scene[0].grid.shape), "source": {}},
        {"do": "object", "id": 0, "label": 1, "name": "Object 1"},
        {"do": "rename", "id": 1, "label": 1, "name": "Ball"},
        {"do": "object", "id": 2, "label": 2, "name": "Object 2"},
        {"do": "delete", "id": 3, "label": 2},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Session(scene[0], backend, journal=path) as session:
        state = session.objects[1]
        assert (list(session.objects), state.name, state.kind, state.colour) == ([1], "Ball", "", PALETTE[0])
        assert state.visible and not state.locked and session.overlap == "replace"


def test_a_journal_with_a_merger_of_an_object_that_is_not_there_is_refused(scene, backend, tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = [
        {"napari-sammed session": 1, "image": scene[0].hash, "shape": list(scene[0].grid.shape), "source": {}},
        {"do": "object", "id": 0, "label": 1, "name": "Object 1"},
        {"do": "merge", "id": 1, "label": 1, "sources": [7]},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match="session file makes no sense"):
        Session(scene[0], backend, journal=path)
