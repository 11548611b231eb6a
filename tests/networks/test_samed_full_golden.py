"""SAMed at its published size (ViT-B, 512) on a CT-like slice, `samed_vit_b`."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from tests.golden import Golden, ct_like, max_difference
from tests.networks.forms import FORMS, FULL, encode_image, encoder_stages, golden_file, load_pair, outputs, strided

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def golden(shared):
    return Golden(shared / "goldens" / "samed_vit_b.npz")


@pytest.fixture(scope="module")
def network(golden):
    pair = (golden_file(golden.meta[name]) for name in ("base_keys", "lora_file_keys"))
    return load_pair(networks.create("samed"), *pair)


@pytest.fixture(scope="module")
def image(golden):
    recipe = golden.meta["image_recipe"]
    return torch.from_numpy(ct_like(recipe["H"], recipe["W"], recipe["seed"])).expand(1, 3, -1, -1)


@pytest.fixture(scope="module")
def stages(network, image):
    return outputs(network.image_encoder, image, encoder_stages(network.image_encoder))


@pytest.mark.parametrize(
    ("key", "steps"),
    [
        ("pos_embed", (1, 2, 2, 32)),
        ("blocks.2.attn.rel_pos_h", (1, 4)),
        ("blocks.11.attn.rel_pos_w", (1, 4)),
    ],
    ids=["pos_embed", "block2", "block11"],
)
def test_resized_table(golden, network, key, steps):
    stored = golden.tensor(f"out.load.image_encoder.{key}_sub")
    assert max_difference(strided(network.state_dict()[f"image_encoder.{key}"], *steps), stored) < 1e-6


@pytest.mark.parametrize("block", range(12))
def test_block(golden, stages, block):
    ours = strided(stages[f"enc.block{block}"], 1, 4, 4, 16)
    assert max_difference(ours, golden.tensor(f"out.enc.block{block}_sub")) < FULL


@pytest.mark.parametrize("form", FORMS)
def test_class_maps(golden, network, image, form):
    used = FORMS[form](network)
    embedding = encode_image(used, image)
    assert max_difference(strided(embedding, 1, 4, 2, 2), golden.tensor("out.image_embedding_sub")) < FULL
    with torch.inference_mode():
        masks, iou = used(image)
    assert max_difference(strided(masks, 1, 1, 4, 4), golden.tensor("out.low_res_sub")) < FULL
    assert max_difference(iou, golden.tensor("out.iou")) < FULL
