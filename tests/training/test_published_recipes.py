"""Losses, learning rates and drawn prompts against the official code's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sammed.errors import InputError
from napari_sammed.models.samed import zoom
from napari_sammed.training import losses
from napari_sammed.training.schedules import polynomial
from napari_sammed.training.simulated_prompts import correcting_points, first_points, shifted_boxes
from tests.golden import Golden


@pytest.fixture(scope="module")
def samed(shared):
    return Golden(shared / "goldens" / "samed_train.npz")


@pytest.fixture(scope="module")
def med2d(shared):
    return Golden(shared / "goldens" / "sam_med2d_train.npz")


def test_samed_loss_and_gradient(samed):
    logits = samed.tensor("in.loss.logits").requires_grad_()
    loss = losses.classes(logits, samed.tensor("in.loss.label"))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(float(samed["out.loss.total"]), abs=1e-6)
    assert loss.parts["cross_entropy"] == pytest.approx(float(samed["out.loss.ce"]), abs=1e-6)
    assert loss.parts["dice"] == pytest.approx(float(samed["out.loss.dice"]), abs=1e-6)
    assert torch.allclose(logits.grad, samed.tensor("out.loss.grad"), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("samed", {"steps": 18_600, "warm_up": 250}),
        ("samed_h", {"steps": 37_200, "warm_up": 250, "exponent": 7}),
        ("no_warmup", {"steps": 18_600}),
    ],
)
def test_samed_learning_rates(samed, name, how):
    rates = [polynomial(int(step), 0.005, late=True, **how) for step in samed["in.lr.iterations"]]
    assert np.array_equal(rates, samed[f"out.lr.{name}"])


def test_rates_rise_from_the_first_step_and_never_fall_below_0():
    rates = [polynomial(step, 1.0, 10, warm_up=4) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[13] > 0 and rates[14:] == [0.0] * 6


def test_samed_labels_are_zoomed_twice(samed):
    label = samed["in.zoom.label"]
    there = zoom(label, (128, 128), 0)
    assert np.array_equal(there, samed["out.zoom.label_128"])
    assert np.array_equal(zoom(there, (32, 32), 0), samed["out.zoom.label_32"])


def test_sam_med2d_loss_and_gradients(med2d):
    logits, scores = (med2d.tensor(f"in.loss.{name}").requires_grad_() for name in ("pred", "pred_iou"))
    loss = losses.prompted_masks(logits, med2d.tensor("in.loss.mask"), scores)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(float(med2d["out.loss.total"]), abs=1e-5)
    expected = {"focal": "focal", "dice": "dice", "score": "iou_mse"}
    assert loss.parts == pytest.approx({k: float(med2d[f"out.loss.{v}"]) for k, v in expected.items()}, abs=1e-6)
    assert torch.allclose(logits.grad, med2d.tensor("out.loss.grad_pred"), rtol=0, atol=1e-7)
    assert torch.allclose(scores.grad, med2d.tensor("out.loss.grad_iou"), rtol=0, atol=1e-7)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_sam_med2d_correcting_clicks(med2d, count):
    masks = med2d.tensor("in.loss.pred")[:, 0].sigmoid().numpy() > 0.5
    found = correcting_points(masks, med2d["in.loss.mask"][:, 0] > 0, count, np.random.RandomState(100 + count))
    for name, values in zip(("points", "labels"), found, strict=True):
        assert np.array_equal(values, med2d[f"out.click{count}.{name}"])


def test_sam_med2d_clicks_where_nothing_is_wrong(med2d):
    nothing = np.zeros((2, 256, 256), bool)
    found = correcting_points(nothing, nothing, 3, np.random.RandomState(7))
    for name, values in zip(("points", "labels"), found, strict=True):
        assert np.array_equal(values, med2d[f"out.click_noerror.{name}"])
    points, labels = correcting_points(nothing[:, :20, :30], nothing[:, :20, :30], 50, np.random.RandomState(7))
    assert (points < (30, 20)).all() and (labels == -1).all()


@pytest.mark.parametrize("count", [1, 5])
def test_sam_med2d_first_clicks(med2d, count):
    points, labels = first_points(med2d["in.sample.mask"] > 0, count, np.random.RandomState(50 + count))
    assert np.array_equal(points, med2d[f"out.init{count}.coords"])
    assert np.array_equal(labels, med2d[f"out.init{count}.labels"])


def test_sam_med2d_boxes(med2d):
    mask = med2d["in.box.two"] > 0
    assert np.array_equal(shifted_boxes(mask, 1, 0, np.random.RandomState(0)), med2d["out.box.two_clean"])
    assert np.array_equal(shifted_boxes(mask, 3, 0, np.random.RandomState(0)), med2d["out.box.two_n3"])
    shifted = [shifted_boxes(mask, 1, 5, np.random.RandomState(seed))[0] for seed in range(40)]
    assert np.array_equal(shifted, med2d["out.box.two_jitter_seeds0_39"])


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.ones((4, 5), bool)], ids=["empty", "full"])
def test_prompts_of_masks_that_have_none(mask):
    with pytest.raises(InputError, match="empty"):
        first_points(mask, 3, np.random.RandomState(0))
    if not mask.any():
        with pytest.raises(InputError, match="empty"):
            shifted_boxes(mask, 1, 5, np.random.RandomState(0))


def test_medsam_training_logits_and_loss(shared):
    golden = Golden(shared / "goldens" / "medsam_tiny.npz")
    logits = golden.tensor("out.train.logits_full")
    loss = losses.box_masks(logits, golden.tensor("in.train.gt"))
    assert loss.total.item() == pytest.approx(float(golden["out.train.loss"]), abs=1e-6)
    assert loss.parts["dice"] == pytest.approx(float(golden["out.train.dice"]), abs=1e-6)
    assert loss.parts["cross_entropy"] == pytest.approx(float(golden["out.train.bce"]), abs=1e-6)


def test_litemedsam_learns_how_good_its_masks_are():
    wanted = torch.zeros(2, 1, 8, 8)
    wanted[:, :, 2:6, 2:6] = 1
    logits = 20 * (2 * wanted - 1)
    exact = losses.box_masks_and_scores(logits, wanted, torch.ones(2, 1))
    modest = losses.box_masks_and_scores(logits, wanted, torch.full((2, 1), 0.5))
    assert exact.parts["score"] == 0 and modest.parts["score"] == pytest.approx(0.25)
    assert float(modest.total - exact.total) == pytest.approx(0.25)
