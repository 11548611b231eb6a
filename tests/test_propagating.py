"""Propagation in a session: in parts, called off, growing before everybody's eyes, and all of it kept."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point
from napari_sammed.session import Change, Session
from napari_sammed.session.journal import read_journal
from napari_sammed.session.records import replay
from napari_sammed.session.slices import known_slices
from napari_sammed.volume import Volume
from tests.stepping import Stepping
from tests.test_session import wait_until

SHAPE = (24, 40, 44)
MIDDLE = (20, 22)


def column() -> np.ndarray:
    """A round column through slices 2 to 21, wider in the middle."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    radius = 9 - np.abs(z - 12) / 3
    return ((y - MIDDLE[0]) ** 2 + (x - MIDDLE[1]) ** 2 < radius**2) & (z >= 2) & (z <= 21)


@pytest.fixture
def image() -> Volume:
    noise = np.random.default_rng(0).uniform(-2, 2, SHAPE)
    return Volume.from_array((20 + 80 * column() + noise).astype(np.float32))


@pytest.fixture
def model() -> Stepping:
    return Stepping()


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={"planar": model})
    yield backend
    model.let(10**6)
    backend.shutdown()


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "session.jsonl"


@pytest.fixture
def session(image, backend, journal, model):
    session = Session(image, backend, journal=journal)
    session.model = "planar"
    yield session
    model.let(10**6)
    session.close()


def click(session: Session, index: int) -> None:
    session.add(Point((index, *MIDDLE)), axis=0).result(10)


def paint(session: Session, index: int) -> None:
    """Half of the column in place of what is on a slice."""
    mask = np.broadcast_to(column()[12], (1, *SHAPE[1:])).copy()
    mask[:, MIDDLE[0] + 1 :] = False
    session.edit(mask, Box((index, 0, 0), (index + 1, *SHAPE[1:])))


def propagated(session: Session, model: Stepping, **rest) -> list[int]:
    """Propagate at full speed; the slices that the model was asked about."""
    model.let(200)
    before = len(model.asked)
    session.propagate(**rest).result(20)
    model._turns = type(model._turns)(0)
    return model.asked[before:]


def replayed(journal: Path, image: Volume) -> dict:
    backend = LocalBackend(models={"planar": Stepping(free=True)})
    history = replay(journal, image, backend)
    backend.shutdown()
    return {label: state.mask for label, state in history.objects.items()}


def masks(session: Session) -> dict:
    return {label: state.mask for label, state in session.objects.items()}


def stop_after(session: Session, model: Stepping, count: int, **rest) -> Stepping:
    """Propagate, and cancel once so many slices have been answered."""
    known = len(model.asked)
    future = session.propagate(**rest)
    model.let(count)
    wait_until(lambda: len(model.asked) == known + count + 1)  # the next one is being answered
    session.cancel()
    model.let(1)  # what has begun is finished
    return future.result(10)


# ---- parts ---------------------------------------------------------------------------------------------------------


def test_a_correction_changes_its_side_only(session, model, journal, image):
    click(session, 12)
    assert propagated(session, model) == [*range(13, 23), *range(11, 0, -1)]
    before = session.labels()
    paint(session, 17)
    edited = session.labels()
    asked = propagated(session, model, part="changed")
    assert set(asked) <= {15, 16, *range(18, 24)}, "slices 13 and 14 are nearer to the one that did not change"
    assert {15, 16, 18, 19} <= set(asked)
    after = session.labels()
    for index in (*range(15), 17):
        np.testing.assert_array_equal(after[index], edited[index])
    assert (after[18] != before[18]).any(), "the correction was not carried on"
    assert (after[16] != before[16]).any()
    expected = masks(session)
    session.close()
    assert replayed(journal, image) == expected


def test_a_removed_correction_brings_its_side_back(session, model):
    click(session, 12)
    propagated(session, model)
    before = session.labels()
    click(session, 17)
    paint(session, 17)
    propagated(session, model, part="changed")
    assert (session.labels() != before).any()
    session.undo()
    session.undo()
    session.undo()
    np.testing.assert_array_equal(session.labels(), before)
    with pytest.raises(InputError, match="Nothing has changed"):
        session.propagate(part="changed")


@pytest.mark.parametrize("part, slices", [("up", range(13, 24)), ("down", range(12))])
def test_one_side_leaves_the_other_as_it_is(session, model, part, slices, journal, image):
    click(session, 12)
    asked = propagated(session, model, part=part)
    assert asked and set(asked) <= set(slices)
    others = [index for index in range(24) if index not in slices and index != 12]
    assert not session.labels()[others].any()
    click(session, 3)
    click(session, 12)
    assert set(propagated(session, model, part=part)) <= set(slices), "from the slice that was marked last"
    expected = masks(session)
    session.close()
    assert replayed(journal, image) == expected


