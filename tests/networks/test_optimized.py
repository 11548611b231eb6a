"""The inference forms against the trainable networks, on shapes that the published size does not have."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks import fast_mask_decoder, fast_tiny_vit, inference
from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.prompt_encoder import PromptEncoder
from napari_sammed.networks.transformer import TwoWayTransformer
from tests.golden import fill, max_difference

SMALL = {
    "image_size": 64,
    "embed_dims": (16, 32, 48, 64),
    "depths": (2, 1, 2, 1),
    "num_heads": (1, 2, 3, 4),
    "window_sizes": (7, 5, 7, 4),  # grids of 32, 16, 16: padded, padded, whole windows
    "prompt_embed_dim": 32,
    "decoder_num_heads": 4,
    "decoder_mlp_dim": 64,
    "iou_head_hidden_dim": 32,
}


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("litemedsam", SMALL))


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("strip_values", [1, 3 * 64 * 64, 1 << 30], ids=["one-row", "three-rows", "whole"])
def test_strips_do_not_change_the_embedding(network, images, monkeypatch, strip_values):
    monkeypatch.setattr(fast_tiny_vit, "STRIP_VALUES", max(strip_values, 4 * 64))
    with torch.inference_mode():
        plain, fast = network.image_encoder(images), networks.optimized(network).image_encoder(images)
    assert max_difference(plain, fast) < 5e-6


def test_encoder_does_not_change_its_input(network, images):
    before = images.clone()
    networks.optimized(network).image_encoder(images)
    assert torch.equal(images, before)


def test_folded_form_for_gpus(network, images):
    """In double precision, where it does not depend on the order of sums, which goes with the number of threads."""
    encoder, images = copy.deepcopy(network.image_encoder).double(), images.double()
    with torch.inference_mode():
        plain, folded = encoder(images), inference._folded_copy(encoder)(images)
    assert max_difference(plain, folded) < 1e-10


def test_optimizing_leaves_the_network_alone(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    networks.optimized(network)
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("grid", [(6, 8), (3, 4, 5)], ids=["2d", "3d"])
@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("prompt", ["box", "mask", "images"])
def test_fast_decoder_equals_the_plain_one(grid, multimask, prompt, monkeypatch):
    monkeypatch.setattr(fast_mask_decoder, "CHUNK", 2)
    dims, width = len(grid), 48
    prompt_encoder = fill(PromptEncoder(width, grid, tuple(8 * n for n in grid)))
    decoder = fill(MaskDecoder(TwoWayTransformer(2, width, 4, 64), width, dims=dims, iou_head_hidden_dim=32))
    random = torch.Generator().manual_seed(1)
    count = 5
    boxes = 20 * torch.rand(count, 2 * dims, generator=random)
    masks = torch.randn(count, 1, *prompt_encoder.mask_input_size, generator=random)
    images = torch.randn(count if prompt == "images" else 1, width, *grid, generator=random)
    with torch.inference_mode():
        sparse, dense = prompt_encoder(boxes=boxes, masks=masks if prompt == "mask" else None)
        inputs = {
            "image_embeddings": images,
            "image_pe": prompt_encoder.get_dense_pe(),
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": dense,
            "multimask_output": multimask,
        }
        plain = decoder(**inputs)
        fast = fast_mask_decoder.FastMaskDecoder(decoder)(**inputs)
    assert plain[0].shape == (count, 3 if multimask else 1, *[4 * n for n in grid])
    assert max_difference(plain[0], fast[0]) < 1e-5
    assert max_difference(plain[1], fast[1]) < 1e-5


def test_batch_of_prompts_equals_one_by_one(network, images):
    boxes = torch.tensor([[3.0, 4, 30, 40], [10, 12, 50, 33], [0, 0, 63, 63]])
    fast = networks.optimized(network)
    with torch.inference_mode():
        together, _ = fast(images[:1], boxes=boxes)
        alone = torch.cat([fast(images[:1], boxes=box[None])[0] for box in boxes])
    assert max_difference(together, alone) < 1e-5


def test_every_image_with_its_own_box(network, images):
    boxes = torch.tensor([[3.0, 4, 30, 40], [10, 12, 50, 33], [0, 0, 63, 63]])
    with torch.inference_mode():
        together, _ = network(images, boxes=boxes)
        alone = torch.cat([network(images[i : i + 1], boxes=boxes[i : i + 1])[0] for i in range(3)])
    assert max_difference(together, alone) < 1e-5


def test_gradients_reach_every_parameter_of_the_trainable_form(network, images):
    points = (torch.tensor([[[20.0, 20], [5, 5]]]), torch.tensor([[1, 0]]))
    masks, iou = network(images[:1], points, torch.tensor([[3.0, 4, 30, 40]]), None, multimask_output=True)
    (masks.sum() + iou.sum()).backward()
    without = {name for name, value in network.named_parameters() if value.grad is None}
    network.zero_grad(set_to_none=True)
    unused = ("mask_downscaling", "not_a_point_embed", "output_hypernetworks_mlps.0")
    assert {name for name in without if not any(part in name for part in unused)} == set()


@pytest.mark.parametrize(
    ("name", "config", "word"),
    [("nonsense", None, "nonsense"), ("litemedsam", {"image_sise": 64}, "image_sise")],
    ids=["name", "config"],
)
def test_create_refuses_what_it_does_not_know(name, config, word):
    with pytest.raises(ValueError, match=word):
        networks.create(name, config)


def test_batches_that_do_not_match_are_refused(network, images):
    with pytest.raises(ValueError, match="3 image embeddings do not match 2"):
        network(images, boxes=torch.tensor([[3.0, 4, 30, 40], [10, 12, 50, 33]]))


def test_wrong_input_size_is_refused(network):
    with pytest.raises(ValueError, match="64"):
        network.image_encoder(torch.zeros(1, 3, 32, 32))
