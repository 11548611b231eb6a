"""SAM-Med2D's recipe: what learns, in which rounds, from which prompts, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.sam_med2d import SAMMed2D
from napari_sammed.prompts import Point
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Material
from napari_sammed.training.sam_med2d_recipe import SamMed2dSettings, SamMed2dTask, mark
from tests.golden import Golden
from tests.training.alike import check_runs_are_alike
from tests.training.planar_material import NAMES, discs, material

CPU = torch.device("cpu")
SMALL = {
    "image_size": 64,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
    "global_attn_indexes": (1,),
    "window_size": 3,
    "prompt_embed_dim": 32,
    "decoder_mlp_dim": 64,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 32,
}
FEW = SamMed2dSettings(rate=1e-3, batch=1, masks=2, jitter=2, measured=2)


def task(settings: SamMed2dSettings = FEW, what: Material | None = None, **config) -> SamMed2dTask:
    torch.manual_seed(0)
    return SamMed2dTask(networks.create("sam-med2d", {**SMALL, **config}), what or material(), settings)


def cpu(out, steps: int, **how) -> Run:
    return Run(out, steps, **{"measure_every": steps, "keep_every": steps, "accelerator": "cpu", **how})


def changed_by(one: SamMed2dTask, boxes: bool) -> set[str]:
    """Names of what the first step changes, with a box or a point."""
    before = {key: value.clone() for key, value in one.network.state_dict().items()}
    optimizer = one.optimizer()
    with_gradients(one, boxes)
    optimizer.step()
    return {key for key, value in one.network.state_dict().items() if not torch.equal(value, before[key])}


def with_gradients(one: SamMed2dTask, boxes: bool) -> set[str]:
    """Names of what the first loss reaches, with a box or a point."""
    random = np.random.default_rng(0)
    while bool(np.random.RandomState(int(_copy(random).integers(1 << 32))).randint(2)) != boxes:
        random.random()
    one.network.zero_grad()
    next(one.losses(random, CPU)).total.backward()
    return {key for key, parameter in one.network.named_parameters() if parameter.grad is not None}


def _copy(random: np.random.Generator) -> np.random.Generator:
    other = np.random.default_rng()
    other.bit_generator.state = random.bit_generator.state
    return other


def in_short(names: set[str]) -> set[str]:
    """As in the golden file: adapters and the decoder are not told apart."""
    return {
        "image_encoder.*.Adapter" if ".Adapter." in name else "mask_decoder" if name.startswith("mask_") else name
        for name in names
    }


def test_as_published_the_embeddings_of_points_never_learn(shared):
    meta = Golden(shared / "goldens" / "sam_med2d_train.npz").meta
    one = task(replace(FEW, published_freezing=True))
    first = changed_by(one, boxes=False)
    assert in_short(first) == set(meta["changed_by_point_step"])
    assert in_short(first | changed_by(one, boxes=True)) == set(meta["changed_by_point_then_box_step"])


def test_otherwise_they_do_and_all_that_is_marked_gets_gradients():
    one = task()
    marked = {key for key, parameter in one.network.named_parameters() if parameter.requires_grad}
    by_point, by_box = (with_gradients(one, boxes) for boxes in (False, True))
    assert by_point | by_box == marked
    of_points = {f"prompt_encoder.{name}.weight" for name in ("point_embeddings.1", "not_a_point_embed")}
    assert of_points <= by_point and not of_points & by_box
    assert not any("mask_downscaling" in key or "mlps.0." in key for key in marked)
    assert {key for key in marked if key.startswith("image_encoder.")} == {
        key for key, _ in one.network.named_parameters() if ".Adapter." in key
    }


@pytest.mark.parametrize("boxes", [True, False])
def test_only_the_decoder_learns_from_corrections(boxes):
    one = task()
    losses = one.losses(np.random.default_rng(int(boxes)), CPU)
    next(losses).total.backward()
    kinds = []
    for loss in losses:
        one.network.zero_grad()
        loss.total.backward()
        kinds.append({key.partition(".")[0] for key, p in one.network.named_parameters() if p.grad is not None})
    assert kinds == [{"mask_decoder"}] * 8


def test_published_numbers_of_what_learns():
    with torch.device("meta"):
        network = networks.create("sam-med2d")
    mark(network, SamMed2dSettings())
    sizes = {key: p.numel() for key, p in network.named_parameters() if p.requires_grad}
    adapters = sum(size for key, size in sizes.items() if key.startswith("image_encoder."))
    assert adapters == 12 * (2 * 768 + 2 * 768 * 192 + (9 + 16) * 768 * 768)


def test_the_loss_is_the_official_one_of_the_best_of_three(shared):
    golden = Golden(shared / "goldens" / "sam_med2d_train.npz")
    right, scores = golden.tensor("in.loss.pred"), golden.tensor("in.loss.pred_iou")
    for place in range(3):
        logits, expected = torch.zeros(3, 3, 24, 24), scores.min() - torch.ones(3, 3)
        logits[:, place : place + 1], expected[:, place : place + 1] = right, scores
        logits.requires_grad_(), expected.requires_grad_()
        low, loss = SamMed2dTask.loss(logits, expected, golden.tensor("in.loss.mask"))
        loss.total.backward()
        assert torch.equal(low, right)
        assert loss.total.item() == pytest.approx(float(golden["out.loss.total"]), abs=1e-5)
        for tensor, name in ((logits, "pred"), (expected, "iou")):
            grads = torch.zeros_like(tensor)
            grads[:, place : place + 1] = golden.tensor(f"out.loss.grad_{name}")
            assert torch.allclose(tensor.grad, grads, rtol=0, atol=1e-7)


def test_first_prompts_are_the_official_ones(shared):
    golden = Golden(shared / "goldens" / "sam_med2d_train.npz")
    one = task(replace(FEW, jitter=5))
    (points, labels), _, _ = one.first_prompts(
        golden["in.sample.mask"][None] > 0, False, np.random.RandomState(51), CPU
    )
    assert np.array_equal(points[0], golden["out.init1.coords"]) and np.array_equal(labels[0], [1])
    for seed, expected in enumerate(golden["out.box.two_jitter_seeds0_39"]):
        _, boxes, _ = one.first_prompts(golden["in.box.two"][None] > 0, True, np.random.RandomState(seed), CPU)
        assert np.array_equal(boxes[0], expected)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_corrections_are_the_official_clicks_beside_the_last_answer(shared, count):
    golden = Golden(shared / "goldens" / "sam_med2d_train.npz")
    low, wanted = golden.tensor("in.loss.pred"), golden["in.loss.mask"][:, 0] > 0

    class Seeded(np.random.RandomState):
        """Draws the number of clicks as it is here, then places as in the golden file."""

        def randint(self, *args, **how):
            return super().randint(*args, **how) if how else {1: 0, 3: 1, 9: 3}[count]

    (points, labels), boxes, masks = task().correction(low, wanted, Seeded(100 + count), clicks=True)
    assert np.array_equal(points, golden[f"out.click{count}.points"])
    assert np.array_equal(labels, golden[f"out.click{count}.labels"])
    assert boxes is None and torch.equal(masks, low.sigmoid())


def test_two_rounds_are_without_clicks():
    one, random = task(), np.random.RandomState(0)
    bare = [one.rounds_without_clicks(random) for _ in range(60)]
    assert all(7 in numbers and len(numbers) == 2 for numbers in bare)
    assert set.union(*bare) == set(range(1, 8))
    asked = one.correction(torch.randn(2, 1, 16, 16), np.zeros((2, 64, 64), bool), random, clicks=False)
    assert asked[:2] == (None, None) and asked[2].shape == (2, 1, 16, 16)


def test_masks_are_of_the_slice_and_lie_where_the_slice_does():
    small = discs(2, (3, 40, 50))
    one = task(replace(FEW, masks=6), material(small))
    piece, masks = one._example(np.random.default_rng(0))
    assert masks.shape == (6, 64, 64)
    kinds = {mask.tobytes() for mask in masks}
    assert len(kinds) == 2
    seen = one.seen(piece)[0].numpy()
    for mask in masks:
        box = Box.of_mask(mask)
        assert box.low >= (12, 7) and box.high <= (52, 57)
        labels = piece.labels[tuple(slice(a - o, b - o) for a, b, o in zip(box.low, box.high, (12, 7), strict=True))]
        assert np.unique(labels[mask[box.slices]]).size == 1
    assert (seen[:12] == 0).all() and (seen[52:] == 0).all() and (seen[:, :7] == 0).all()


@pytest.mark.parametrize("adapters", [True, pytest.param(False, marks=pytest.mark.full)])
def test_runs_are_the_same_and_go_on_as_if_never_stopped(adapters, tmp_path):
    settings = replace(FEW, adapters=adapters, rounds=2)
    check_runs_are_alike(lambda: task(settings), cpu(tmp_path, 3))


def test_measures_are_of_boxes_and_clicks(monkeypatch):
    one = task(what=material(discs(0), held_out=(discs(5, (6, 70, 60)), discs(6))))
    first = one.measure(CPU)
    assert set(first) == {"score", *NAMES.values()} and first == one.measure(CPU)
    asked = []
    decode = type(one.model(CPU)).decode
    monkeypatch.setattr(
        SAMMed2D,
        "decode",
        lambda self, embedding, prompts, previous: asked.append(prompts) or decode(self, embedding, prompts, previous),
    )
    one.measure(CPU)
    for box, click in zip(asked[::2], asked[1::2], strict=True):
        assert box.items[0].contains(click.items[0].index)
    kinds = {type(item) for prompts in asked for item in prompts}
    assert kinds == {Box, Point} and len(asked) == 2 * 2 * 3


def test_rates_are_halved_where_it_is_said():
    assert task().rate(10_000) == 1e-3
    rates = [task(replace(FEW, halved_every=2)).rate(step) for step in range(6)]
    assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]


@pytest.mark.full
def test_it_learns_discs_by_heart(tmp_path):
    one = task(replace(FEW, masks=4, rate=2e-3), material(discs(0)))
    standing = fit(one, cpu(tmp_path, 100, measure_every=20))
    assert standing.best > 0.9, standing.curve


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(InputError, match="no adapters to learn"):
        task(adapter=False)
    assert task(replace(FEW, adapters=False), adapter=False).encoder_stays
    with pytest.raises(InputError, match="above 0"):
        task(replace(FEW, masks=0))
    whole = discs(0)
    with pytest.raises(InputError, match="one grid"):
        task(what=material(replace(whole, labels=whole.labels[:, 1:])))
    with pytest.raises(InputError, match=r"label 7 \(tail\) is nowhere"):
        task(what=material(replace(whole, names={7: "tail"})))
