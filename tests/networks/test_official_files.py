"""Names and sizes of official files, where the golden files say nothing."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks.official_files import (
    file_name,
    from_sam_file,
    is_lora_key,
    live_key,
    plain_key,
    resize_distances,
    resize_positions,
)

SMALL = {"image_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2, "prompt_embed_dim": 32, "window_size": 3}
NAMES = {
    "w_a_023": "image_encoder.blocks.11.attn.qkv.linear_a_v.weight",
    "w_b_006": "image_encoder.blocks.3.attn.qkv.linear_b_q.weight",
    "sa_a_001": "mask_decoder.transformer.layers.0.self_attn.v_proj.w_a.weight",
    "cti_b_002": "mask_decoder.transformer.layers.1.cross_attn_token_to_image.q_proj.w_b.weight",
    "cit_a_003": "mask_decoder.transformer.layers.1.cross_attn_image_to_token.v_proj.w_a.weight",
    "fati_qb": "mask_decoder.transformer.final_attn_token_to_image.q_proj.w_b.weight",
}


@pytest.mark.parametrize(("name", "key"), NAMES.items(), ids=NAMES)
def test_names_of_updates(name, key):
    assert live_key(name) == key
    assert file_name(key) == name
    assert is_lora_key(key)


@pytest.mark.parametrize("key", ["mask_decoder.iou_token.weight", "w_a_1", "w_c_001", "fati_ka"])
def test_other_names_stay(key):
    assert live_key(key) == key == file_name(key)
    assert not is_lora_key(key)


@pytest.mark.parametrize("name", ["samed", "samed_s"])
def test_base_keys_are_those_of_sam(name):
    plain = networks.create("sam-vit-b", SMALL).state_dict()
    live = networks.create(name, SMALL).state_dict()
    assert {plain_key(key) for key in live if not is_lora_key(key)} >= {
        key for key in plain if "hypernetworks" not in key
    }


def test_file_that_fits_is_taken_whole():
    file = networks.create("sam-vit-b", SMALL).state_dict()
    given = from_sam_file(file, networks.create("sam-med2d", SMALL).state_dict())
    assert given.resized == ()
    assert set(given.tensors) == set(file)
    assert all(".Adapter." in key for key in given.missing)


def test_file_of_another_width_is_refused():
    file = networks.create("sam-vit-b", {**SMALL, "embed_dim": 48}).state_dict()
    with pytest.raises(ValueError, match=r"pos_embed is of shape \(1, 4, 4, 48\) in the file, but \(1, 4, 4, 24\)"):
        from_sam_file(file, networks.create("sam-vit-b", SMALL).state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_resizing_keeps_constants_and_type(dtype):
    positions = resize_positions(torch.full((1, 4, 4, 3), 0.5, dtype=dtype), (6, 2))
    distances = resize_distances(torch.full((7, 3), 0.5, dtype=dtype), 11)
    assert positions.shape == (1, 6, 2, 3)
    assert distances.shape == (11, 3)
    assert positions.dtype == distances.dtype == dtype
    assert positions.unique().item() == distances.unique().item() == 0.5
