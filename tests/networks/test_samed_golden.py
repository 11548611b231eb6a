"""SAMed and SAMed_s against the official networks' numbers, loaded from a SAM file and a LoRA file."""

from __future__ import annotations

import pytest
import torch

from napari_sammed import networks
from napari_sammed.networks.official_files import (
    from_lora_file,
    from_sam_file,
    is_lora_key,
    plain_key,
    to_lora_file,
)
from tests.golden import Golden, described_keys, golden_value, max_difference
from tests.networks.forms import (
    FORMS,
    HALF,
    TINY,
    encode_image,
    encoder_stages,
    golden_file,
    load_pair,
    outputs,
    relative_error,
)


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "samed_tiny.npz")


@pytest.fixture(scope="module")
def base(golden):
    return golden_file(golden.meta["base_keys"])


@pytest.fixture(scope="module", params=["samed", "samed_s"])
def either(request, golden, base):
    """Name, network and LoRA file of each variant."""
    lora = golden_file(golden.meta[{"samed": "", "samed_s": "samed_s_"}[request.param] + "lora_file_keys"])
    return request.param, load_pair(networks.create(request.param, golden.meta["config"]), base, lora), lora


@pytest.fixture(scope="module")
def network(golden, base):
    lora = golden_file(golden.meta["lora_file_keys"])
    return load_pair(networks.create("samed", golden.meta["config"]), base, lora)


@pytest.fixture(scope="module")
def image(golden) -> torch.Tensor:
    return golden.tensor("in.image").expand(-1, 3, -1, -1)


def test_keys_are_the_official_ones(golden, network):
    listed = {key.removeprefix("sam."): (tuple(shape), dtype) for key, shape, dtype in golden.meta["network_keys"]}
    assert described_keys(network) == listed


def test_trained_keys_are_those_of_the_lora_file(golden, network):
    listed = {key.removeprefix("sam.") for key in golden.meta["trainable"]}
    trained = set(from_lora_file(to_lora_file(network.state_dict())))
    assert trained - listed == {"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"}
    assert listed < trained


def test_lora_file_there_and_back(either):
    _, network, lora = either
    written = to_lora_file(network.state_dict())
    assert set(written) == set(lora)
    assert all(torch.equal(written[name], lora[name]) for name in lora)


@pytest.mark.parametrize("key", [f"blocks.{i}.attn.rel_pos_{axis}" for i in range(6) for axis in "hw"] + ["pos_embed"])
def test_base_file_is_resized_as_by_the_official_loader(golden, base, network, key):
    given = from_sam_file(base, network.state_dict())
    stored = golden.tensor(f"out.load.image_encoder.{key}")
    assert max_difference(given.tensors[f"image_encoder.{key}"], stored) < 1e-7


def test_base_alone(golden, base, network, image):
    """Updates of zero leave the base network; heads of new sizes are filled by the rule."""
    given = from_sam_file(base, network.state_dict())
    assert sum(not is_lora_key(key) for key in given.missing) == 43
    state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    for key in given.missing:
        if not is_lora_key(key):
            state[key] = torch.from_numpy(golden_value(plain_key(key), tuple(state[key].shape)))
    bare = networks.create("samed", golden.meta["config"]).eval()
    bare.load_state_dict(state | given.tensors)
    for form in FORMS.values():
        with torch.inference_mode():
            masks, _ = form(bare)(image)
        assert max_difference(masks, golden.tensor("out.b0.low_res")) < TINY


@pytest.mark.parametrize("stage", ["block0", "block2", "block4", "block5"])
def test_tiny_encoder_stage(golden, network, image, stage):
    found = outputs(network.image_encoder, image, encoder_stages(network.image_encoder))
    assert max_difference(found[f"enc.{stage}"], golden.tensor(f"out.enc.{stage}")) < TINY


def test_tiny_first_window_after_lora(golden, network, image):
    found = outputs(network.image_encoder, image, {"qkv": network.image_encoder.blocks[0].attn.qkv})
    assert max_difference(found["qkv"][:1], golden.tensor("out.enc.block0.qkv_window0")) < TINY


@pytest.mark.parametrize("form", FORMS)
def test_tiny_embedding(golden, network, image, form):
    embedding = encode_image(FORMS[form](network), image)
    assert max_difference(embedding, golden.tensor("out.image_embedding")) < TINY


@pytest.mark.parametrize(("dtype", "bound"), HALF.items(), ids=str)
def test_tiny_embedding_in_half_precision(golden, network, image, dtype, bound):
    embedding = encode_image(networks.optimized(network, dtype), image)
    assert relative_error(embedding, golden.tensor("out.image_embedding")) < bound


def test_tiny_prompt_encoder(golden, network):
    sparse, dense = network.prompt_encoder()
    assert max_difference(sparse, golden.tensor("out.sparse")) < TINY
    assert max_difference(dense, golden.tensor("out.dense").expand_as(dense)) < TINY
    assert max_difference(network.prompt_encoder.get_dense_pe(), golden.tensor("out.dense_pe")) < TINY


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multi"])
@pytest.mark.parametrize("form", FORMS)
def test_tiny_class_maps(golden, either, image, form, multimask):
    name, network, _ = either
    with torch.inference_mode():
        masks, iou = FORMS[form](network)(image, multimask_output=multimask)
    prefix = "out." if name == "samed" else "out.samed_s."
    assert max_difference(masks, golden.tensor(f"{prefix}low_res")) < TINY
    assert max_difference(iou, golden.tensor(f"{prefix}iou")) < TINY
    if name == "samed":
        assert max_difference(masks[:1, :, ::4, ::4], golden.tensor("out.multimask_false.low_res")) < TINY


def test_merging_keeps_the_numbers_and_can_be_undone(either, image):
    _, network, _ = either
    with torch.inference_mode():
        apart = network(image)[0]
        state = {key: value.clone() for key, value in network.state_dict().items()}
        networks.merge_lora(network)
        merged = network(image)[0]
        kept = network.state_dict()
        networks.unmerge_lora(network)
        undone = network(image)[0]
    assert 0 < max_difference(apart, merged) < TINY
    assert torch.equal(apart, undone)
    assert list(kept) == list(state)
    assert all(torch.equal(kept[key], state[key]) for key in state)
