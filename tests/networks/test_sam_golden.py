"""SAM and MedSAM against the official networks' numbers."""

from __future__ import annotations

import json

import pytest
import torch

from napari_sammed import networks
from tests.golden import Golden, described_keys, fill, max_difference
from tests.networks.forms import (
    FORMS,
    HALF,
    TINY,
    decode,
    encode_image,
    encoder_stages,
    outputs,
    prompts_in_frame,
    relative_error,
)

TINY_CASES = ["point1", "points_posneg", "points_pad", "box", "points_box", "mask", "points_mask", "two_boxes", "none"]
TINY_STAGES = ["patch_embed", "block0", "block1", "block2", "block3", "neck0", "neck1", "neck2"]


@pytest.fixture(scope="module", params=["sam_tiny", "medsam_tiny"])
def tiny(request, shared):
    """A tiny golden file and the network that it describes."""
    golden = Golden(shared / "goldens" / f"{request.param}.npz")
    name = "sam-vit-b" if request.param == "sam_tiny" else "medsam"
    return golden, fill(networks.create(name, golden.meta["config"]))


@pytest.fixture(scope="module")
def sam_tiny(shared):
    golden = Golden(shared / "goldens" / "sam_tiny.npz")
    return golden, fill(networks.create("sam-vit-b", golden.meta["config"]))


@pytest.fixture(scope="module")
def medsam_tiny(shared):
    golden = Golden(shared / "goldens" / "medsam_tiny.npz")
    return golden, fill(networks.create("medsam", golden.meta["config"]))


def test_keys_are_the_official_ones(tiny):
    golden, network = tiny
    assert described_keys(network) == golden.keys


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_keys_of_published_sizes(shared, size):
    listed = json.loads((shared / "goldens" / "sam_state_keys.json").read_text())[size]
    with torch.device("meta"):
        network = networks.create(f"sam-{size.replace('_', '-')}")
    ours = described_keys(network)
    assert ours == {key: (tuple(shape), dtype) for key, shape, dtype in listed["keys"]}
    assert len(ours) == listed["n_tensors"]
    assert sum(value.numel() for value in network.state_dict().values()) == listed["n_params"]


def test_keys_of_medsam_are_those_of_vit_b(shared):
    with torch.device("meta"):
        assert described_keys(networks.create("medsam")) == Golden(shared / "goldens" / "medsam_vit_b.npz").keys


@pytest.mark.parametrize("stage", TINY_STAGES)
def test_sam_tiny_encoder_stage(sam_tiny, stage):
    golden, network = sam_tiny
    encoder = network.image_encoder
    found = outputs(encoder, golden.tensor("out.pre.input"), encoder_stages(encoder))
    assert max_difference(found[f"enc.{stage}"], golden.tensor(f"out.enc.{stage}")) < TINY


@pytest.mark.parametrize("form", FORMS)
def test_tiny_embedding(tiny, form):
    golden, network = tiny
    embedding = encode_image(FORMS[form](network), golden.tensor("out.pre.input"))
    assert max_difference(embedding, golden.tensor("out.image_embedding")) < TINY


@pytest.mark.parametrize(("dtype", "bound"), HALF.items(), ids=str)
def test_tiny_embedding_in_half_precision(tiny, dtype, bound):
    golden, network = tiny
    embedding = encode_image(networks.optimized(network, dtype), golden.tensor("out.pre.input"))
    assert relative_error(embedding, golden.tensor("out.image_embedding")) < bound


@pytest.mark.parametrize("output", ["multi", "single"])
@pytest.mark.parametrize("case", TINY_CASES)
@pytest.mark.parametrize("form", FORMS)
def test_sam_tiny_case(sam_tiny, form, case, output):
    golden, network = sam_tiny
    used = FORMS[form](network)
    embedding = encode_image(used, golden.tensor("out.pre.input"))
    masks, iou = decode(used, embedding, prompts_in_frame(golden, case), output == "multi")
    assert max_difference(masks, golden.tensor(f"out.{case}.low_res_{output}")) < TINY
    assert max_difference(iou, golden.tensor(f"out.{case}.iou_{output}")) < TINY


@pytest.mark.parametrize("case", ["box0", "box1"])
@pytest.mark.parametrize("form", FORMS)
def test_medsam_tiny_case(medsam_tiny, form, case):
    golden, network = medsam_tiny
    used = FORMS[form](network)
    boxes = golden.tensor(f"out.{case}.box_in_frame").float()
    embedding = encode_image(used, golden.tensor("out.pre.input"))
    masks, iou = decode(used, embedding, {"boxes": boxes}, multimask=False)
    assert max_difference(masks, golden.tensor(f"out.{case}.low_res")) < TINY
    assert max_difference(iou, golden.tensor(f"out.{case}.iou")) < TINY


def test_medsam_tiny_colour(medsam_tiny):
    golden, network = medsam_tiny
    pixels = golden.tensor("out.colour.resized_uint8").float()
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    for form in FORMS.values():
        embedding = encode_image(form(network), pixels.permute(2, 0, 1)[None])
        assert max_difference(embedding, golden.tensor("out.colour.image_embedding")) < TINY
