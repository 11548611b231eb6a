"""Any prompt can be removed or replaced later: as if it had been given so from the beginning."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from tests.phantoms import two_balls
from tests.thresholder import Thresholder

MODEL = "thresholder"


@pytest.fixture
def backend():
    backend = LocalBackend(models={MODEL: Thresholder(), "planar": Thresholder(planar=True)})
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls()


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "session.jsonl"


@pytest.fixture
def session(scene, backend, journal):
    with Session(scene[0], backend, journal=journal) as session:
        session.model = MODEL
        yield session


def centre(mask: np.ndarray) -> tuple[float, ...]:
    return tuple(float(round(c)) for c in np.argwhere(mask).mean(0))


def click(session: Session, index, positive: bool = True, **rest):
    return session.add(Point(index, positive), **rest).result(10)


def shown(session: Session) -> np.ndarray:
    return session.labels() > 0


def check_kept(session: Session, scene, backend, journal) -> None:
    """What is shown now comes back from the disk, and from asking everything again."""
    expected, prompts = shown(session), session.objects[1].prompts
    session.close()
    with Session(scene[0], backend, journal=journal) as again:
        np.testing.assert_array_equal(shown(again), expected)
        assert again.objects[1].prompts == prompts
    history = replay(journal, scene[0], backend)
    np.testing.assert_array_equal(history.labels(scene[0].grid.box) > 0, expected)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_removing_a_prompt_answers_the_others(session, scene, backend, journal, number):
    _, first, second = scene
    clicks = [(centre(first), first), (centre(second), second), ((0.0, 0.0, 0.0), ~(first | second))]
    for index, _ in clicks:
        click(session, index)
    before = shown(session)
    session.remove(number).result(10) if number < 2 else session.remove(number)
    left = [c for i, c in enumerate(clicks) if i != number]
    assert [p.index for p in session.objects[1].prompts] == [index for index, _ in left]
    np.testing.assert_array_equal(shown(session), left[0][1] | left[1][1])
    session.undo()
    np.testing.assert_array_equal(shown(session), before)
    session.redo()
    check_kept(session, scene, backend, journal)


def test_removing_all_prompts_one_by_one_leaves_nothing(session, scene, backend, journal):
    _, first, second = scene
    for index in (centre(first), centre(second)):
        click(session, index)
    session.remove(0).result(10)
    np.testing.assert_array_equal(shown(session), second)
    assert session.remove(0) is None
    assert not shown(session).any() and len(session.objects[1].prompts) == 0
    session.undo()
    np.testing.assert_array_equal(shown(session), second)
    session.redo()
    click(session, centre(first))
    np.testing.assert_array_equal(shown(session), first)
    check_kept(session, scene, backend, journal)


def test_removal_on_one_slice_leaves_the_others_alone(session, scene, backend, journal):
    _, first, second = scene
    z, y, x = centre(first)
    other = centre(second)[1:]
    for index in ((z, y, x), (z + 2, y, x), (z, *other)):
        click(session, index, model="planar")
    expected = np.zeros_like(first)
    expected[int(z)], expected[int(z) + 2] = second[int(z)], first[int(z) + 2]
    session.remove(0).result(10)
    np.testing.assert_array_equal(shown(session), expected)
    assert session.remove(0) is None  # the click that stood alone on its slice
    expected[int(z) + 2] = False
    np.testing.assert_array_equal(shown(session), expected)
    check_kept(session, scene, backend, journal)


@pytest.mark.parametrize("number", [0, 1])
def test_a_replaced_prompt_keeps_its_place(session, scene, backend, journal, number):
    _, first, second = scene
    for index in (centre(first), (0.0, 0.0, 0.0)):
        click(session, index)
    session.replace(number, Point(centre(second))).result(10)
    expected = second | first if number else second | ~(first | second)
    np.testing.assert_array_equal(shown(session), expected)
    assert session.objects[1].prompts.items[number] == Point(centre(second))
    session.replace(number, Point(centre(second), False)).result(10)
    assert session.objects[1].prompts.items[number] == Point(centre(second), False)
    np.testing.assert_array_equal(shown(session), expected & ~second)
    session.undo()
    np.testing.assert_array_equal(shown(session), expected)
    check_kept(session, scene, backend, journal)


def test_moving_the_only_prompt_of_a_slice_to_another_slice(session, scene, backend, journal):
    _, first, _ = scene
    z, y, x = centre(first)
    click(session, (z, y, x), model="planar")
    session.replace(0, Point((z + 1, y, x))).result(10)
    expected = np.zeros_like(first)
    expected[int(z) + 1] = first[int(z) + 1]
    np.testing.assert_array_equal(shown(session), expected)
    check_kept(session, scene, backend, journal)


def test_edits_elsewhere_survive_a_removal(session, scene):
    z, y, x = centre(scene[1])
    click(session, (z, y, x), model="planar")
    box = Box((0, 0, 0), (1, 3, 3))
    session.edit(np.ones(box.shape, bool), box)
    session.remove(0)
    assert shown(session)[box.slices].all() and shown(session).sum() == 9


@pytest.mark.parametrize("number", [-1, 2])
def test_there_is_no_such_prompt(session, scene, number):
    click(session, centre(scene[1]))
    click(session, centre(scene[2]))
    before = list(session.history.done)
    for change in (lambda: session.remove(number), lambda: session.replace(number, Point((0, 0, 0)))):
        with pytest.raises(InputError, match=f"no prompt {number}: the object has 2"):
            change()
    with pytest.raises(InputError, match="outside the image"):
        session.replace(0, Point((99, 0, 0)))
    assert session.history.done == before


def test_a_prompt_removed_before_its_answer_is_not_asked_again(session, scene, backend, journal):
    click(session, centre(scene[1]))
    session.add(Point(centre(scene[2])))
    session.cancel()
    session.remove(1)
    assert not session.resume()
    np.testing.assert_array_equal(shown(session), scene[1])


def test_undo_hands_out_the_questions_that_it_opens(session, scene):
    _, first, second = scene
    session.add(Point(centre(first)))
    last = session.add(Point(centre(second)))
    last.result(10)
    step = session.undo()
    assert step.action.prompt == Point(centre(second))
    for answer in step.answers:  # the first click, unless it was answered before the second one came
        answer.result(10)
    np.testing.assert_array_equal(shown(session), first)
    assert session.redo().answers == ()
