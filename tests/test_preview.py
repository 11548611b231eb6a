"""Previews: the answer that a click would get, nothing written down, never in the way of real questions."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError, NotReady
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point
from napari_sammed.session import Session
from tests.phantoms import two_balls
from tests.pixelated import Pixelated
from tests.thresholder import Ambiguous, Thresholder
from tests.tiny_models import tiny_model

MODELS = ("thresholder", "planar", "ambiguous", "pixelated", "pixelated-2d", "litemedsam", "sam-vit-b", "random-walker")
"""Volumes and slices, with and without logits to go on from, of boxes only, and one that the registry loads."""


class Held(Thresholder):
    """Answers when it is let go, and counts the questions."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()

    def decode(self, *arguments):
        self.asked += 1
        self.began.set()
        assert self.go.wait(10)
        return super().decode(*arguments)


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def backend(held):
    loaded = [Thresholder(planar=True), Ambiguous(), Pixelated(), Pixelated(planar=True), tiny_model("sam-vit-b")]
    models = {model.card.name: model for model in (*loaded, tiny_model("litemedsam"))}
    models["ambiguous"] = models.pop("thresholder")
    backend = LocalBackend(models={**models, "thresholder": held})
    yield backend
    held.go.set()
    backend.shutdown()


@pytest.fixture
def scene():
    return two_balls((20, 40, 50))


@pytest.fixture
def session(scene, backend, tmp_path):
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as session:
        session.model = "thresholder"
        yield session


def centre(mask: np.ndarray, *shift: float) -> tuple[float, ...]:
    return tuple(float(v) for v in np.argwhere(mask).mean(0).round() + (shift or (0, 0, 0)))


def same(one, other) -> None:
    """Whether two predictions say the same."""
    assert (one.box, one.scope, one.model, one.reductions) == (other.box, other.scope, other.model, other.reductions)
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_equal(one.score, other.score)
    assert len(one.alternatives) == len(other.alternatives)


@pytest.mark.parametrize("model", MODELS)
def test_every_click_gives_what_was_previewed(session, scene, model):
    _, first, second = scene
    session.model = model
    clicks = [
        Point(centre(first)),
        Point(centre(first, 0, 2, 1)),
        Point(centre(second)),
        Point(centre(second, 0, 0, 1), positive=False),
    ]
    previewed = 0
    for click in clicks:
        try:
            preview = session.preview(click, axis=0).result()
        except NotReady:  # nobody has looked at this slice yet
            preview = None
        answer = session.add(click, axis=0).result()
        if preview is not None:
            previewed += 1
            same(preview, answer)
            after = session.objects[1].mask
            inside = np.zeros(first.shape, bool)
            inside[preview.box.slices] = preview.mask
            whole = np.zeros(first.shape, bool)
            if after is not None:
                whole[after.extent.slices] = after.mask
            np.testing.assert_array_equal(whole[preview.scope.slices], inside[preview.scope.slices])
    assert previewed == (len(clicks) if model not in ("litemedsam", "sam-vit-b") else previewed) and previewed >= 1


