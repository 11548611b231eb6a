"""SAMed's recipe: what learns, what slices become, and that it learns organs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.samed_recipe import SamedSettings, SamedTask, Slice, augmented, mark
from napari_sammed.volume import read_volume

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
FEW = SamedSettings(rate=0.003, warm_up=20, steps=2000, batch=4, sampled_size=64, augmented=False)


def network(name: str = "samed", **changes):
    torch.manual_seed(0)
    return networks.create(name, {**SMALL, **changes})


def discs(count: int = 6) -> list[Slice]:
    """Slices with a bright disc (class 1) and a dark one (class 2)."""
    found, random = [], np.random.default_rng(0)
    rows, columns = np.indices((50, 60))
    for _ in range(count):
        labels = np.zeros((50, 60), np.uint8)
        for number, (y, x) in enumerate([random.uniform(12, 20, 2), random.uniform(30, 40, 2)], 1):
            labels[(rows - y) ** 2 + (columns - x) ** 2 < 81] = number
        pixels = np.array([0.5, 0.9, 0.1])[labels] + random.normal(0, 0.02, labels.shape)
        found.append(Slice(pixels.astype(np.float32), labels))
    return found


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


def test_labels_go_where_pixels_go():
    item, random = discs(1)[0], np.random.default_rng(0)
    shapes = set()
    for _ in range(30):
        turned = augmented(item, random)
        shapes.add(turned.pixels.shape)
        for number, low, high in ((1, 0.7, 1.1), (2, -0.1, 0.3)):
            inside = turned.pixels[turned.labels == number]
            assert len(inside) > 150 and ((inside > low) & (inside < high)).mean() > 0.99
    assert shapes == {(50, 60), (60, 50)}


def test_it_learns_and_the_rest_stays(tmp_path):
    task = SamedTask(network(), discs(), [], FEW)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    standing = fit(task, Run(tmp_path, 60, measure_every=30, accelerator="cpu"))
    assert standing.best > 0.6 and standing.curve[-1]["loss"] < 0.6
    assert {"class 1", "class 2"} <= set(standing.curve[-1])
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
    pixels = ((image.astype(np.float32) + 125) / 400).clip(0, 1)
    slices = [Slice(pixels[z], labels[z]) for z in range(0, 30, 3)]
    task = SamedTask(
        network(image_size=128), slices, [], SamedSettings(0.003, 20, 2000, batch=4, sampled_size=128, augmented=False)
    )
    standing = fit(task, Run(tmp_path, 300, measure_every=50, accelerator="cpu"))
    assert standing.best > 0.9, standing.curve


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(InputError, match="no slices"):
        SamedTask(network(), [], [])
    with pytest.raises(InputError, match="label 2, but the network knows 1 classes"):
        SamedTask(network(num_classes=1), discs(), [])
