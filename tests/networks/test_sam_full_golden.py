"""SAM at its published size (ViT-B, 1024) against the official network's numbers, `sam_vit_b`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from napari_sammed import networks
from tests.golden import Golden, fill, max_difference, smooth_logits, synth
from tests.networks.forms import FORMS, FULL, decode, encode_image, encoder_stages, outputs, prompts_of_user, strided

pytestmark = pytest.mark.full

CASES = ["point1", "points_posneg", "box", "points_box", "mask", "none"]


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("sam-vit-b"))


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared / "goldens" / "sam_vit_b.npz")


@pytest.fixture(scope="module")
def image(golden):
    recipe = golden.meta["image_recipe"]
    resized = Image.fromarray(synth(recipe["H"], recipe["W"], recipe["variant"])).resize((1024, 768), 2)
    pixels = torch.from_numpy(np.asarray(resized).astype(np.float32))
    pixels = (pixels - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    padded = torch.zeros(1, 3, 1024, 1024)
    padded[:, :, :768] = pixels.permute(2, 0, 1)
    return padded


@pytest.fixture(scope="module")
def stages(network, image):
    return outputs(network.image_encoder, image, encoder_stages(network.image_encoder))


@pytest.fixture(scope="module", params=FORMS)
def used(request, network, image):
    form = FORMS[request.param](network)
    return form, encode_image(form, image)


def test_input(golden, image):
    assert max_difference(strided(image, 1, 1, 16, 16), golden.tensor("out.pre.input_sub")) < 1e-6


@pytest.mark.parametrize("block", range(12))
def test_block(golden, stages, block):
    ours = strided(stages[f"enc.block{block}"], 1, 8, 8, 16)
    assert max_difference(ours, golden.tensor(f"out.enc.block{block}_sub")) < FULL


def test_embedding(golden, used):
    stored = golden.tensor("out.image_embedding_sub")
    assert max_difference(strided(used[1], 1, 4, 4, 4), stored) < FULL


@pytest.mark.parametrize("output", ["multi", "single"])
@pytest.mark.parametrize("case", CASES)
def test_case(golden, used, case, output):
    prompts = prompts_of_user(golden, case, (1024 / 800, 768 / 600))
    if case == "mask":
        prompts["masks"] = smooth_logits(1, 256, 256, 9)
    masks, iou = decode(*used, prompts, output == "multi")
    stored = golden.tensor(f"out.{case}.low_res_{output}_sub")
    assert max_difference(strided(masks[0], 1, 4, 4), stored) < FULL
    assert max_difference(iou[0], golden.tensor(f"out.{case}.iou_{output}")) < FULL
