"""SAM-Med2D at its published size (ViT-B, 256) on a grey slice, `sam_med2d_vit_b`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sammed import networks
from tests.golden import Golden, fill, max_difference
from tests.networks.forms import (
    FORMS,
    FULL,
    best,
    decode,
    encode_image,
    encoder_stages,
    outputs,
    prompts_of_user,
    strided,
)

pytestmark = pytest.mark.full

CASES = ["pred_point", "pred_posneg", "pred_box", "pred_point_box"]


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared / "goldens" / "sam_med2d_vit_b.npz")


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("sam-med2d"))


@pytest.fixture(scope="module")
def image(golden):
    grey = golden["in.image_gray"]
    rows, columns = ((np.arange(256) * (size / 256)).astype(int) for size in grey.shape)
    pixels = torch.from_numpy(grey[rows][:, columns]).float()[:, :, None].expand(-1, -1, 3)
    pixels = (pixels - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    return pixels.permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def stages(network, image):
    return outputs(network.image_encoder, image, encoder_stages(network.image_encoder))


@pytest.fixture(scope="module", params=FORMS)
def used(request, network, image):
    form = FORMS[request.param](network)
    return form, encode_image(form, image)


def test_input(golden, image):
    assert max_difference(strided(image, 1, 1, 4, 4), golden.tensor("out.pre.input_sub")) < 1e-6


@pytest.mark.parametrize("block", range(12))
def test_block(golden, stages, block):
    ours = strided(stages[f"enc.block{block}"], 1, 4, 4, 16)
    assert max_difference(ours, golden.tensor(f"out.enc.block{block}_sub")) < FULL


def test_embedding(golden, used):
    stored = golden.tensor("out.image_embedding_sub")
    assert max_difference(strided(used[1], 1, 4, 2, 2), stored) < FULL


@pytest.mark.parametrize("output", ["multi", "single"])
@pytest.mark.parametrize("case", CASES)
def test_case(golden, used, case, output):
    height, width = golden.meta["original_size"]
    prompts = prompts_of_user(golden, case, (256 / width, 256 / height))
    masks, iou = best(*decode(*used, prompts, output == "multi"))
    stored = golden.tensor(f"out.{case}.low_res_{output}")
    assert max_difference(strided(masks, 1, 2, 2), stored) < FULL
    assert max_difference(iou, golden.tensor(f"out.{case}.iou_{output}")) < FULL


@pytest.mark.parametrize("form", FORMS)
def test_embedding_without_adapters(golden, network, image, form):
    adapters = [block.Adapter for block in network.image_encoder.blocks]
    networks.remove_adapters(network.image_encoder)
    try:
        embedding = encode_image(FORMS[form](network), image)
    finally:
        for block, adapter in zip(network.image_encoder.blocks, adapters, strict=True):
            block.Adapter = adapter
    assert max_difference(strided(embedding, 1, 4, 2, 2), golden.tensor("out.noadapter.image_embedding_sub")) < FULL
