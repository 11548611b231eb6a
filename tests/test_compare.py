"""Other models asked about the same prompts, and one of their answers taken over, undone, replayed, restarted."""

from __future__ import annotations

import math
import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from napari_sammed.backend.base import Prediction
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from napari_sammed.session.agreement import agreement
from napari_sammed.session.records import replay
from tests.phantoms import two_balls
from tests.pixelated import Pixelated
from tests.thresholder import Ambiguous, Thresholder
from tests.tiny_models import tiny_model


class Failing(Thresholder):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.card = self.card.__class__(**{**vars(self.card), "name": "failing", "title": "Failing"})

    def decode(self, *arguments):
        raise InputError("it does not want to")


@pytest.fixture
def models():
    ambiguous = Ambiguous()
    loaded = [Thresholder(), Thresholder(planar=True), Pixelated(), Pixelated(planar=True), tiny_model("sam-vit-b")]
    return {model.card.name: model for model in loaded} | {"ambiguous": ambiguous, "failing": Failing()}


@pytest.fixture
def backend(models, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAMMED_CACHE", str(tmp_path / "cache"))
    backend = LocalBackend(models=models)
    yield backend
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls((20, 40, 50))


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "session.jsonl"


@pytest.fixture
def session(scene, backend, journal):
    with Session(scene[0], backend, journal=journal) as session:
        session.model = "thresholder"
        yield session


def centre(mask: np.ndarray, *shift: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.argwhere(mask).mean(0).round() + (shift or (0, 0, 0)))


def shown(session: Session) -> np.ndarray:
    return session.labels() > 0


def clicked(session: Session, truth: np.ndarray) -> None:
    session.add(Point(centre(truth)), axis=0).result()
    session.add(Point(centre(truth, 0, 1, 1)), axis=0).result()


def test_every_model_is_asked_the_same_and_nothing_changes(session, scene, models, journal):
    _, first, _ = scene
    clicked(session, first)
    before, text, objects = shown(session), journal.read_bytes(), session.objects
    steps: list[float] = []
    names = ["thresholder", "planar", "pixelated", "failing", "sam-vit-b"]
    found = session.compare(names, progress=lambda what, share: steps.append(share))
    assert list(found.answers) == names
    answers = {name: found.answers[name].result() for name in names if name != "failing"}
    with pytest.raises(InputError, match="does not want"):
        found.answers["failing"].result()
    assert journal.read_bytes() == text and session.objects == objects
    np.testing.assert_array_equal(shown(session), before)
    assert steps == sorted(steps) and all(0 <= share <= 1 for share in steps)
    z = int(centre(first)[0])
    for name, answer in answers.items():
        assert answer.model == name
        planar = 3 not in session.backend.card(name).dimensions
        assert answer.scope == (Box((z, 0, 0), (z + 1, 40, 50)) if planar else Box.of_shape(first.shape))
    assert session.is_current(found)


def test_the_models_that_can_answer_are_asked_unless_some_are_named(session, scene):
    _, first, _ = scene
    clicked(session, first)
    found = session.compare()
    assert set(found.answers) >= {"thresholder", "planar", "pixelated", "sam-vit-b", "random-walker"}
    assert not {"litemedsam", "samed", "segvol"} & set(found.answers), "no weights, or no prompts"
    session.cancel()


@pytest.mark.parametrize("model", ["pixelated", "planar", "pixelated-2d", "ambiguous", "sam-vit-b"])
def test_an_answer_is_taken_over_in_one_step_that_is_replayed(session, scene, backend, journal, model, tmp_path):
    image, first, second = scene
    clicked(session, first)
    before = shown(session)
    found = session.compare([model])
    answer = found.answers[model].result()
    number = len(session.history.done)
    session.adopt(found, model)
    after = shown(session)
    expected = before.copy()
    expected[answer.scope.slices] = False
    expected[answer.box.slices] |= answer.mask
    np.testing.assert_array_equal(after, expected)
    assert len(session.history.done) == number + 1 and session.objects[1].prompts == session.objects[1].prompts
    step = session.undo()
    assert step.action.do == "adopt" and not step.answers
    np.testing.assert_array_equal(shown(session), before)
    session.redo()
    np.testing.assert_array_equal(shown(session), after)
    session.model = "auto"
    further = Point(centre(second), positive=True)
    assert session.model_for(further) == model, "further clicks go to the model that was taken over"
    session.add(further, axis=0).result()
    last = shown(session)
    replayed = replay(journal, image, backend).labels(image.grid.box) > 0
    np.testing.assert_array_equal(replayed, last)
    session.close()
    with Session(image, backend, journal=journal) as again:
        np.testing.assert_array_equal(shown(again), last)
        again.undo()
        again.undo()
        np.testing.assert_array_equal(shown(again), before)
        again.redo()
        np.testing.assert_array_equal(shown(again), after)


def test_a_part_looked_at_closer_is_compared_and_goes_on(session, scene, backend, journal):
    image, first, _ = scene
    session.model = "pixelated"
    clicked(session, first)
    box = Box.of_mask(first)
    part = Box(box.low, (*box.high[:-1], (box.low[-1] + box.high[-1]) // 2)).grow(2).intersect(image.grid.box)
    session.refine(part).result()
    found = session.compare(["pixelated", "pixelated-2d"])
    for name in found.answers:
        assert found.answers[name].result().scope == part, name
    session.adopt(found, "pixelated-2d")
    after = shown(session)
    session.model = "auto"
    inside = Point(tuple(float(v) for v in np.add(centre(first), (0, 0, -3))))
    answer = session.add(inside, axis=0).result()
    assert answer.model == "pixelated-2d" and part.intersect(answer.scope) == answer.scope, "answered as closely"
    session.undo()
    np.testing.assert_array_equal(replay(journal, image, backend).labels(image.grid.box) > 0, after)


def test_removing_a_prompt_asks_the_model_that_was_taken_over(session, scene):
    _, first, second = scene
    session.add(Point(centre(first))).result()
    session.add(Point(centre(second))).result()
    found = session.compare(["pixelated"])
    found.answers["pixelated"].result()
    session.adopt(found, "pixelated")
    answer = session.remove(1).result()
    assert answer.model == "pixelated"
    assert not (shown(session) & second).any() and (shown(session) & first).any()


def test_what_has_changed_must_be_compared_again(session, scene):
    _, first, second = scene
    clicked(session, first)
    found = session.compare(["pixelated"])
    found.answers["pixelated"].result()
    session.rename(1, "Ball")
    assert session.is_current(found), "its name changes no answer"
    session.add(Point(centre(second))).result()
    assert not session.is_current(found)
    with pytest.raises(InputError, match="compare them again"):
        session.adopt(found, "pixelated")
    session.undo()
    assert session.is_current(found)
    session.lock(1)
    with pytest.raises(InputError, match="locked"):
        session.adopt(found, "pixelated")
    session.lock(1, False)
    with pytest.raises(InputError, match="no answer of planar"):
        session.adopt(found, "planar")


def test_a_click_and_cancel_end_a_comparison(session, scene, models, monkeypatch):
    _, first, second = scene
    clicked(session, first)
    go, began = threading.Event(), threading.Event()
    decode = models["pixelated"].decode

    def held(*arguments):
        began.set()
        assert go.wait(10)
        return decode(*arguments)

    monkeypatch.setattr(models["pixelated"], "decode", held)
    for end in (session.cancel, lambda: session.add(Point(centre(second)))):
        go.clear()
        began.clear()
        found = session.compare(["pixelated", "planar"])
        assert began.wait(10) and session.busy
        end()
        go.set()
        for future in found.answers.values():
            with pytest.raises((Cancelled, CancelledError)):
                future.result(10)


def test_an_object_without_prompts_has_nothing_to_compare(session, scene):
    _, first, _ = scene
    session.take(MaskPrompt(first, (0, 0, 0)), "Given")
    with pytest.raises(InputError, match="no prompts"):
        session.compare()
    session.add(Point(centre(first))).result()
    with pytest.raises(InputError, match="No model"):
        session.compare(["samed"])


def _answer(mask: np.ndarray, scope: Box) -> Prediction:
    return Prediction.tight(mask[scope.slices], scope, score=0.5, model="")


def test_agreement_counts_where_all_answers_speak():
    shape = (3, 6, 8)
    volume, slice_ = Box.of_shape(shape), Box((1, 0, 0), (2, 6, 8))
    one, other, third = (np.zeros(shape, bool) for _ in range(3))
    one[:, 1:4, 1:5] = True
    other[1, 1:4, 2:6] = True
    third[1, 1:3, 1:5] = True
    answers = {"one": _answer(one, volume), "other": _answer(other, slice_), "third": _answer(third, slice_)}
    found = agreement(answers, MaskPrompt(one, (0, 0, 0)), volume)
    assert found.part == slice_ and found.voxels == {"one": 12, "other": 12, "third": 8}
    assert found.dice == {"one": 1.0, "other": 0.75, "third": 0.8}
    votes = one.astype(int)[1] + other[1] + third[1]
    whole = np.zeros(shape[1:], np.float32)
    whole[found.box.slices[1:]] = found.disagreement[0]
    np.testing.assert_allclose(whole, np.minimum(votes, 3 - votes) / 3, rtol=1e-6)
    nothing = agreement({"one": _answer(np.zeros(shape, bool), volume)}, None, volume)
    assert nothing.box is None and nothing.voxels == {"one": 0} and math.isnan(nothing.dice["one"])


def test_finished_neighbours_are_heard_of_and_written_down(session, scene, backend, journal):
    image, first, second = scene
    session.add(Point(centre(second))).result()
    session.lock(1)
    session.new_object()
    session.neighbours = True
    session.add(Point(centre(first))).result()
    found = session.compare(["pixelated"])
    found.answers["pixelated"].result()
    session.adopt(found, "pixelated")
    assert session.history.done[-1].beside
    np.testing.assert_array_equal(replay(journal, image, backend).labels(image.grid.box), session.labels())