def test_nothing_is_written_down_and_nothing_changes(session, scene, tmp_path):
    _, first, second = scene
    session.preview(Point(centre(first))).result()
    assert not session.objects and session.current is None
    session.add(Point(centre(first))).result()
    path = tmp_path / "session.jsonl"
    journal, objects, answers = path.read_bytes(), session.objects, dict(session.history.answers)
    done, number = list(session.history.done), session.history.next_id
    for click in (Point(centre(second)), Point(centre(first), positive=False)):
        session.preview(click).result()
    assert path.read_bytes() == journal
    assert session.objects == objects and session.history.answers == answers
    assert (session.history.done, session.history.next_id) == (done, number)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_previews_heed_what_was_looked_at_closer(session, scene, where):
    _, first, _ = scene
    session.model = "pixelated"
    session.add(Point(centre(first))).result()
    box = Box.of_mask(first)
    part = Box(box.low, (*box.high[:-1], (box.low[-1] + box.high[-1]) // 2))
    session.refine(part).result()
    inside = tuple(float(v) for v in np.add(centre(first), (0, 0, -3)))
    click = Point(inside if where == "inside" else centre(first, 0, 0, 3))
    preview = session.preview(click).result()
    session.add(click).result()
    mask = session.objects[1].mask
    whole, seen = np.zeros(first.shape, bool), np.zeros(first.shape, bool)
    whole[mask.extent.slices], seen[preview.box.slices] = mask.mask, preview.mask
    assert preview.scope == (part if where == "inside" else Box.of_shape(first.shape))
    np.testing.assert_array_equal(whole[preview.scope.slices], seen[preview.scope.slices])


def test_previews_after_a_restart_go_on_from_the_same_logits(scene, backend, tmp_path):
    image, first, _ = scene
    clicks = [Point(centre(first)), Point(centre(first, 0, 2, 2)), Point(centre(first, 0, -2, 1))]
    with Session(image, backend, journal=tmp_path / "j.jsonl") as session:
        session.model = "sam-vit-b"
        for click in clicks[:2]:
            session.add(click, axis=0).result()
    with Session(image, backend, journal=tmp_path / "j.jsonl") as session:
        session.model = "sam-vit-b"
        with pytest.raises(NotReady):
            session.preview(clicks[2], axis=0).result()
        backend.prefetch(session.image_id, "sam-vit-b", [session.history.done[-1].region], session.window)
        same(session.preview(clicks[2], axis=0).result(), session.add(clicks[2], axis=0).result())


def test_nothing_heavy_is_done_for_a_preview(session, scene, backend):
    _, first, _ = scene
    model = backend._models["litemedsam"]
    encoded = []
    embed = model.embed
    model.embed = lambda *a: encoded.append(1) or embed(*a)
    with pytest.raises(NotReady):
        session.preview(Point(centre(first)), model="litemedsam", axis=0).result()
    with pytest.raises(NotReady):
        session.preview(Point(centre(first)), model="sam-vit-l", axis=0).result()
    assert not encoded and backend._models["sam-vit-l"] is None
    box = Box.of_mask(first)
    with pytest.raises(NotReady):
        session.preview(box, model="planar", axis=0).result()


def test_a_click_calls_a_preview_off_and_goes_first(session, scene, held):
    _, first, second = scene
    held.go.clear()
    waiting = session.preview(Point(centre(second)))
    assert held.began.wait(10)
    answer = session.add(Point(centre(first)))
    dropped = session.preview(Point(centre(second)))
    assert dropped.cancelled(), "a real question is on its way"
    held.go.set()
    answer.result()
    with pytest.raises((Cancelled, CancelledError)):
        waiting.result()
    np.testing.assert_array_equal(session.labels() == 1, first)


def test_only_the_latest_preview_is_answered(session, scene, held):
    _, first, second = scene
    held.go.clear()
    previews = [session.preview(Point(centre(first)))]
    assert held.began.wait(10)
    previews += [session.preview(Point(centre(mask))) for mask in (first, first, first, second)]
    held.go.set()
    assert previews[-1].result().mask.any()
    for older in previews[:-1]:
        with pytest.raises((Cancelled, CancelledError)):
            older.result()
    assert held.asked == 2


def test_a_preview_can_be_called_off(session, scene, held):
    held.go.clear()
    preview = session.preview(Point(centre(scene[1])))
    assert held.began.wait(10)
    session.cancel_preview()
    held.go.set()
    with pytest.raises((Cancelled, CancelledError)):
        preview.result()


def test_what_a_click_may_not_do_is_not_previewed(session, scene):
    _, first, _ = scene
    with pytest.raises(InputError, match="outside"):
        session.preview(Point((99.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="no prompts"):
        session.preview(Point(centre(first)), model="samed")
    session.add(Point(centre(first))).result()
    session.lock(1)
    with pytest.raises(InputError, match="locked"):
        session.preview(Point(centre(first)))


def test_previews_go_on_from_masks_that_were_taken_over(session, scene):
    _, first, second = scene
    session.take(MaskPrompt(first, (0, 0, 0)), "Given")
    click = Point(centre(second))
    same(session.preview(click).result(), session.add(click).result())


def test_a_click_where_the_pointer_rested_is_answered_already(session, scene, held, backend):
    _, first, second = scene
    click = Point(centre(first))
    preview = session.preview(click).result()
    assert session.add(click).result() is preview and held.asked == 1
    session.undo()
    session.add(Point(click.index, positive=True), model="planar", axis=0).result()
    session.add(click).result()
    assert held.asked == 2, "the object has two prompts now"
    session.undo()
    session.preview(Point(centre(second))).result()
    backend.use_weights("sam-vit-l", ())  # which may change answers
    assert session.add(Point(centre(second))).result().mask.any() and held.asked == 4


def test_previews_and_clicks_hear_of_finished_neighbours_alike(session, scene):
    _, first, second = scene
    session.add(Point(centre(second))).result()
    session.lock(1)
    session.new_object()
    session.neighbours = True
    for click in (Point(centre(first)), Point(centre(first, 0, 2, 1))):
        preview, answer = session.preview(click).result(), session.add(click).result()
        same(preview, answer)
        assert session.history.done[-1].beside
