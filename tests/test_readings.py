"""Ambiguous answers: stepping through their readings, and going on from the chosen one, also after a restart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import Point, Prompts
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from tests.phantoms import two_balls
from tests.tiny_models import tiny_model

MODEL = "sam-vit-b"
FIRST, SECOND, THIRD = (20.0, 12.0), (22.0, 15.0), (5.0, 40.0)


@pytest.fixture(scope="module")
def image():
    return two_balls((40, 50))[0]


@pytest.fixture(scope="module")
def model():
    return tiny_model(MODEL)


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={MODEL: model})
    yield backend
    backend.shutdown()


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "session.jsonl"


def started(image, backend, journal=None) -> Session:
    session = Session(image, backend, journal=journal)
    session.model = MODEL
    return session


def click(session: Session, index, positive: bool = True):
    return session.add(Point(index, positive)).result(30)


def shown(session: Session) -> np.ndarray:
    return session.labels() > 0


def whole(answer, image) -> np.ndarray:
    mask = np.zeros(image.grid.shape, bool)
    mask[answer.box.slices] = answer.mask
    return mask


def test_one_click_has_three_readings_and_a_second_click_one(image, backend):
    with started(image, backend) as session:
        answer = click(session, FIRST)
        assert len(answer.alternatives) == 2
        scores = [reading.score for reading in answer.readings]
        assert scores == sorted(scores, reverse=True)
        assert session.objects[1].readings == tuple(scores) and session.objects[1].reading == 0
        assert all(reading.scope == answer.scope == image.grid.box for reading in answer.readings)
        assert not click(session, SECOND).alternatives
        assert session.objects[1].readings == ()


def test_stepping_shows_each_reading_and_goes_round(image, backend):
    heard = []
    with started(image, backend) as session:
        readings = click(session, FIRST).readings
        session.on_change(heard.append)
        for expected in (1, 2, 0):
            assert session.next_reading() == expected == session.objects[1].reading
            np.testing.assert_array_equal(shown(session), whole(readings[expected], image))
            assert session.objects[1].score == readings[expected].score
        assert session.next_reading(-1) == 2
        assert len(heard) == 4 and all(change.box is not None for change in heard)


def test_a_choice_is_an_action_like_any_other(image, backend, journal):
    with started(image, backend, journal) as session:
        readings = click(session, FIRST).readings
        session.choose(2)
        session.choose(2)  # nothing to do
        session.choose(1)
        assert session.undo().action.do == "choose"
        np.testing.assert_array_equal(shown(session), whole(readings[2], image))
        session.undo()
        np.testing.assert_array_equal(shown(session), whole(readings[0], image))
        session.redo()
        assert session.objects[1].reading == 2
    with started(image, backend, journal) as session:
        np.testing.assert_array_equal(shown(session), whole(readings[2], image))
        assert session.next_reading() == 0
        np.testing.assert_array_equal(shown(session), whole(readings[0], image))


@pytest.mark.parametrize("reading", [-1, 3])
def test_there_is_no_other_reading(image, backend, reading):
    with started(image, backend) as session:
        click(session, FIRST)
        before = len(session.history.done)
        with pytest.raises(InputError, match=f"3 readings, 0 to 2: there is no reading {reading}"):
            session.choose(reading)
        click(session, SECOND)
        for refused in (session.next_reading, lambda: session.choose(1)):
            with pytest.raises(InputError, match="only one reading"):
                refused()
        assert len(session.history.done) == before + 1


def test_the_next_click_starts_from_the_chosen_reading(image, backend, model, monkeypatch):
    seen = []
    decode = type(model).decode
    monkeypatch.setattr(
        type(model), "decode", lambda self, e, p, previous: seen.append(previous) or decode(self, e, p, previous)
    )
    masks = []
    for reading in (0, 2):
        with started(image, backend) as session:
            readings = click(session, FIRST).readings
            session.choose(reading)
            click(session, SECOND)
            masks.append(shown(session))
            assert seen[-1] is readings[reading].logits and not seen[-1].alternatives
    assert (masks[0] != masks[1]).any()


def test_previous_logits_are_those_of_the_same_region_and_model(image, model, monkeypatch):
    other = tiny_model("sam-med2d")
    backend = LocalBackend(models={MODEL: model, "sam-med2d": other})
    seen = []
    for kind in (type(model), type(other)):
        monkeypatch.setattr(
            kind,
            "decode",
            lambda self, e, p, previous, decode=kind.decode: seen.append(previous) or decode(self, e, p, previous),
        )
    with started(image, backend) as session:
        click(session, FIRST)
        session.add(Point(SECOND), model="sam-med2d").result(30)
        assert seen == [None, None]
        click(session, THIRD)
        assert seen[2] is not None and seen[2] is session.history.answers[1].logits
    opened = backend.open(image)

    part = backend.predict(opened, MODEL, Prompts((Point(FIRST),)), region=Box((10, 4), (30, 24)))
    backend.predict(opened, MODEL, Prompts((Point(FIRST),)), previous=part.logits)
    assert seen[-1] is None  # of another region
    backend.shutdown()


@pytest.mark.parametrize("restarts", [(1,), (2,), (1, 2, 3)], ids=str)
def test_a_restart_changes_no_later_answer(image, backend, journal, restarts):
    """Three clicks and a choice; the process ends after some of them; masks are as if it had not."""

    def steps(session: Session, number: int) -> None:
        if number == 1:
            click(session, FIRST)
            session.choose(2)
        elif number == 2:
            click(session, SECOND)
        else:
            click(session, THIRD, False)

    def run(path, ends) -> list[np.ndarray]:
        masks = []
        session = started(image, backend, path)
        for number in (1, 2, 3):
            steps(session, number)
            masks.append(shown(session))
            if number in ends:
                session.close()
                session = started(image, backend, path)
                np.testing.assert_array_equal(shown(session), masks[-1])
        session.close()
        return masks

    expected = run(journal.with_name("whole.jsonl"), ())
    for one, other in zip(expected, run(journal, restarts), strict=True):
        np.testing.assert_array_equal(one, other)
    history = replay(journal, image, backend)
    np.testing.assert_array_equal(history.labels(image.grid.box) > 0, expected[-1])
    started_from = [json.loads(line).get("previous") for line in journal.read_text().splitlines() if '"answer"' in line]
    assert started_from == [None, 1, 3]


def test_other_weights_after_a_restart_start_afresh(image, backend, journal):
    with started(image, backend, journal) as session:
        click(session, FIRST)
    changed = LocalBackend(models={MODEL: tiny_model(MODEL, "other weights")})
    with started(image, changed, journal) as session:
        click(session, SECOND)
        assert session.history.origins[max(session.history.answers)].previous is None
    changed.shutdown()