def test_what_has_changed_is_sought_where_somebody_went_before(session, model):
    click(session, 12)
    propagated(session, model, part="up")
    paint(session, 17)
    assert min(propagated(session, model, part="changed")) == 15, "the user did not want to go down"
    assert propagated(session, model, part="changed")[0] == 11, "now only that is left"
    with pytest.raises(InputError, match="Nothing has changed"):
        session.propagate(part="changed")
    assert len(propagated(session, model)) == 20, "everything is everything"


def test_another_model_or_window_is_a_change(session, model, image):
    from napari_sammed.intensity import Window

    click(session, 12)
    propagated(session, model, part="changed")
    session.window = Window.custom(60, 200)
    assert len(propagated(session, model, part="changed")) == 21


def test_there_may_be_no_slice_on_a_side(session, model):
    click(session, 21)
    paint(session, 23)
    with pytest.raises(InputError, match="no slice above slice 23"):
        session.propagate(part="up")
    assert [action.do for action in session.history.done] == ["object", "prompt", "edit"]


# ---- cancel --------------------------------------------------------------------------------------------------------


def test_a_click_does_not_wait_for_a_propagation(session, model, journal, image):
    click(session, 12)
    walk = session.propagate()
    model.let(3)
    wait_until(lambda: len(model.asked) == 4)
    corrected = session.add(Point((5, *MIDDLE)), axis=0)
    elsewhere = session.new_object()
    other = session.add(Point((20, 0, 0)), axis=0)
    for _ in range(10):  # slices; the clicks get between two of them as soon as they have arrived
        model.let(1)
        if not wait([corrected, other], 0.3).not_done:
            break
    assert corrected.done() and other.done() and not walk.done() and session.busy
    np.testing.assert_array_equal(session.labels()[5] == 1, column()[5])
    assert session.objects[elsewhere].mask is not None
    model.let(10**6)
    walk.result(10)
    np.testing.assert_array_equal(session.labels() == 1, column())
    assert replayed(journal, image) == masks(session)


def test_a_propagation_waits_for_the_prompts_before_it(session, model, monkeypatch):
    """The mask that it starts from is that of the click just before, which takes its time."""
    held, real = threading.Event(), session.backend.predict

    def slow(*arguments, **options):
        held.wait(10)
        return real(*arguments, **options)

    click(session, 12)
    monkeypatch.setattr(session.backend, "predict", slow)
    asked = session.add(Point((3, *MIDDLE)), axis=0)
    walk = session.propagate()
    model.let(10**6)
    time.sleep(0.3)
    assert not model.asked, "it waits"
    held.set()
    asked.result(10)
    walk.result(10)
    assert 3 not in model.asked and 4 in model.asked, "slice 3 was an anchor"


@pytest.mark.parametrize("count", [1, 5, 14])
def test_cancel_keeps_what_was_reached(session, model, journal, image, count):
    click(session, 12)
    whole = propagated(session, model)
    full = session.labels()
    session.undo()
    before = session.labels()
    answer = stop_after(session, model, count)
    kept = session.labels()
    reached = [*range(13, 22), *range(11, 1, -1)][: count + 1]
    if count + 1 > 9:  # slice 22 was asked about too, and is empty
        reached = reached[:count]
    for index in range(24):
        np.testing.assert_array_equal(kept[index], (full if index in (12, *reached) else before)[index])
    assert len(whole) == 21 and set(answer.slice_scores) == {12, *reached}
    assert session.objects[1].score == pytest.approx(np.mean(list(answer.slice_scores.values())))
    assert any("it was cancelled" in sentence for sentence in answer.reductions)
    expected = masks(session)
    session.close()
    assert replayed(journal, image) == expected
    with Session(image, session.backend, journal=journal) as again:
        np.testing.assert_array_equal(again.labels(), kept)
        again.undo()
        np.testing.assert_array_equal(again.labels(), before), "one undo takes all of it back"
        again.redo()
        np.testing.assert_array_equal(again.labels(), kept)


def test_a_cancelled_propagation_goes_on_where_it_was(session, model):
    click(session, 12)
    propagated(session, model)
    full = session.labels()
    session.undo()
    stop_after(session, model, 13)  # up is done, down has begun
    assert max(propagated(session, model, part="changed")) == 11
    np.testing.assert_array_equal(session.labels(), full)


def test_cancel_before_the_first_slice_keeps_nothing(session, model):
    click(session, 12)
    before = session.labels()
    future = session.propagate()
    session.cancel()
    model.let(2)
    with pytest.raises((Cancelled, CancelledError)):
        if future.result(10).slice_scores:  # it was on its first slice already
            raise Cancelled
    wait_until(lambda: not session.busy)
    assert (session.labels()[12] == before[12]).all()


def test_a_cancelled_part_leaves_what_was_there(session, model, journal, image):
    click(session, 12)
    propagated(session, model)
    full = session.labels()
    paint(session, 6)
    stop_after(session, model, 1, part="changed")
    after = session.labels()
    changed = [index for index in range(24) if (after[index] != full[index]).any()]
    assert set(changed) <= {6, 7, 8, 5} and len(changed) == 3
    expected = masks(session)
    session.close()
    assert replayed(journal, image) == expected


