"""MedSAM's and LiteMedSAM's recipes: what learns, what the network sees, and that it learns boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.medsam import MedSAM
from napari_sammed.networks.lora import names_of_updates
from napari_sammed.prompts import Prompts
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Material
from napari_sammed.training.medsam_recipe import (
    LITEMEDSAM,
    MEDSAM,
    BoxSettings,
    LiteMedSAMTask,
    MedSAMTask,
    jittered,
    mark,
)
from napari_sammed.volume import Volume
from tests.golden import Golden, fill, max_difference
from tests.training.alike import check_runs_are_alike
from tests.training.planar_material import NAMES, discs, material

CPU = torch.device("cpu")
PARTS = {
    "prompt_embed_dim": 32,
    "decoder_mlp_dim": 64,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 32,
}
SMALL = {
    "medsam": {
        **{"image_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3},
        **{"global_attn_indexes": (1,), "window_size": 3, **PARTS},
    },
    "litemedsam": {"embed_dims": (4, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2), **PARTS},
}
TASKS = {"medsam": MedSAMTask, "litemedsam": LiteMedSAMTask}
FEW = BoxSettings("decoder", rate=1e-3, batch=2, jitter=2, measured=2)
BOTH = pytest.mark.parametrize("name", list(TASKS))


def task(name: str, settings: BoxSettings = FEW, what: Material | None = None):
    torch.manual_seed(0)
    return TASKS[name](networks.create(name, SMALL[name]), what or material(), settings)


def cpu(out, steps: int, **how) -> Run:
    return Run(out, steps, **{"measure_every": steps, "keep_every": steps, "accelerator": "cpu", **how})


def with_gradient(one) -> set[str]:
    (loss,) = one.losses(np.random.default_rng(0), CPU)
    loss.total.backward()
    return {key for key, parameter in one.network.named_parameters() if parameter.grad is not None}


@BOTH
@pytest.mark.parametrize("learns", ["decoder", "lora", "all"])
def test_exactly_what_is_to_learn_gets_gradients(name, learns):
    one = task(name, replace(FEW, learns=learns))
    parts = {key: key.partition(".")[0] for key in with_gradient(one)}
    marked = {key for key, parameter in one.network.named_parameters() if parameter.requires_grad}
    assert set(parts) == marked
    whole = {key for key, _ in one.network.named_parameters() if key.startswith("image_encoder.")}
    in_encoder = {key for key, part in parts.items() if part == "image_encoder"}
    expected = {"decoder": set(), "lora": names_of_updates(one.network), "all": whole}[learns]
    assert in_encoder == expected and bool(in_encoder) == (learns != "decoder")
    of_prompts = {key for key, part in parts.items() if part == "prompt_encoder"}
    assert len(of_prompts) == (3 if (name, learns) == ("litemedsam", "all") else 0)
    assert any("iou_prediction_head" in key for key in parts) == (name == "litemedsam")


def test_published_sizes():
    for name, settings, encoder in (("medsam", MEDSAM, 89_670_912), ("litemedsam", LITEMEDSAM, 5_726_740)):
        with torch.device("meta"):
            network = networks.create(name)
        mark(network, settings.learns, TASKS[name].scored)
        sizes = {key: p.numel() for key, p in network.named_parameters() if p.requires_grad}
        assert sum(size for key, size in sizes.items() if key.startswith("image_encoder.")) == encoder


def test_medsam_loss_is_the_official_one(shared):
    golden = Golden(shared / "goldens" / "medsam_tiny.npz")
    image = Volume.from_array(golden["in.image_gray"])
    labels = np.ones(image.grid.shape, np.uint8)
    network = fill(networks.create("medsam", golden.meta["config"]))
    one = MedSAMTask(network, material(replace(discs(0), image=image, labels=labels, names={1: "all"})), MEDSAM)
    piece, _ = one.slices.draw(np.random.default_rng(0))
    seen = one.seen(piece)
    assert max_difference(seen[None], golden.tensor("out.pre.input")) < 1e-6
    features = torch.cat([network.image_encoder(seen[None]), golden.tensor("out.colour.image_embedding")])
    loss = one.loss(features, golden.tensor("in.train.boxes"), golden.tensor("in.train.gt"))
    assert loss.total.item() == pytest.approx(float(golden["out.train.loss"]), abs=2e-6)
    assert loss.parts["dice"] == pytest.approx(float(golden["out.train.dice"]), abs=2e-6)
    assert loss.parts["cross_entropy"] == pytest.approx(float(golden["out.train.bce"]), abs=2e-6)


@BOTH
def test_the_decoder_learns_from_what_users_will_see(name):
    """Embeddings are those of the model that will be used, and boxes and masks lie where they lie in its input."""
    one, random = task(name, replace(FEW, jitter=0)), np.random.default_rng(3)
    model = {"medsam": MedSAM, "litemedsam": LiteMedSAM}[name](one.network)
    for _ in range(2):
        state = random.bit_generator.state
        piece, value = one.slices.draw(random)
        random.bit_generator.state = state
        features, box, mask = one.example(random, CPU)
        image = piece.example.image
        region = model.plan(image.grid, Prompts(), piece.box)
        embedding = model.embed(image, region, Window.auto(image))
        assert torch.equal(features, embedding.features[0]) and not features.is_inference()
        tight = Box.of_mask(mask)
        assert box.tolist() == [tight.low[1], tight.low[0], tight.high[1] - 1, tight.high[0] - 1]
        rows, columns = (samples / size for samples, size in zip(region.grid.shape[-2:], (70, 60), strict=True))
        assert mask.sum() == pytest.approx((piece.labels == value).sum() * rows * columns, rel=0.05)


@BOTH
def test_other_views_show_the_same_things_elsewhere_and_always_in_the_same_way(name):
    """Image and masks are varied together: what is bright stays bright, and lies where the mask says."""
    one, again = (task(name, replace(FEW, views=4)) for _ in range(2))
    random, views = np.random.default_rng(0), {}
    for _ in range(24):
        piece, mask = one.drawn(random)
        (value,) = (value for value in piece.values if np.array_equal(one.wanted(piece, value), mask))
        seen = one.seen(piece)
        part = one.frame(piece).slices
        inside, around = seen[0].numpy()[mask].mean(), seen[0].numpy()[part].mean()
        assert (inside > around + 0.1) if value == 1 else (inside < around - 0.1)
        rest = np.ones_like(mask)
        rest[part] = False
        assert not mask[rest].any() and torch.equal(seen[:, rest], one.seen(replace(piece, view=0))[:, rest])
        views.setdefault((*piece.key, value), {})[piece.view] = mask.tobytes()
    assert {view for each in views.values() for view in each} == set(range(4))
    assert all(len(set(each.values())) > len(each) / 2 for each in views.values())
    assert torch.equal(again.seen(piece), seen) and np.array_equal(again.wanted(piece, value), mask)
    found = one.features(piece, CPU)
    assert max_difference(found, one.network.image_encoder(seen[None])[0]) < 1e-4 and not found.is_inference()


def test_boxes_move_outward_and_stay_inside():
    mask = np.zeros((64, 64), bool)
    mask[10:20, 60:64] = True
    random = np.random.default_rng(0)
    boxes = np.array([jittered(mask, 5, 1, random) for _ in range(200)])
    assert (boxes.min(0) == [55, 5, 63, 19]).all() and (boxes.max(0) == [60, 10, 63, 24]).all()
    assert jittered(mask, 5, 0, random)[2] <= 64
    assert np.array_equal(jittered(mask, 0, 1, random), [60, 10, 63, 19])


@pytest.mark.parametrize(
    ("name", "learns"),
    [
        pytest.param("medsam", "decoder", marks=pytest.mark.full),
        ("medsam", "lora"),
        pytest.param("medsam", "all", marks=pytest.mark.full),
        ("litemedsam", "decoder"),
        pytest.param("litemedsam", "lora", marks=pytest.mark.full),
        pytest.param("litemedsam", "all", marks=pytest.mark.full),
    ],
)
def test_runs_are_the_same_and_go_on_as_if_never_stopped(name, learns, tmp_path):
    settings = replace(FEW, learns=learns, batch=1, flips=learns == "all", views=3)
    check_runs_are_alike(lambda: task(name, settings), cpu(tmp_path, 3))


@BOTH
def test_measures_are_the_dice_of_each_structure(name):
    one = task(name, what=material(discs(0), held_out=(discs(5, (6, 70, 60)),)))
    first = one.measure(CPU)
    assert set(first) == {"score", *NAMES.values()} and first == one.measure(CPU)
    assert first["score"] == pytest.approx(np.mean([first[name] for name in NAMES.values()]))
    assert len(list(one.slices.measured(2))) == 2


@BOTH
def test_updates_change_what_the_model_says_and_nothing_else_does(name, tmp_path):
    one = task(name, replace(FEW, learns="lora"))
    base = {key: value.clone() for key, value in one.network.state_dict().items()}
    fit(one, cpu(tmp_path, 2))
    changed = {key for key, value in one.network.state_dict().items() if not torch.equal(value, base[key])}
    updates = names_of_updates(one.network)
    assert changed & updates and {key for key in changed if key.startswith("image_encoder.")} <= updates
    image = discs(0).image
    model = one.model(CPU)
    region = model.plan(image.grid, Prompts(), None)
    fast = model.embed(image, region, Window.auto(image)).features
    with torch.no_grad():
        plain = one.network.eval().image_encoder(one.seen(_flat(one))[None])
    assert max_difference(fast, plain) < 1e-4


def _flat(one):
    return next(piece for piece, _ in one.slices.measured(1) if piece.example.labels.ndim == 2)


@pytest.mark.full
@pytest.mark.parametrize(("learns", "rate"), [("decoder", 3e-3), ("all", 1e-3)])
def test_it_learns_discs_by_heart(learns, rate, tmp_path):
    one = task("medsam", BoxSettings(learns, rate=rate, batch=2, jitter=2, measured=2), material(discs(0)))
    before = one.measure(CPU)["score"]
    standing = fit(one, cpu(tmp_path, 250, measure_every=50))
    assert standing.best > 0.9 > before, standing.curve


def test_what_cannot_be_learnt_is_refused():
    whole = discs(0)
    with pytest.raises(InputError, match=r"shape \(70, 59\), its image has \(70, 60\)"):
        task("litemedsam", what=material(replace(whole, labels=whole.labels[:, 1:])))
    with pytest.raises(InputError, match=r"label 7 \(tail\) is nowhere in discs 0"):
        task("litemedsam", what=material(replace(whole, names={1: "bright", 7: "tail"})))
    with pytest.raises(InputError, match="nothing labelled"):
        material(replace(whole, names={}))
    with pytest.raises(InputError, match="one of decoder, lora, all, not 'head'"):
        task("litemedsam", replace(FEW, learns="head"))
    with pytest.raises(InputError, match="above 0"):
        task("litemedsam", replace(FEW, batch=0))
    dot = np.zeros((2000, 2000), np.uint8)
    dot[1001, 1003] = 1
    tiny = replace(whole, image=Volume.from_array(dot), labels=dot, names={1: "dot"})
    with pytest.raises(InputError, match="so small"):
        next(task("litemedsam", what=material(tiny)).losses(np.random.default_rng(0), CPU))
