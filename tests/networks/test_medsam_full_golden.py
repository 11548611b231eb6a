"""MedSAM at its published size (ViT-B, 1024) on a grey slice, `medsam_vit_b`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize

from napari_sammed import networks
from tests.golden import Golden, fill, max_difference
from tests.networks.forms import FORMS, FULL, decode, encode_image, strided

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def network():
    return fill(networks.create("medsam"))


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared / "goldens" / "medsam_vit_b.npz")


@pytest.fixture(scope="module", params=FORMS)
def used(request, golden, network):
    grey = np.repeat(golden["in.image_gray"][..., None], 3, axis=-1)
    resized = resize(grey, (1024, 1024), order=3, preserve_range=True, anti_aliasing=True)
    pixels = torch.from_numpy(resized.astype(np.uint8)).float()
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    form = FORMS[request.param](network)
    return form, encode_image(form, pixels.permute(2, 0, 1)[None])


def test_embedding(golden, used):
    stored = golden.tensor("out.image_embedding_sub")
    assert max_difference(strided(used[1], 1, 4, 4, 4), stored) < FULL


@pytest.mark.parametrize("case", ["box0", "box1"])
def test_case(golden, used, case):
    masks, iou = decode(*used, {"boxes": golden.tensor(f"out.{case}.box_in_frame").float()}, multimask=False)
    assert max_difference(strided(masks, 1, 1, 4, 4), golden.tensor(f"out.{case}.low_res_sub")) < FULL
    assert max_difference(iou, golden.tensor(f"out.{case}.iou")) < FULL
