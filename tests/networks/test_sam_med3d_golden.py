"""SAM-Med3D against the official network's numbers (`sam_med3d_tiny`)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_sammed import networks
from tests.golden import described_keys, fill, max_difference
from tests.golden_3d import Golden3d
from tests.networks.forms import FORMS, TINY, decode, encode_image, outputs

CASES = ["p1_nomask", "p1_zeromask", "pn_prev", "p3_pad", "nopoint_prev", "batch2"]
STAGES = ["patch_embed", *(f"block_{i}" for i in range(4))]


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "sam_med3d_tiny.npz")


@pytest.fixture(scope="module")
def network(golden):
    return fill(networks.create("sam-med3d", golden.config))


@pytest.fixture(scope="module", params=FORMS)
def used(request, golden, network):
    form = FORMS[request.param](network)
    return form, encode_image(form, golden.tensor("image"))


def test_keys_are_the_official_ones(golden, network):
    assert described_keys(network) == golden.keys


def test_keys_of_the_published_size(shared):
    with torch.device("meta"):
        ours = described_keys(networks.create("sam-med3d"))
    assert ours == Golden3d(shared / "goldens" / "sam_med3d_vit_b_ori.npz").keys


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stage", STAGES)
def test_encoder_stage(golden, network, form, stage):
    encoder = FORMS[form](network).image_encoder
    if stage == "patch_embed":
        found = encode_patches(network.image_encoder, golden.tensor("image"))
    else:
        block = encoder.blocks[int(stage[-1])]
        before = int(stage[-1]) - 1
        entry = golden.tensor("enc_patch_embed") + network.image_encoder.pos_embed
        with torch.inference_mode():
            found = block((golden.tensor(f"enc_block_{before}") if before >= 0 else entry).clone())
    assert max_difference(found, golden.tensor(f"enc_{stage}")) < TINY


@torch.inference_mode()
def encode_patches(encoder, image):
    return encoder.patch_embed(image)


def test_blocks_one_after_the_other(golden, network):
    blocks = network.image_encoder.blocks
    found = outputs(network.image_encoder, golden.tensor("image"), {str(i): block for i, block in enumerate(blocks)})
    for i in range(4):
        assert max_difference(found[str(i)], golden.tensor(f"enc_block_{i}")) < TINY


def test_embedding(golden, used):
    assert max_difference(used[1], golden.tensor("image_embedding")) < TINY


def test_dense_position_code(golden, network):
    assert max_difference(network.prompt_encoder.get_dense_pe(), golden.tensor("dense_pe")) < TINY


@pytest.mark.parametrize("case", CASES)
def test_prompt_encoder(golden, network, case):
    with torch.inference_mode():
        sparse, dense = network.prompt_encoder(**golden.prompts(case))
    assert max_difference(sparse, golden.tensor(f"{case}.sparse")) < TINY
    assert max_difference(dense, golden.tensor(f"{case}.dense")) < TINY


@pytest.mark.parametrize("case", CASES)
def test_case(golden, used, case):
    single, iou_single = decode(*used, golden.prompts(case), multimask=False)
    multi, iou_multi = decode(*used, golden.prompts(case), multimask=True)
    assert max_difference(torch.cat([single, multi], 1), golden.tensor(f"{case}.masks_all")) < TINY
    assert max_difference(torch.cat([iou_single, iou_multi], 1), golden.tensor(f"{case}.iou_all")) < TINY
    enlarged = F.interpolate(single, (32, 32, 32), mode="trilinear", align_corners=False)
    assert max_difference(enlarged, golden.tensor(f"{case}.final_logits")) < TINY


def test_a_box_is_refused(network):
    with pytest.raises(ValueError, match="boxes"):
        network.prompt_encoder(boxes=torch.zeros(1, 6))
