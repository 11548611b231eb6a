"""Classes found without prompts: on the way beside clicks, and taken over as objects to correct."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from tests.labeller import CLASSES, Labeller
from tests.phantoms import two_balls
from tests.thresholder import Thresholder
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def scene():
    return two_balls()


@pytest.fixture
def backend():
    models = {"labeller": Labeller(), "thresholder": Thresholder(), "planar": Thresholder(planar=True)}
    backend = LocalBackend(models=models)
    yield backend
    backend.shutdown()


@pytest.fixture
def session(scene, backend, tmp_path):
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as session:
        yield session


def test_every_voxel_has_a_class(session, scene):
    _, faint, bright = scene
    told = []
    found = session.automatic("labeller", progress=lambda what, share: told.append(share)).result(10)
    np.testing.assert_array_equal(found.labels, faint + 2 * bright)
    assert found.counts == {"faint": faint.sum(), "bright": bright.sum(), "absent": 0}
    assert (found.classes, found.model, found.weights_hash) == (CLASSES, "labeller", "labeller-1")
    assert found.notes == ("It knows no anatomy.",) and told[-1] == 1 and set(found.seconds) >= {"segment", "total"}
    assert not session.objects
    part = session.automatic("labeller", region=Box((10, 0, 0), (11, 40, 50))).result(10)
    assert part.labels.shape == (1, 40, 50)
    np.testing.assert_array_equal(part.mask("bright").mask.sum(), bright[10].sum())


def test_a_class_is_taken_over_in_one_undoable_step(session, scene, backend, tmp_path):
    found = session.automatic("labeller").result(10)
    label = session.take_over(found, "bright")
    assert session.current == label and session.objects[label].name == "bright"
    np.testing.assert_array_equal(session.labels() == label, scene[2])
    assert session.undo().action.do == "take"
    assert not session.objects
    session.redo()
    session.take_over(found, "faint")
    expected = session.labels()
    session.close()
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as again:
        np.testing.assert_array_equal(again.labels(), expected)
        assert [state.name for state in again.objects.values()] == ["bright", "faint"]
    history = replay(tmp_path / "session.jsonl", scene[0], backend)
    np.testing.assert_array_equal(history.labels(scene[0].grid.box), expected)


@pytest.mark.parametrize("model", ["thresholder", "planar"])
def test_clicks_correct_what_was_taken_over(session, scene, backend, tmp_path, model):
    """The models grow the mask along grey values, so a click on the other structure adds that one."""
    _, faint, bright = scene
    session.take_over(session.automatic("labeller").result(10), "faint")
    z, y, x = (int(c) for c in np.argwhere(bright).mean(0))
    answer = session.add(Point((z, y, x)), model=model).result(10)
    expected = faint.copy()
    there = answer.scope.slices
    expected[there] |= bright[there]
    np.testing.assert_array_equal(session.labels() > 0, expected)
    assert session.remove(0) is None
    np.testing.assert_array_equal(session.labels() > 0, faint)
    session.undo()
    session.close()
    history = replay(tmp_path / "session.jsonl", scene[0], backend)
    np.testing.assert_array_equal(history.labels(scene[0].grid.box) > 0, expected)


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-med2d"])
def test_models_that_take_masks_get_the_one_that_is_corrected(scene, name, monkeypatch):
    asked = []
    model = tiny_model(name)
    answer = type(model).answer
    monkeypatch.setattr(
        type(model), "answer", lambda self, *args, **rest: asked.append(rest["mask"]) or answer(self, *args, **rest)
    )
    backend = LocalBackend(models={name: model, "labeller": Labeller()})
    with Session(scene[0], backend) as session:
        session.take_over(session.automatic("labeller").result(30), "bright")
        z, y, x = (int(c) for c in np.argwhere(scene[2]).mean(0))
        first = session.add(Point((z, y, x)), model=name).result(30)
        session.add(Point((z, y + 2, x)), model=name).result(30)
    given, carried = asked
    middle = (given > given.mean()).nonzero()
    assert given is not None and given.shape == (32, 32) and middle[1].mean() > 16  # the right half of the slice
    assert carried.shape == first.logits.values.shape and not np.array_equal(given, carried)
    backend.shutdown()


def test_classes_and_prompts_are_not_mixed_up(session):
    with pytest.raises(InputError, match="Thresholder needs prompts and names no classes"):
        session.automatic("thresholder").result(10)
    with pytest.raises(InputError, match="Labeller takes no prompts"):
        session.add(Point((0, 0, 0)), model="labeller")
    assert not session.objects
    found = session.automatic("labeller").result(10)
    with pytest.raises(InputError, match="no class 'liver': labeller knows faint, bright, absent"):
        session.take_over(found, "liver")
    with pytest.raises(InputError, match="found no absent"):
        session.take_over(found, "absent")


def test_clicks_are_answered_between_slices_and_the_rest_can_be_stopped(scene):
    started, answered = threading.Event(), threading.Event()
    numbers = []

    def step(number: int) -> None:
        numbers.append(number)
        if number == 3:
            started.set()
            queued.wait(10)
        if number == 5:
            assert answered.wait(5)  # the click was let pass; its answer is on its way through the session
            cancelled.wait(10)

    queued, cancelled = threading.Event(), threading.Event()
    backend = LocalBackend(models={"labeller": Labeller(step), "thresholder": Thresholder()})
    with Session(scene[0], backend) as session:
        session.model = "thresholder"
        classes = session.automatic("labeller")
        assert started.wait(10) and session.busy
        click = session.add(Point((10, 20, 12)))
        click.add_done_callback(lambda _: answered.set())
        while not backend._inference._queue.qsize():
            time.sleep(0.01)
        queued.set()
        assert click.result(10).mask.any()
        session.cancel()
        cancelled.set()
        with pytest.raises(Cancelled):
            classes.result(10)
    assert numbers == [0, 1, 2, 3, 4, 5]
    backend.shutdown()


def test_a_mask_from_elsewhere_must_lie_on_the_image(session):
    with pytest.raises(InputError, match="outside the image"):
        session.take(MaskPrompt(np.ones((1, 1, 1), bool), (99, 0, 0)))
    assert not session.objects
