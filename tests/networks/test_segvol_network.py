"""SegVol's two forms against each other, on shapes and precisions that the golden files do not have."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks import fast_block
from tests.benchmarks.plain_sam3d import plain
from tests.golden import fill, max_difference

SMALL = {
    "spatial_size": (4, 24, 16),
    "patch_size": (2, 8, 4),
    "hidden_size": 48,
    "mlp_dim": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_mlp_dim": 64,
    "iou_head_hidden_dim": 32,
}


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("segvol", SMALL))


@pytest.fixture(scope="module")
def images():
    return torch.rand(6, 1, 4, 24, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def boxes():
    corners = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(1)).sort(dim=1).values
    return (corners * torch.tensor([4.0, 24, 16])).view(6, 6)


@pytest.mark.parametrize("strip_values", [1, 500, 1 << 20])
def test_both_forms_equal_attention_written_out(monkeypatch, network, images, strip_values):
    monkeypatch.setattr(fast_block, "STRIP_VALUES", strip_values)
    with torch.inference_mode():
        expected = plain(network).image_encoder(images)
        assert max_difference(network.image_encoder(images), expected) < 5e-6
        assert max_difference(networks.optimized(network).image_encoder(images), expected) < 5e-6


@pytest.mark.parametrize("count", [1, 6], ids=["one-window", "every-window-its-own"])
def test_batch_of_boxes_equals_one_by_one(network, images, boxes, count):
    form = networks.optimized(network)
    with torch.inference_mode():
        together, _ = form(images[:count], boxes=boxes)
        alone = torch.cat([network(images[i % count][None], boxes=boxes[i : i + 1])[0] for i in range(6)])
    assert together.shape == (6, 1, 8, 12, 16)
    assert max_difference(together, alone) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(network, images, dtype):
    with torch.inference_mode():
        expected = network.image_encoder(images)
        half = networks.optimized(network, dtype).image_encoder(images)
    assert half.dtype == torch.float32
    assert max_difference(half, expected) < 0.02 * expected.abs().max()


def test_optimizing_leaves_network_and_input_alone(network, images):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    given = images.clone()
    networks.optimized(network).image_encoder(given)
    assert torch.equal(given, images)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_gradients_reach_every_parameter_that_is_used(network, images, boxes):
    points = (torch.tensor([[[1.0, 20, 5], [3, 5, 5]]]), torch.tensor([[1, 0]]))
    masks, iou = network(images[:1], points, boxes[:1], multimask_output=True)
    (masks.sum() + iou.sum()).backward()
    without = {name for name, value in network.named_parameters() if value.grad is None}
    network.zero_grad(set_to_none=True)
    unused = ("mask_downscaling", "not_a_point_embed", "output_hypernetworks_mlps.0", "txt_align")
    assert {name for name in without if not any(part in name for part in unused)} == set()


def test_sizes_that_patches_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 24, 17\)"):
        networks.create("segvol", {**SMALL, "spatial_size": (4, 24, 17)})


def test_wrong_input_size_is_refused(network):
    with pytest.raises(ValueError, match=r"\(B, 1, 4, 24, 16\)"):
        network.image_encoder(torch.zeros(1, 1, 4, 24, 8))
