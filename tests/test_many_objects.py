"""Many boxes handed over at once: one object each, answered in as few passes as possible, kept and replayed exactly."""

from __future__ import annotations

import json
import threading
import time

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
from tests.tiny_models import TINY, tiny_model

FLAT = [Box((5, 4), (30, 22)), Box((8, 26), (33, 48)), Box((0, 0), (40, 50))]


@pytest.fixture(scope="module")
def image():
    return two_balls((40, 50))[0]


@pytest.mark.parametrize("name", TINY)
def test_each_box_gets_the_answer_that_it_would_get_alone(image, name, tmp_path, monkeypatch):
    model = tiny_model(name)
    passes = []
    decode_boxes = type(model).decode_boxes
    monkeypatch.setattr(
        type(model), "decode_boxes", lambda self, e, boxes: passes.append(len(boxes)) or decode_boxes(self, e, boxes)
    )
    backend = LocalBackend(models={name: model})
    with Session(image, backend, journal=tmp_path / "session.jsonl") as session:
        answers = session.add_objects(FLAT, ["a", "b", "c"], model=name).result(30)
        assert passes == [3]
        assert [state.name for state in session.objects.values()] == ["a", "b", "c"] and session.current == 3
        masks = {label: state.mask for label, state in session.objects.items()}
        for box, answer in zip(FLAT, answers, strict=True):
            session.new_object()
            alone = session.add(box, model=name).result(30)
            assert abs(alone.score - answer.score) < 1e-4
            assert np.isclose(alone.logits.values, answer.logits.values, atol=1e-3).all()
        for _ in range(6):
            session.undo()
    history = replay(tmp_path / "session.jsonl", image, backend)
    assert {label: state.mask for label, state in history.objects.items()} == masks
    assert passes.count(3) == 2  # the replay asked for them together again
    backend.shutdown()


@pytest.fixture
def backend():
    backend = LocalBackend(models={"planar": Thresholder(planar=True), "thresholder": Thresholder()})
    yield backend
    backend.shutdown()


@pytest.mark.parametrize("model", ["planar", "thresholder"])
def test_boxes_on_several_slices_and_across_them(backend, model):
    volume, first, second = two_balls()
    boxes = [
        Box((10, 5, 2), (11, 35, 24)),
        Box((10, 5, 26), (11, 35, 50)),
        Box((8, 5, 2), (9, 35, 24)),
        Box((4, 5, 26), (16, 35, 50)),
    ]
    with Session(volume, backend) as session:
        answers = session.add_objects(boxes, model=model).result(30)
        assert len(answers) == 4 and list(session.objects) == [1, 2, 3, 4]
        for box, structure, (label, state) in zip(
            boxes, (first, second, first, second), session.objects.items(), strict=True
        ):
            mask = np.zeros(volume.grid.shape, bool)
            mask[state.mask.extent.slices] = state.mask.mask
            expected = np.zeros_like(mask)
            expected[box.slices] = structure[box.slices]
            np.testing.assert_array_equal(mask, expected, err_msg=str(label))
        with_clicks = session.objects[2].mask
        session.delete(1)
        assert session.objects[2].mask == with_clicks


class Slow(Thresholder):
    """Waits for permission before every pass."""

    def __init__(self) -> None:
        super().__init__(planar=True)
        self.go = threading.Semaphore(0)
        self.passes: list[int] = []

    def decode_boxes(self, embedding, boxes):
        self.passes.append(len(boxes))
        self.go.acquire(timeout=10)
        return super().decode_boxes(embedding, boxes)


def test_one_of_many_undone_before_the_answer_is_left_out(image, tmp_path):
    slow = Slow()
    backend = LocalBackend(models={"planar": slow})
    with Session(image, backend, journal=tmp_path / "session.jsonl") as session:
        future = session.add_objects(FLAT[:2], model="planar")
        while not slow.passes:
            time.sleep(0.01)
        session.undo()
        session.undo()
        session.new_object("instead")  # what was undone is gone for good
        slow.go.release(4)
        assert len(future.result(30)) == 1 and slow.passes == [2, 1]
        assert session.objects[1].mask is not None
        masks = {label: state.mask for label, state in session.objects.items()}
    history = replay(tmp_path / "session.jsonl", image, backend)
    assert {label: state.mask for label, state in history.objects.items()} == masks
    backend.shutdown()


def test_one_of_many_undone_and_done_again_is_asked_again(backend):
    volume, first, _ = two_balls()
    with Session(volume, backend) as session:
        future = session.add_objects([Box((10, 5, 2), (11, 35, 24)), Box((10, 5, 26), (11, 35, 50))], model="planar")
        session.undo()
        future.result(30)
        assert session.objects[1].mask.mask.sum() == first[10].sum()
        assert not session.objects[2].prompts
        for answer in session.redo().answers:
            answer.result(30)
        assert session.objects[2].mask is not None


@pytest.mark.parametrize(
    ("boxes", "names", "message"),
    [
        ([], [], "no box"),
        ([FLAT[0]], ["a", "b"], "1 boxes need as many names, not 2"),
        ([FLAT[0], Box((50, 60), (51, 61))], [], "outside the image"),
        ([FLAT[0], Box((0, 0, 0), (1, 4, 4))], [], "2D or all be 3D"),
    ],
)
def test_boxes_that_do_not_fit_change_nothing(image, backend, boxes, names, message):
    with Session(image, backend) as session:
        with pytest.raises(InputError, match=message):
            session.add_objects(boxes, names, model="planar")
        assert not session.history.done


def test_a_click_after_a_restart_goes_on_from_the_answer_to_many(image, tmp_path):
    backend = LocalBackend(models={"sam-vit-b": tiny_model("sam-vit-b")})
    masks = []
    for name, restart in (("one.jsonl", False), ("two.jsonl", True)):
        session = Session(image, backend, journal=tmp_path / name)
        session.add_objects(FLAT[:2], model="sam-vit-b").result(30)
        if restart:
            session.close()
            session = Session(image, backend, journal=tmp_path / name)
        session.select(1)
        session.add(Point((20.0, 15.0))).result(30)
        assert session.history.origins[max(session.history.answers)].previous == 1
        masks.append(session.objects[1].mask)
        session.close()
    assert masks[0] == masks[1]
    backend.shutdown()


def test_they_are_written_down_as_asked_together(image, backend, tmp_path):
    path = tmp_path / "session.jsonl"
    with Session(image, backend, journal=path) as session:
        session.add_objects(FLAT[:2], model="planar").result(30)
    answers = [line for text in path.read_text().splitlines() if "answer" in (line := json.loads(text))]
    assert [line["together"] for line in answers] == [[1, 3], [1, 3]]
