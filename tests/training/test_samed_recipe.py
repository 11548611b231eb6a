"""SAMed's recipe: what learns, what slices become, and that it learns organs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.models.axial import AxialView
from napari_sammed.models.samed import TRAINED_WINDOW
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Example, Material
from napari_sammed.training.samed_recipe import SamedSettings, SamedTask, augmented, mark
from napari_sammed.training.samed_slices import Slices, window_for
from napari_sammed.volume import Volume, read_volume

SMALL = {
    "image_size": 64,
    "patch_size": 8,
    "embed_dim": 96,
    "depth": 2,
    "num_heads": 4,
    "global_attn_indexes": (1,),
    "window_size": 4,
    "num_classes": 2,
    "prompt_embed_dim": 64,
    "decoder_mlp_dim": 128,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 64,
}
NAMES = {1: "bright", 2: "dark"}
FEW = SamedSettings(rate=0.003, warm_up=20, steps=2000, batch=4, sampled_size=64, augmented=False)


def network(name: str = "samed", **changes):
    torch.manual_seed(0)
    return networks.create(name, {**SMALL, **changes})


def discs(count: int = 6, held_out: int = 0) -> Material:
    """Flat images with a bright disc (label 1) and a dark one (label 2)."""
    found, random = [], np.random.default_rng(0)
    rows, columns = np.indices((50, 60))
    for number in range(count):
        labels = np.zeros((50, 60), np.uint8)
        for label, (y, x) in enumerate([random.uniform(12, 20, 2), random.uniform(30, 40, 2)], 1):
            labels[(rows - y) ** 2 + (columns - x) ** 2 < 81] = label
        pixels = np.array([127, 230, 25])[labels] + random.normal(0, 5, labels.shape)
        found.append(example(pixels.astype(np.uint8), labels, NAMES, f"case {number}"))
    return Material(tuple(found[held_out:]), tuple(found[:held_out]), NAMES)


def example(array: np.ndarray, labels: np.ndarray, names, name: str = "case") -> Example:
    return Example(name, name, Volume(array, Grid.plain(array.shape), name), labels, names)


@pytest.mark.parametrize(("name", "learnt"), [("samed", 4_913_621), ("samed_h", None), ("samed_s", None)])
def test_what_learns_is_what_the_sheet_says(name, learnt):
    with torch.device("meta"):
        published = networks.create(name)
    mark(published)
    names = {key for key, parameter in published.named_parameters() if parameter.requires_grad}
    encoder = {key for key in names if key.startswith("image_encoder.")}
    assert encoder and all(".qkv.linear_" in key for key in encoder)
    assert {key for key, _ in published.prompt_encoder.named_parameters("prompt_encoder")} <= names
    below = [key for key in names if key.startswith("mask_decoder.transformer.")]
    assert all(".w_a." in key or ".w_b." in key for key in below) == (name == "samed_s")
    if learnt is not None:
        parameters = list(published.parameters())
        assert sum(p.numel() for p in parameters if p.requires_grad) == learnt
        assert sum(p.numel() for p in parameters) == 92_192_469


def test_the_form_for_inference_leaves_the_gradients_of_the_plain_one():
    """Which share their weights."""
    plain, image = network(), torch.rand(1, 3, 64, 64)
    mark(plain)
    updates = [p for name, p in plain.image_encoder.named_parameters() if "linear_" in name]
    for update in updates:  # half of them begin with zeros
        torch.nn.init.normal_(update, std=0.02)

    def gradients() -> list[torch.Tensor]:
        plain.zero_grad()
        plain.image_encoder(image).square().mean().backward()
        return [update.grad.clone() for update in updates]

    before = gradients()
    with torch.inference_mode():
        networks.optimized(plain).image_encoder(image)
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(before, gradients(), strict=True))


def test_labels_go_where_pixels_go():
    item, random = Slices(discs(1).train[0], ("bright", "dark"), TRAINED_WINDOW)[0], np.random.default_rng(0)
    shapes = set()
    for _ in range(30):
        turned = augmented(item, random)
        shapes.add(turned.pixels.shape)
        for number, low, high in ((1, 0.7, 1.1), (2, -0.1, 0.3)):
            inside = turned.pixels[turned.labels == number]
            assert len(inside) > 150 and ((inside > low) & (inside < high)).mean() > 0.99
    assert shapes == {(50, 60), (60, 50)}


def test_it_learns_and_the_rest_stays(tmp_path):
    task = SamedTask(network(), discs(), FEW)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    standing = fit(task, Run(tmp_path, 60, measure_every=30, accelerator="cpu"))
    assert standing.best > 0.6 and standing.curve[-1]["loss"] < 0.6
    assert {"bright", "dark"} <= set(standing.curve[-1])
    changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all("linear_" in name for name in changed if name.startswith("image_encoder."))
    assert any(name.startswith("image_encoder.") for name in changed)


@pytest.mark.full
def test_it_learns_two_organs_from_random_weights(shared, tmp_path):
    folder = shared / "data" / "3d_ct_torso_multiorgan"
    image, reference = (read_volume(folder / f"{name}.nii.gz").array for name in ("image", "labels"))
    labels = np.zeros(reference.shape, np.uint8)
    for number, organ in enumerate((5, 1), 1):  # liver, spleen
        labels[reference == organ] = number
    organs = example(image[:30:3], labels[:30:3], {1: "liver", 2: "spleen"})
    task = SamedTask(
        network(image_size=128),
        Material((organs,), (), organs.names),
        SamedSettings(0.003, 20, 2000, batch=4, sampled_size=128, augmented=False),
    )
    standing = fit(task, Run(tmp_path, 300, measure_every=50, accelerator="cpu"))
    assert standing.best > 0.9, standing.curve


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(InputError, match="2 structures, but the network knows 1 classes"):
        SamedTask(network(num_classes=1), discs())
    colour = example(np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.uint8), {1: "polyp"})
    grid = Grid.plain((20, 20))
    colour = replace(colour, image=Volume(np.zeros((20, 20, 3), np.uint8), grid))
    with pytest.raises(InputError, match="in colour"):
        SamedTask(network(num_classes=1), Material((colour,), (), {1: "polyp"}))


def volume(modality: str | None = "CT") -> Example:
    """Ten slices, of which the last three have something in them, label 7; 3 is not learnt."""
    array = np.full((10, 24, 20), -100, np.int16)
    labels = np.zeros(array.shape, np.uint16)
    array[7:, 4:9, 3:6], labels[7:, 4:9, 3:6], labels[0] = 200, 7, 3
    grid = Grid(array.shape, (3, 1, 1), (0, 0, 0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), mirrored=True)
    return Example("ct", "p", Volume(array, grid, "ct", modality), labels, {7: "nodule"})


def test_slices_are_those_that_samed_sees():
    slices = Slices(volume(), ("nodule",), TRAINED_WINDOW)
    assert len(slices) == 10 and slices.labelled().tolist() == [7, 8, 9]
    item = slices[8]
    assert item.pixels.dtype == np.float32 and item.pixels.max() == np.float32(325 / 400) and item.labels.max() == 1
    assert np.array_equal(item.labels > 0, item.pixels > 0.5)
    view = AxialView.of(volume().image.grid, rows="A", columns="L")
    assert np.array_equal(item.labels > 0, view.turn(volume().labels)[8] == 7)
    assert slices.some(0).tolist() == list(range(10)) and slices.some(2).tolist() == [6, 9]
    assert slices.some(50).tolist() == [6, 7, 8, 9]


def test_the_window_is_that_of_the_images():
    assert window_for([volume().image]) == TRAINED_WINDOW
    assert window_for([volume().image, volume("MR").image]).kind == "percentiles"
    assert window_for([discs(1).train[0].image]) == TRAINED_WINDOW


def test_a_step_has_as_many_slices_with_something_in_them_as_wanted():
    material = Material((volume(),), (), {7: "nodule"})
    task = SamedTask(network(num_classes=1), material, replace(FEW, labelled=0.75, batch=8))
    drawn = list(task._drawn(np.random.default_rng(0)))
    assert len(drawn) == 8 and all(index >= 7 for _, index in drawn[:6])
    assert drawn == list(task._drawn(np.random.default_rng(0)))
    published = SamedTask(network(num_classes=1), material, replace(FEW, batch=10))
    assert sorted(index for _, index in published._drawn(np.random.default_rng(0))) == list(range(10))


def test_what_is_held_out_is_measured_and_not_learnt():
    material = discs(6, held_out=2)
    task = SamedTask(network(), material, FEW)
    assert [slices.example for slices in task._measured] == list(material.held_out)
    assert {case for case, _ in task._all} == set(range(4))
    measures = task.measure(torch.device("cpu"))
    assert set(measures) == {"score", "bright", "dark"} and measures == task.measure(torch.device("cpu"))
    assert measures["score"] == pytest.approx((measures["bright"] + measures["dark"]) / 2)
