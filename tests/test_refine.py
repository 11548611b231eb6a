"""Zooming in: finer inside the part, unchanged outside, one undo step, in the journal, kept by later clicks."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.session import Session
from napari_sammed.session.records import replay
from tests.phantoms import two_balls
from tests.pixelated import SIDE, Pixelated

SHAPES = {"volume": (20, 40, 50), "flat": (36, 48)}
NAMES = {"volume": "pixelated", "flat": "pixelated", "slices": "pixelated-2d"}


@pytest.fixture(params=NAMES)
def kind(request):
    return request.param


@pytest.fixture
def scene(kind):
    return two_balls(SHAPES.get(kind, SHAPES["volume"]))


@pytest.fixture
def model(kind):
    return Pixelated(planar=kind == "slices")


@pytest.fixture
def backend(model):
    backend = LocalBackend(models={model.card.name: model})
    yield backend
    backend.shutdown()


@pytest.fixture
def session(scene, backend, model, tmp_path):
    with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as session:
        session.model = model.card.name
        yield session


def centre(mask: np.ndarray) -> tuple[float, ...]:
    return tuple(float(round(c)) for c in np.argwhere(mask).mean(0))


def shown(session: Session) -> np.ndarray:
    return session.labels() > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def seen(truth: np.ndarray, kind: str, index: tuple[float, ...]) -> np.ndarray:
    """The part of the truth that a model can know of: of slices the clicked one."""
    if kind != "slices":
        return truth
    only = np.zeros_like(truth)
    only[int(index[0])] = truth[int(index[0])]
    return only


def half_of(truth: np.ndarray) -> Box:
    """The half of a structure with the lower indices along the last axis, and some of its surroundings."""
    box = Box.of_mask(truth)
    high = (*box.high[:-1], (box.low[-1] + box.high[-1]) // 2)
    return Box(box.low, high).grow(2).intersect(Box.of_shape(truth.shape))


def outside(mask: np.ndarray, box: Box) -> np.ndarray:
    rest = mask.copy()
    rest[box.slices] = False
    return rest


def clicked(session: Session, truth: np.ndarray) -> tuple[float, ...]:
    index = centre(truth)
    session.add(Point(index)).result(10)
    return index


class TestWhatChanges:
    def test_finer_inside_and_unchanged_outside(self, session, scene, kind):
        index = clicked(session, scene[1])
        truth, before = seen(scene[1], kind, index), shown(session)
        assert 0.5 < dice(before, truth) < 0.95
        part = half_of(scene[1])
        answer = session.refine(part).result(10)
        after = shown(session)
        assert np.array_equal(outside(after, part), outside(before, part))
        assert np.array_equal(after[part.slices], truth[part.slices])
        assert answer.scope == part
        assert any("Looked closer in" in sentence for sentence in answer.reductions)

    def test_around_the_mask_if_nobody_says_where(self, session, scene, kind):
        index = clicked(session, scene[1])
        session.refine().result(10)
        assert dice(shown(session), seen(scene[1], kind, index)) > 0.98  # windows of the coarse mask's rim know little

    def test_what_was_prompted_but_not_found_yet(self, session, scene, model, kind):
        """A click in the part is enough: the mask may be empty there, or everywhere."""
        index = centre(scene[1])
        backend = session.backend
        found = backend.refine(
            session.image_id,
            model.card.name,
            half_of(scene[1]).grow(4).intersect(scene[0].grid.box),
            prompts=Prompts((Point(index),)),
        )
        assert found.mask.any()

    def test_each_window_is_asked_about_its_own_part(self, session, scene, model, kind):
        clicked(session, scene[1])
        model.asked.clear()
        session.refine().result(10)
        assert len(model.asked) > 1
        for region, prompts in model.asked:
            assert max(region.box.shape) <= SIDE
            assert region.grid.shape == region.box.shape
            for item in prompts:
                assert item.extent.intersect(region.box) == item.extent
            assert any(isinstance(item, MaskPrompt) for item in prompts)

    def test_windows_without_the_object_are_not_looked_at(self, session, scene, model, kind):
        clicked(session, scene[1])
        mask = session.objects[1].mask
        model.asked.clear()
        session.refine(scene[0].grid.box).result(10)
        asked = [region.box for region, _ in model.asked]
        assert asked
        for box in asked:
            common = box.intersect(mask.extent)
            assert mask.mask[common.shift([-low for low in mask.offset]).slices].any()


class TestUndoAndJournal:
    def test_one_step_back_and_forth(self, session, scene):
        clicked(session, scene[1])
        before = shown(session)
        session.refine(half_of(scene[1])).result(10)
        after = shown(session)
        assert not np.array_equal(before, after)
        assert session.undo().action.do == "refine"
        assert np.array_equal(shown(session), before)
        session.redo()
        assert np.array_equal(shown(session), after)

    def test_restart_and_replay_give_the_same(self, session, scene, backend, tmp_path):
        clicked(session, scene[1])
        part = half_of(scene[1])
        session.refine(part).result(10)
        inside = np.argwhere(scene[1][part.slices])[0] + part.low
        session.add(Point(tuple(map(float, inside)))).result(10)
        expected = shown(session)
        session.close()
        with Session(scene[0], backend, journal=tmp_path / "session.jsonl") as again:
            assert np.array_equal(shown(again), expected)
        again = replay(tmp_path / "session.jsonl", scene[0], backend)
        assert np.array_equal(again.labels(scene[0].grid.box) > 0, expected)

    def test_an_object_taken_over_can_be_refined(self, session, scene, kind):
        truth = seen(scene[1], kind, centre(scene[1]))
        rough = np.roll(truth, 2, axis=-1)
        session.take(MaskPrompt(rough, (0,) * rough.ndim), "rough")
        session.refine().result(10)
        assert dice(shown(session), truth) > 0.95


class TestWhatComesAfter:
    def test_a_click_inside_the_part_is_answered_as_closely(self, session, scene, model, kind):
        index = clicked(session, scene[1])
        part = half_of(scene[1])
        session.refine(part).result(10)
        before = shown(session)
        inside = np.argwhere(seen(scene[1], kind, index)[part.slices])[-1] + part.low
        model.asked.clear()
        answer = session.add(Point(tuple(map(float, inside)))).result(10)
        assert all(region.grid.shape == region.box.shape for region, _ in model.asked)
        assert answer.scope.intersect(part) == answer.scope
        assert np.array_equal(shown(session), before)

    def test_a_click_elsewhere_leaves_the_part_as_it_is(self, session, scene, kind):
        index = clicked(session, scene[1])
        part = half_of(scene[1])
        session.refine(part).result(10)
        refined = shown(session)
        other = np.argwhere(outside(seen(scene[1], kind, index), part))[-1]
        session.add(Point(tuple(map(float, other)))).result(10)
        assert np.array_equal(shown(session)[part.slices], refined[part.slices])

    def test_a_click_inside_can_be_removed_and_moved(self, session, scene, kind):
        index = clicked(session, scene[1])
        part = half_of(scene[1])
        session.refine(part).result(10)
        refined = shown(session)
        truth = seen(scene[1], kind, index)
        ground = np.argwhere((scene[0].array < 30)[part.slices] & ~truth[part.slices]) + part.low
        ground = ground[ground[:, 0] == index[0]] if kind == "slices" else ground
        session.add(Point(tuple(map(float, ground[0])))).result(10)
        assert shown(session).sum() > refined.sum()
        inside = np.argwhere(truth[part.slices]) + part.low
        session.replace(1, Point(tuple(map(float, inside[0])))).result(10)
        assert shown(session)[tuple(inside[0])]
        session.remove(1)
        while session.busy:
            time.sleep(0.01)
        assert np.array_equal(outside(shown(session), part), outside(refined, part))

    def test_painting_overrides_it(self, session, scene):
        clicked(session, scene[1])
        part = half_of(scene[1])
        session.refine(part).result(10)
        painted = Box(part.low, tuple(low + 2 for low in part.low))
        session.edit(np.ones(painted.shape, bool), painted)
        assert shown(session)[painted.slices].all()


class TestErrors:
    def test_nothing_of_the_object_in_the_part(self, session, scene):
        clicked(session, scene[1])
        before = shown(session)
        with pytest.raises(InputError, match=r"Nothing of .* lies between"):
            session.refine(Box((0,) * scene[1].ndim, (2,) * scene[1].ndim))
        assert np.array_equal(shown(session), before)
        assert session.undo().action.do == "prompt"

    def test_no_object_yet(self, session):
        with pytest.raises(InputError):
            session.refine()

    def test_an_object_without_anything(self, session):
        session.new_object()
        with pytest.raises(InputError, match="neither a mask nor a prompt"):
            session.refine()

    def test_outside_of_the_image(self, session, scene):
        clicked(session, scene[1])
        far = tuple(size + 5 for size in scene[1].shape)
        with pytest.raises(InputError, match="outside"):
            session.refine(Box(far, tuple(f + 5 for f in far)))

    def test_what_lies_outside_of_the_image_is_left_out(self, session, scene, kind):
        clicked(session, scene[1])
        answer = session.refine(Box.of_mask(scene[1]).grow(100)).result(10)
        assert answer.scope == scene[0].grid.box

    def test_cancelled_between_windows(self, session, scene, backend, model):
        clicked(session, scene[1])
        mask = session.objects[1].mask
        cancel, told = threading.Event(), []

        def progress(what: str, share: float) -> None:
            told.append((what, share))
            if len(told) == 2:
                cancel.set()

        model.asked.clear()
        with pytest.raises(Cancelled):
            backend.refine(
                session.image_id, model.card.name, scene[0].grid.box, coarse=mask, cancel=cancel, progress=progress
            )
        assert len(model.asked) <= 2
        assert told[0][0].startswith("looking closer, window 1 of ")
        assert 0 <= told[0][1] < told[1][1] < 1
