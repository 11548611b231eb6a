"""SAM-Med2D against the official network's numbers, with and without adapters."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks.official_files import from_sam_file
from tests.golden import Golden, described_keys, fill, golden_value, max_difference
from tests.networks.forms import (
    FORMS,
    HALF,
    TINY,
    best,
    decode,
    encode_image,
    encoder_stages,
    outputs,
    prompts_in_frame,
    prompts_of_user,
    relative_error,
)

CASES = ["point1", "points_posneg", "points_ignored", "box", "points_box", "mask", "points_mask", "two_boxes", "none"]
USER_CASES = ["pred_point", "pred_posneg", "pred_box", "pred_point_box"]
STAGES = ["patch_embed", *(f"block{i}" for i in range(6)), "block0.adapter", "block5.adapter"]


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_med2d_tiny.npz")


@pytest.fixture(scope="module")
def load_golden(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_med2d_load.npz")


@pytest.fixture(scope="module")
def network(golden):
    return fill(networks.create("sam-med2d", golden.meta["config"]))


def test_keys_are_the_official_ones(golden, network):
    assert described_keys(network) == golden.keys


def test_keys_of_the_published_size(shared):
    with torch.device("meta"):
        ours = described_keys(networks.create("sam-med2d"))
        without = described_keys(networks.create("sam-med2d", {"adapter": False}))
    listed = Golden(shared / "goldens" / "sam_med2d_vit_b.npz").keys
    assert ours == listed
    assert without == {key: value for key, value in listed.items() if ".Adapter." not in key}


@pytest.mark.parametrize("stage", STAGES)
def test_tiny_encoder_stage(golden, network, stage):
    encoder = network.image_encoder
    parts = encoder_stages(encoder)
    parts |= {f"enc.block{i}.adapter": encoder.blocks[i].Adapter for i in (0, 5)}
    found = outputs(encoder, golden.tensor("out.pre.input"), parts)
    assert max_difference(found[f"enc.{stage}"], golden.tensor(f"out.enc.{stage}")) < TINY


@pytest.mark.parametrize("form", FORMS)
def test_tiny_embedding(golden, network, form):
    embedding = encode_image(FORMS[form](network), golden.tensor("out.pre.input"))
    assert max_difference(embedding, golden.tensor("out.image_embedding")) < TINY


@pytest.mark.parametrize(("dtype", "bound"), HALF.items(), ids=str)
def test_tiny_embedding_in_half_precision(golden, network, dtype, bound):
    embedding = encode_image(networks.optimized(network, dtype), golden.tensor("out.pre.input"))
    assert relative_error(embedding, golden.tensor("out.image_embedding")) < bound


@pytest.mark.parametrize("form", FORMS)
def test_tiny_embedding_without_adapters(golden, load_golden, network, form):
    bare = copy.deepcopy(network)
    networks.remove_adapters(bare.image_encoder)
    embedding = encode_image(FORMS[form](bare), golden.tensor("out.pre.input"))
    assert max_difference(embedding, load_golden.tensor("out.noadapter.image_embedding")) < TINY


@pytest.mark.parametrize("output", ["multi", "single"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_tiny_case(golden, network, form, case, output):
    used = FORMS[form](network)
    embedding = encode_image(used, golden.tensor("out.pre.input"))
    masks, iou = decode(used, embedding, prompts_in_frame(golden, case), output == "multi")
    assert max_difference(masks, golden.tensor(f"out.{case}.low_res_{output}")) < TINY
    assert max_difference(iou, golden.tensor(f"out.{case}.iou_{output}")) < TINY


@pytest.mark.parametrize("case", USER_CASES)
@pytest.mark.parametrize("form", FORMS)
def test_tiny_predictor_case(golden, network, form, case):
    used = FORMS[form](network)
    embedding = encode_image(used, golden.tensor("out.pre.input"))
    height, width = golden.meta["original_size"]
    prompts = prompts_of_user(golden, case, (128 / width, 128 / height))
    masks, iou = best(*decode(used, embedding, prompts, multimask=True))
    assert max_difference(masks, golden.tensor(f"out.{case}.low_res_multi")) < TINY
    assert max_difference(iou, golden.tensor(f"out.{case}.iou_multi")) < TINY


def test_sam_file_is_resized_as_by_the_official_loader(load_golden):
    base = {key: torch.from_numpy(golden_value(key, tuple(shape))) for key, shape in load_golden.meta["base_keys"]}
    with torch.device("meta"):
        network = networks.create("sam-med2d", load_golden.meta["config"])
    given = from_sam_file(base, network.state_dict())
    assert set(given.missing) == set(load_golden.meta["not_taken_from_base"])
    assert set(given.resized) == {
        "image_encoder.pos_embed",
        *(f"image_encoder.blocks.{i}.attn.rel_pos_{axis}" for i in (2, 5) for axis in "hw"),
    }
    checked = 0
    for i in range(6):
        for axis in "hw":
            key = f"image_encoder.blocks.{i}.attn.rel_pos_{axis}"
            assert max_difference(given.tensors[key], load_golden.tensor(f"out.load.{key}")) < 1e-7
            checked += 1
    key = "image_encoder.pos_embed"
    assert max_difference(given.tensors[key], load_golden.tensor(f"out.load.{key}")) < 1e-7
    assert checked == 12
