"""SAM-Med3D at its published size (`sam_med3d_vit_b_ori`)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_sammed import networks
from tests.golden import fill, max_difference
from tests.golden_3d import Golden3d, noise
from tests.networks.forms import FORMS, decode, encode_image, strided

pytestmark = pytest.mark.full

FLOAT32 = 1e-4
FLOAT16 = 2e-3  # relative to the largest value: the stored numbers are rounded


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "sam_med3d_vit_b_ori.npz")


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("sam-med3d"))


@pytest.fixture(scope="module", params=FORMS)
def used(request, network):
    form = FORMS[request.param](network)
    return form, encode_image(form, torch.from_numpy(noise(20240, 128, 128, 128)))


def relative(found, stored):
    return max_difference(found, stored) / stored.abs().max().item()


def test_embedding(golden, used):
    assert relative(used[1], golden.tensor("image_embedding")) < FLOAT16


def test_dense_position_code(golden, network):
    assert relative(strided(network.prompt_encoder.get_dense_pe(), 1, 4), golden.tensor("dense_pe")) < FLOAT16


@pytest.mark.parametrize("case", ["p1_zeromask", "pn_prev"])
def test_case(golden, used, case):
    previous = torch.zeros(1, 1, 32, 32, 32) if case == "p1_zeromask" else golden.tensor("p1_zeromask.low_res")
    prompts = {**golden.prompts(case), "masks": previous}
    with torch.inference_mode():
        sparse, dense = used[0].prompt_encoder(**prompts)
    assert max_difference(sparse, golden.tensor(f"{case}.sparse")) < FLOAT32
    assert relative(strided(dense, 1, 8), golden.tensor(f"{case}.dense")) < FLOAT16
    single, iou_single = decode(*used, prompts, multimask=False)
    multi, iou_multi = decode(*used, prompts, multimask=True)
    assert max_difference(single, golden.tensor(f"{case}.low_res")) < FLOAT32
    assert max_difference(torch.cat([iou_single, iou_multi], 1), golden.tensor(f"{case}.iou_all")) < FLOAT32
    masks = strided(torch.cat([single, multi], 1), 1, 1, 2, 2, 2)
    assert relative(masks, golden.tensor(f"{case}.masks_all")) < FLOAT16
    enlarged = F.interpolate(single, (128, 128, 128), mode="trilinear", align_corners=False)
    assert relative(strided(enlarged, 1, 1, 4, 4, 4), golden.tensor(f"{case}.final_logits")) < FLOAT16
