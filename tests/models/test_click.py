"""The click network as a model: clicks refine what went before, boxes are LiteMedSAM's, prompts find their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.backend import reductions
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel
from napari_sammed.models.click import Click, near, shipped_head
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.registry import load
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests.golden import fill
from tests.tiny_models import tiny_config, tiny_model

AS_IS = Window.preset("as-is")
INSIDE, OUTSIDE = Point((30, 40)), Point((70, 90), positive=False)


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("click", tiny_config("click")))


@pytest.fixture(scope="module")
def model() -> Click:
    return tiny_model("click")


@pytest.fixture(scope="module")
def image() -> Volume:
    rows, columns = np.indices((90, 120))
    return Volume.from_array(np.where(np.hypot(rows - 30, columns - 40) < 20, 200, 40).astype(np.uint8))


@pytest.fixture(scope="module")
def embedding(model, image):
    return model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)


def test_it_is_a_box_model_that_answers_boxes_as_litemedsam_does(model, network, image, embedding):
    assert isinstance(model, BoxModel)
    box = Prompts((Box((10, 20), (52, 62)),))
    plain = LiteMedSAM(network, "tiny")
    theirs = plain.decode(plain.embed(image, embedding.region, AS_IS), box, None)
    ours = model.decode(embedding, box, None)
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert ours.score == theirs.score


def test_a_single_click_has_three_readings_by_falling_score(model, embedding, image):
    answer = model.decode(embedding, Prompts((INSIDE,)), None)
    scores = [answer.score, *(other.score for other in answer.alternatives)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert model.restore(answer).shape == image.grid.shape


def test_further_clicks_refine_the_answer_before(model, embedding):
    first = model.decode(embedding, Prompts((INSIDE,)), None)
    both = Prompts((INSIDE, OUTSIDE))
    refined = model.decode(embedding, both, first)
    assert not refined.alternatives
    assert np.abs(refined.values - model.decode(embedding, both, None).values).max() > 1e-4


def test_clicks_on_a_box_refine_the_answer_to_it(model, embedding):
    box = Box((10, 20), (52, 62))
    known = model.decode(embedding, Prompts((box,)), None)
    together = model.decode(embedding, Prompts((box, OUTSIDE)), None)
    np.testing.assert_allclose(together.values, model.decode(embedding, Prompts((OUTSIDE,)), known).values, atol=1e-5)


def test_a_mask_that_was_handed_over_is_refined(model, embedding):
    mask = np.zeros((90, 120), bool)
    mask[20:45, 25:60] = True
    prompt = MaskPrompt(mask, (0, 0))
    changed = model.decode(embedding, Prompts((prompt, OUTSIDE)), None)
    assert changed.values.shape == (256, 256)
    alone = model.decode(embedding, Prompts((prompt,)), None)
    boxed = model.decode(embedding, Prompts((Box((20, 25), (45, 60)),)), None)
    np.testing.assert_array_equal(alone.values, boxed.values)
    newest = Prompts((OUTSIDE, prompt))
    answers = [model.decode(embedding, newest, before).values for before in (boxed, None)]
    np.testing.assert_array_equal(*answers, err_msg="a newer mask takes the place of the answer so far")


def test_an_answer_of_another_region_is_ignored(model, image, embedding):
    part = model.embed(image, model.plan(image.grid, Prompts(), Box((0, 0), (60, 80))), AS_IS)
    elsewhere = model.decode(part, Prompts((INSIDE,)), None)
    alone = model.decode(embedding, Prompts((INSIDE,)), None)
    np.testing.assert_array_equal(model.decode(embedding, Prompts((INSIDE,)), elsewhere).values, alone.values)


def test_only_negative_clicks_have_nothing_to_correct(model, embedding):
    with pytest.raises(InputError, match="inside the object is needed first"):
        model.decode(embedding, Prompts((OUTSIDE,)), None)
    with pytest.raises(InputError, match="outside the part"):
        model.decode(embedding, Prompts((Point((95, 4)),)), None)


def test_clicks_reach_their_place_on_any_slice(model):
    """The same picture as a sagittal slice of a volume, mirrored grid and all, gives the same answer."""
    random = np.random.default_rng(0)
    pixels = (random.random((48, 64)) * 255).astype(np.uint8)
    flat = Volume.from_array(pixels)
    stack = np.stack([np.zeros_like(pixels), pixels], axis=2)
    volume = Volume(stack, Grid.plain(stack.shape))
    ours = model.embed(volume, model.plan(volume.grid, Prompts(), Box((0, 0, 1), (48, 64, 2))), Window("as-is"))
    theirs = model.embed(flat, model.plan(flat.grid, Prompts(), None), Window("as-is"))
    a = model.decode(ours, Prompts((Point((20, 30, 1)),)), None)
    b = model.decode(theirs, Prompts((Point((20, 30)),)), None)
    np.testing.assert_allclose(a.values, b.values, atol=1e-5)
    assert model.restore(a).shape == (48, 64, 1)


def test_a_first_click_is_answered_by_boxes_too(model, embedding):
    alone, _ = reductions.answer(model, embedding, Prompts((INSIDE,)), None)
    readings = model.decode(embedding, Prompts((INSIDE,)), None)
    assert len(alone.alternatives) == 2
    np.testing.assert_array_equal(alone.alternatives[0].values, readings.values)
    assert all(not other.alternatives for other in alone.alternatives)
    two, _ = reductions.answer(model, embedding, Prompts((INSIDE, OUTSIDE)), alone)
    np.testing.assert_array_equal(two.values, model.decode(embedding, Prompts((INSIDE, OUTSIDE)), alone).values)


def test_several_clicks_at_once_refine_what_the_boxes_say(model, embedding):
    both = Prompts((INSIDE, Point((34, 50))))
    answer, _ = reductions.answer(model, embedding, both, None)
    assert answer.values.shape == (256, 256)
    assert np.isfinite(answer.values).all()


def test_a_click_changes_what_lies_about_it_and_nothing_far_away():
    before, after = np.full((100, 100), -5.0, np.float32), np.full((100, 100), -4.0, np.float32)
    after[20:30, 20:30], after[70:90, 70:90] = 5, 5
    changed = near(before, after, (25, 25))
    np.testing.assert_array_equal(changed[15:35, 15:35], after[15:35, 15:35])
    np.testing.assert_array_equal(changed[50:], before[50:])
    np.testing.assert_array_equal(near(before, after, (50, 50)), after)
    np.testing.assert_array_equal(near(before, after, (-3, 120)), after)


def test_walks_from_the_clicks_have_a_say(model, embedding, monkeypatch):
    first = model.decode(embedding, Prompts((INSIDE,)), None)
    both = Prompts((INSIDE, OUTSIDE))
    with_walks = model.decode(embedding, both, first).values
    monkeypatch.setattr("napari_sammed.models.click.walked", lambda *_: np.zeros((3, 128, 128), np.float32))
    assert np.abs(model.decode(embedding, both, first).values - with_walks).max() > 1e-3


def test_an_image_without_contrast_is_answered_too(model):
    image = Volume.from_array(np.full((90, 120), 7, np.uint8))
    embedding = model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)
    first = model.decode(embedding, Prompts((INSIDE,)), None)
    assert np.isfinite(model.decode(embedding, Prompts((INSIDE, OUTSIDE)), first).values).all()


@pytest.fixture(scope="module")
def real(weights) -> Click:
    return load("click", weights)


@pytest.fixture(scope="module")
def discs() -> tuple[Volume, np.ndarray, np.ndarray]:
    """Two discs on noisy ground, both together, and the first one."""
    rows, columns = np.indices((240, 256))
    one, other = np.hypot(rows - 90, columns - 80) < 42, np.hypot(rows - 150, columns - 190) < 30
    values = np.where(one | other, 150, 90) + np.random.default_rng(0).normal(0, 8, one.shape)
    return Volume.from_array(values.clip(0, 255).astype(np.uint8)), one | other, one


def _iou(model: Click, answer, wanted: np.ndarray) -> float:
    mask = model.restore(answer) > 0
    return (mask & wanted).sum() / (mask | wanted).sum()


def test_a_click_on_a_right_answer_keeps_it(real, discs):
    image, _, one = discs
    embedding = real.embed(image, real.plan(image.grid, Prompts(), None), AS_IS)
    mask = MaskPrompt(one, (0, 0))
    for click in (Point((90, 80)), Point((70, 105)), Point((30, 180), positive=False)):
        assert _iou(real, real.decode(embedding, Prompts((mask, click)), None), one) > 0.95


def test_a_click_mends_what_it_lies_on_and_keeps_the_rest(real, discs):
    image, both, one = discs
    embedding = real.embed(image, real.plan(image.grid, Prompts(), None), AS_IS)
    rows, columns = np.indices(one.shape)
    bitten = one & (np.hypot(rows - 110, columns - 105) > 15)
    mended = real.decode(embedding, Prompts((MaskPrompt(bitten, (0, 0)), Point((108, 100)))), None)
    assert _iou(real, mended, one) > (bitten & one).sum() / one.sum() + 0.03
    more = real.decode(embedding, Prompts((MaskPrompt(one, (0, 0)), Point((150, 190)))), None)
    assert _iou(real, more, both) > 0.9
    less = real.decode(embedding, Prompts((MaskPrompt(both, (0, 0)), Point((150, 190), positive=False))), None)
    assert _iou(real, less, one) > 0.9


def test_the_head_comes_with_the_package():
    head = shipped_head()
    assert sum(p.numel() for p in head.parameters()) < 2e6
    assert all(torch.isfinite(p).all() for p in head.parameters())
