"""SegVol at its published size (`segvol_full`)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_sammed import networks
from tests.golden import fill, max_difference
from tests.golden_3d import Golden3d, noise
from tests.networks.forms import FORMS, encode_image, strided
from tests.networks.test_segvol_golden import as_tokens, decode_all

pytestmark = pytest.mark.full

FLOAT32 = 1e-4
MASKS = 1e-6  # they are below 0.1
FLOAT16 = 2e-3  # relative to the largest value: the stored numbers are rounded


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "segvol_full.npz")


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("segvol", {"text": "dim_align"}))


@pytest.fixture(scope="module", params=FORMS)
def used(request, network):
    form = FORMS[request.param](network)
    return form, encode_image(form, torch.from_numpy(noise(30240, 32, 256, 256)))


def relative(found, stored):
    return max_difference(found, stored) / stored.abs().max().item()


def test_embedding(golden, used):
    assert relative(strided(as_tokens(used[1]), 1, 8), golden.tensor("encoder_tokens")) < FLOAT16


def test_dense_position_code(golden, network):
    assert relative(strided(network.prompt_encoder.get_dense_pe(), 1, 16), golden.tensor("dense_pe")) < FLOAT16


@pytest.mark.parametrize("case", ["pn", "box", "p_box", "text_box"])
def test_case(golden, used, case):
    text = None
    with torch.inference_mode():
        if case == "text_box":
            text = used[0].text_encoder(golden.tensor("text_box.clip_pooled_512"))
            assert max_difference(text, golden.tensor("text_box.text_embedding_768")) < FLOAT32
        sparse, dense = used[0].prompt_encoder(**golden.prompts(case), text_embedding=text)
    assert max_difference(sparse, golden.tensor(f"{case}.sparse")) < FLOAT32
    assert relative(strided(dense, 1, 64), golden.tensor(f"{case}.dense")) < FLOAT16
    masks, iou = decode_all(*used, golden.prompts(case), text)
    assert max_difference(strided(masks[:, :1], 1, 1, 1, 2, 2), golden.tensor(f"{case}.low_res")) < MASKS
    assert max_difference(iou, golden.tensor(f"{case}.iou_all")) < FLOAT32
    assert relative(strided(masks, 1, 1, 4, 4, 4), golden.tensor(f"{case}.masks_all")) < FLOAT16
    enlarged = F.interpolate(masks[:, :1], (32, 256, 256), mode="trilinear", align_corners=False)
    assert relative(strided(enlarged, 1, 1, 4, 8, 8), golden.tensor(f"{case}.final_logits")) < FLOAT16
