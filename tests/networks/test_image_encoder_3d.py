"""SAM-Med3D's image encoder against attention over all padded tokens written out, and its form for inference."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks import fast_block, fast_image_encoder_3d
from napari_sammed.networks.fast_image_encoder_3d import FastImageEncoder3d
from tests.benchmarks.plain_sam3d import PlainImageEncoder3d
from tests.golden import fill, max_difference

ENCODER = {"patch_size": 2, "embed_dim": 24, "depth": 3, "num_heads": 3, "global_attn_indexes": [1], "out_channels": 12}


def make(grid: int, window: int, tables: float = 1.0) -> networks.ImageEncoder3d:
    encoder = fill(networks.ImageEncoder3d(image_size=2 * grid, window_size=window, **ENCODER))
    for block in encoder.blocks:
        for axis in "dhw":
            getattr(block.attn, f"rel_pos_{axis}").data *= tables
    return encoder.requires_grad_(False)


def image(grid: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, *[2 * grid] * 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tables", [1, 30], ids=["usual-tables", "large-tables"])
@pytest.mark.parametrize(("grid", "window"), [(4, 6), (4, 5), (3, 8), (4, 4), (1, 3)])
def test_collapsed_padding_is_exact(grid, window, tables):
    encoder = make(grid, window, tables).double()
    expected = PlainImageEncoder3d(encoder)(image(grid).double())
    assert max_difference(encoder(image(grid).double()), expected) < 1e-11
    fast = FastImageEncoder3d(encoder, torch.float64)
    assert max_difference(fast(image(grid).double()), expected) < 1e-11


@pytest.mark.parametrize("strip_values", [1, 500])
def test_strips_do_not_change_the_embedding(monkeypatch, strip_values):
    monkeypatch.setattr(fast_block, "STRIP_VALUES", strip_values)
    encoder = make(3, 4)
    assert max_difference(FastImageEncoder3d(encoder)(image(3)), encoder(image(3))) < 5e-6


@pytest.mark.parametrize("together", [1, 2, 4])
def test_batch_equals_one_by_one(monkeypatch, together):
    monkeypatch.setattr(fast_image_encoder_3d, "CUBES", together)
    encoder, images = make(3, 5), image(3, 3)
    alone = torch.cat([encoder(images[i : i + 1]) for i in range(3)])
    for form in (encoder, FastImageEncoder3d(encoder)):
        assert max_difference(form(images), alone) < 5e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype):
    encoder = make(4, 6)
    expected = encoder(image(4))
    half = FastImageEncoder3d(encoder, dtype)(image(4))
    assert half.dtype == torch.float32
    assert max_difference(half, expected) < 0.02 * expected.abs().max()


def test_input_and_network_stay_as_they_are():
    encoder, cube = make(3, 5), image(3)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    FastImageEncoder3d(encoder)(cube)
    assert torch.equal(cube, image(3))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_gradients_are_those_of_all_padded_tokens():
    gradients = []
    for form in (lambda encoder: encoder, PlainImageEncoder3d):
        encoder = make(3, 5, 5.0).double().requires_grad_(True)
        (form(encoder)(image(3).double()) ** 3).sum().backward()
        gradients.append({name: value.grad for name, value in encoder.named_parameters()})
    ours, expected = gradients
    for name, gradient in expected.items():
        assert max_difference(ours[name], gradient) < 1e-9 * (1 + gradient.abs().max()), name


def test_maps_larger_than_the_window_are_refused():
    with pytest.raises(ValueError, match=r"window of 3 .* map of 4"):
        networks.ImageEncoder3d(image_size=8, window_size=3, **ENCODER)


def test_wrong_input_size_is_refused():
    with pytest.raises(ValueError, match=r"\(B, 1, 6, 6, 6\)"):
        make(3, 5)(torch.zeros(1, 1, 6, 6, 8))
