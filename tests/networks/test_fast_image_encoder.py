"""The inference form of SAM's image encoder on shapes, settings and precisions that the golden files do not have."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks import fast_attention, fast_block, fast_image_encoder, inference
from napari_sammed.networks.adapter import Adapter
from napari_sammed.networks.fast_adapter import FastAdapter
from napari_sammed.networks.fast_attention import attend_fused, attend_in_parts, padding_terms
from napari_sammed.networks.lora import add_encoder_lora
from tests.golden import fill, max_difference

ENCODER = {"patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 3, "global_attn_indexes": [1], "out_channels": 32}


def make(grid: int, window: int) -> networks.ImageEncoder:
    return fill(networks.ImageEncoder(image_size=4 * grid, window_size=window, **ENCODER))


def image(grid: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 4 * grid, 4 * grid, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("attend", [attend_in_parts, attend_fused], ids=["in-parts", "fused"])
@pytest.mark.parametrize(("grid", "window"), [(8, 4), (8, 5), (8, 7), (5, 14), (9, 2)])
def test_windows_of_any_size(monkeypatch, attend, grid, window):
    monkeypatch.setattr(fast_image_encoder, "attend_in_parts", attend)
    encoder = make(grid, window)
    with torch.inference_mode():
        assert max_difference(fast_image_encoder.FastImageEncoder(encoder)(image(grid)), encoder(image(grid))) < 1e-5


@pytest.mark.parametrize("logits", [1, 100, 1000, 1 << 20])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_parts_of_any_size(monkeypatch, logits, padded):
    monkeypatch.setattr(fast_attention, "LOGITS", logits)
    random = torch.Generator().manual_seed(0)
    q, rows, columns = (torch.randn(5, 12, n, generator=random) for n in (8, 3, 4))
    k, v = torch.randn(2, 5, 12 + padded, 8, generator=random)
    rest = torch.randn(5, 12, generator=random) if padded else None
    expected = q @ k.transpose(1, 2) / 8**0.5
    expected[..., :12] += (rows[..., :, None] + columns[..., None, :]).flatten(2)
    if padded:
        expected[..., 12] += rest
    expected = expected.softmax(-1) @ v
    assert max_difference(attend_in_parts(q, k, v, rows, columns, rest), expected) < 1e-6
    assert max_difference(attend_fused(q, k, v, rows, columns, rest), expected) < 1e-6


@pytest.mark.parametrize(("height", "width"), [(4, 2), (1, 4), (3, 3)])
def test_terms_of_padding_are_those_of_its_tokens(height, width):
    rows, columns = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    terms = rows[..., :, None] + columns[..., None, :]
    terms[..., :height, :width] = -torch.inf
    assert max_difference(padding_terms(rows, columns, height, width), terms.flatten(1).logsumexp(-1)) < 1e-6


@pytest.mark.parametrize("size", [(8, 8), (4, 10)])
def test_adapter_as_matrix_products(size):
    adapter = fill(Adapter(24))
    x = torch.randn(2, *size, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert max_difference(FastAdapter(adapter)(x), adapter(x)) < 1e-5


@pytest.mark.parametrize("together", [1, 128, 1 << 20], ids=["one", "two", "all"])
def test_batches(monkeypatch, together):
    monkeypatch.setattr(fast_image_encoder, "TOKENS", together)
    encoder = make(8, 5)
    images = image(8, count=3)
    before = images.clone()
    with torch.inference_mode():
        assert max_difference(fast_image_encoder.FastImageEncoder(encoder)(images), encoder(images)) < 1e-5
    assert torch.equal(images, before)


@pytest.mark.parametrize("strip_values", [1, 1000])
def test_strips_do_not_change_the_embedding(monkeypatch, strip_values):
    monkeypatch.setattr(fast_block, "STRIP_VALUES", strip_values)
    encoder = make(8, 5)
    with torch.inference_mode():
        assert max_difference(fast_image_encoder.FastImageEncoder(encoder)(image(8)), encoder(image(8))) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)], ids=["bfloat16", "float16"]
)
def test_half_precision_stays_near(dtype, bound):
    """Relative error of the embedding: the norm of the difference over the norm."""
    encoder = make(8, 5)
    networks.add_adapters(encoder)
    fill(encoder)
    with torch.inference_mode():
        exact = encoder(image(8))
        half = fast_image_encoder.FastImageEncoder(encoder, dtype)(image(8))
    assert half.dtype == torch.float32
    assert 0 < (half - exact).norm() / exact.norm() < bound


def test_weights_are_shared_unless_they_change():
    encoder = make(8, 5)
    add_encoder_lora(encoder, 2)
    fast = fast_image_encoder.FastImageEncoder(encoder)
    plain, block = encoder.blocks[0], fast.blocks[0]
    assert block.lin1.weight.data_ptr() == plain.mlp.lin1.weight.data_ptr()
    assert block.attn.qkv.weight.data_ptr() != plain.attn.qkv.qkv.weight.data_ptr()


def test_gradients_reach_every_parameter_of_the_trainable_form():
    encoder = make(8, 5)
    networks.add_adapters(encoder)
    add_encoder_lora(encoder, 2)
    fill(encoder).train()
    encoder(image(8, count=2)).square().sum().backward()
    assert [name for name, value in encoder.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize(
    ("device", "amx", "dtype"),
    [("cpu", False, torch.float32), ("cpu", True, torch.bfloat16), ("mps", True, torch.float32)],
    ids=["cpu", "cpu-amx", "mps"],
)
def test_fastest_dtype(monkeypatch, device, amx, dtype):
    monkeypatch.setattr(inference, "_has_amx", lambda: amx)
    assert networks.fastest_dtype(device) == dtype


@pytest.mark.parametrize(("capability", "dtype"), [((6, 1), torch.float32), ((8, 0), torch.float16)])
def test_fastest_dtype_of_gpus(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert networks.fastest_dtype("cuda") == dtype


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-med2d", "samed", "samed_s"])
def test_optimizing_leaves_the_network_alone(name):
    config = {"image_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "prompt_embed_dim": 32, "window_size": 3}
    network = fill(networks.create(name, {**config, "patch_size": 4, "global_attn_indexes": [1]}))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    networks.optimized(network)(torch.rand(1, 3, 32, 32))
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_wrong_sizes_are_refused():
    encoder = make(5, 3)
    for form in (encoder, fast_image_encoder.FastImageEncoder(encoder)):
        with pytest.raises(ValueError, match="20, 20"):
            form(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="even grid, not 5"):
        networks.add_adapters(encoder)
    with pytest.raises(ValueError, match="multiple of the patch size"):
        networks.ImageEncoder(image_size=30, patch_size=16)
    with pytest.raises(ValueError, match="multiple of 5 heads"):
        networks.ImageEncoder(embed_dim=48, num_heads=5)