def test_closing_keeps_what_was_reached(session, model, journal, image):
    click(session, 12)
    session.propagate()
    model.let(3)
    wait_until(lambda: len(model.asked) == 4)
    threading.Timer(0.2, model.let, [1]).start()
    session.close()
    with Session(image, session.backend, journal=journal) as again:
        assert again.labels()[[13, 14, 15, 16]].any((1, 2)).all()
        assert not again.labels()[17:].any()


def test_undo_calls_a_running_propagation_off(session, model):
    click(session, 12)
    before = session.labels()
    heard: list[Change] = []
    session.on_change(heard.append, growing=True)
    future = session.propagate()
    model.let(4)
    wait_until(lambda: len(model.asked) == 5)
    assert session.labels()[16].any()
    heard.clear()
    session.undo()
    np.testing.assert_array_equal(session.labels(), before)
    assert heard[0].box is not None and heard[0].box.low[0] <= 13 and heard[0].box.high[0] >= 17
    model.let(1)
    with pytest.raises(Cancelled):
        future.result(10)
    np.testing.assert_array_equal(session.labels(), before)
    assert session.growth is None


# ---- growth --------------------------------------------------------------------------------------------------------


def test_an_object_grows_slice_by_slice_for_those_who_watch(session, model):
    click(session, 12)
    before = session.objects[1].mask
    watched: list[Change] = []
    heard: list[Change] = []
    session.on_change(watched.append, growing=True)
    session.on_change(heard.append)
    future = session.propagate()
    wait_until(lambda: model.asked)
    shown = []
    for count in range(1, 4):
        model.let(1)
        wait_until(lambda count=count: len(model.asked) == count + 1)
        shown.append([index for index in range(24) if session.labels()[index].any()])
        assert session.labels(watched[-1].box).any(), "the change says where"
        assert watched[-1].box.shape[0] == 1
    assert shown == [[12, 13], [12, 13, 14], [12, 13, 14, 15]]
    assert [piece.slice_scores.keys() for piece in session.growth.pieces] == [{13}, {14}, {15}]
    assert session.objects[1].mask == before, "it is no answer yet"
    assert all(change.box is None for change in heard), "the others hear of the answer only"
    grown = session.labels()
    model.let(100)
    future.result(10)
    assert session.growth is None
    np.testing.assert_array_equal(session.labels()[12:16], grown[12:16])


def test_nobody_watches_nothing_is_kept_of_the_pieces(session, model):
    click(session, 12)
    session.propagate()
    model.let(3)
    wait_until(lambda: len(model.asked) == 4)
    assert session.growth is None and not session.labels()[13].any()


def test_an_object_that_is_cleared_does_not_grow_on(session, model):
    click(session, 12)
    session.on_change(lambda change: None, growing=True)
    session.propagate()
    model.let(2)
    wait_until(lambda: len(model.asked) == 3)
    session.clear()
    model.let(1)
    wait_until(lambda: len(model.asked) == 4)
    assert session.growth is None and not session.labels().any()


# ---- scores --------------------------------------------------------------------------------------------------------


def test_scores_are_kept_slice_by_slice(session, model, journal, image):
    click(session, 12)
    propagated(session, model)
    first = known_slices(session.history, 1, 0)
    assert first.marked == {12} and set(first.scores) == {*range(2, 12), *range(13, 22)}
    assert all(0 < score <= 1 for score in first.scores.values())
    paint(session, 17)
    propagated(session, model, part="changed")
    second = known_slices(session.history, 1, 0)
    assert second.marked == {12, 17}
    assert {i: second.scores[i] for i in (2, 11, 13, 14)} == {i: first.scores[i] for i in (2, 11, 13, 14)}
    assert known_slices(session.history, 1, 2) == known_slices(session.history, 7, 0)  # none across other axes
    session.close()
    with Session(image, session.backend, journal=journal) as again:
        assert known_slices(again.history, 1, 0) == second
        again.undo()
        again.undo()
        assert known_slices(again.history, 1, 0) == first
        again.clear()
        assert known_slices(again.history, 1, 0).scores == {}


def test_journals_without_scores_still_load(session, model, journal, image):
    click(session, 12)
    propagated(session, model)
    expected = session.labels()
    session.close()
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for entry in lines:
        for name in ("slice_scores", "axis", "silent") if "answer" in entry else ():
            entry.pop(name, None)
    old = journal.with_name("old.jsonl")
    old.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    assert "slice_scores" not in old.read_text() and read_journal(old)
    with Session(image, session.backend, journal=old) as again:
        np.testing.assert_array_equal(again.labels(), expected)
        assert known_slices(again.history, 1, 0).scores == {}
    assert replayed(old, image) == masks(session)
