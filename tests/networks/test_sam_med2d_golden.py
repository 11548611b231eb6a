"""SAM-Med2D against the official network's numbers, with and without adapters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks.official_files import from_sam_file
from tests.golden import Golden, described_keys, fill, golden_value, max_difference
from tests.networks.forms import (
    FORMS,
    FULL,
    TINY,
    decode,
    encode_image,
    encoder_stages,
    outputs,
    prompts_in_frame,
    prompts_of_user,
    strided,
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


def best(masks: torch.Tensor, iou: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask that the official predictor returns for one prompt set."""
    index = iou[0].argmax()
    return masks[0, index][None], iou[0, index][None]


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


@pytest.mark.full
class TestVitB:
    """`sam_med2d_vit_b`: the published size on a grey slice."""

    @pytest.fixture(scope="class")
    def golden(self, shared):
        return Golden(shared / "goldens" / "sam_med2d_vit_b.npz")

    @pytest.fixture(scope="class")
    def network(self):
        return fill(networks.create("sam-med2d"))

    @pytest.fixture(scope="class")
    def image(self, golden):
        grey = golden["in.image_gray"]
        rows, columns = ((np.arange(256) * (size / 256)).astype(int) for size in grey.shape)
        pixels = torch.from_numpy(grey[rows][:, columns]).float()[:, :, None].expand(-1, -1, 3)
        pixels = (pixels - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
        return pixels.permute(2, 0, 1)[None]

    @pytest.fixture(scope="class")
    def stages(self, network, image):
        return outputs(network.image_encoder, image, encoder_stages(network.image_encoder))

    @pytest.fixture(scope="class", params=FORMS)
    def used(self, request, network, image):
        form = FORMS[request.param](network)
        return form, encode_image(form, image)

    def test_input(self, golden, image):
        assert max_difference(strided(image, 1, 1, 4, 4), golden.tensor("out.pre.input_sub")) < 1e-6

    @pytest.mark.parametrize("block", range(12))
    def test_block(self, golden, stages, block):
        ours = strided(stages[f"enc.block{block}"], 1, 4, 4, 16)
        assert max_difference(ours, golden.tensor(f"out.enc.block{block}_sub")) < FULL

    def test_embedding(self, golden, used):
        stored = golden.tensor("out.image_embedding_sub")
        assert max_difference(strided(used[1], 1, 4, 2, 2), stored) < FULL

    @pytest.mark.parametrize("output", ["multi", "single"])
    @pytest.mark.parametrize("case", USER_CASES)
    def test_case(self, golden, used, case, output):
        height, width = golden.meta["original_size"]
        prompts = prompts_of_user(golden, case, (256 / width, 256 / height))
        masks, iou = best(*decode(*used, prompts, output == "multi"))
        stored = golden.tensor(f"out.{case}.low_res_{output}")
        assert max_difference(strided(masks, 1, 2, 2), stored) < FULL
        assert max_difference(iou, golden.tensor(f"out.{case}.iou_{output}")) < FULL

    @pytest.mark.parametrize("form", FORMS)
    def test_embedding_without_adapters(self, golden, network, image, form):
        adapters = [block.Adapter for block in network.image_encoder.blocks]
        networks.remove_adapters(network.image_encoder)
        try:
            embedding = encode_image(FORMS[form](network), image)
        finally:
            for block, adapter in zip(network.image_encoder.blocks, adapters, strict=True):
                block.Adapter = adapter
        assert max_difference(strided(embedding, 1, 4, 2, 2), golden.tensor("out.noadapter.image_embedding_sub")) < FULL
