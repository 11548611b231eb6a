"""SegVol against the official network's numbers, without and with text vectors (`segvol_tiny`)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_sammed import networks
from napari_sammed.networks.official_files import from_segvol_file
from tests.golden import described_keys, fill, golden_value, max_difference
from tests.golden_3d import Golden3d
from tests.networks.forms import FORMS, TINY, encode_image, outputs

CASES = ["p1", "pn", "box", "p_box", "emptybox", "noprompt", "batch2"]
TEXT_CASES = ["t", "t_p", "t_box"]
MASKS = 1e-6  # masks are below 0.1, see the golden files' README
TEXT_MASKS = 1e-5  # and these are not


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "segvol_tiny.npz")


@pytest.fixture(scope="module")
def with_text(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "segvol_tiny.npz", "text.")


@pytest.fixture(scope="module")
def network(golden):
    return fill(networks.create("segvol", golden.config))


@pytest.fixture(scope="module")
def text_network(with_text):
    return fill(networks.create("segvol", with_text.config))


@pytest.fixture(scope="module", params=FORMS)
def used(request, golden, network):
    form = FORMS[request.param](network)
    return form, encode_image(form, golden.tensor("image"))


@pytest.fixture(scope="module", params=FORMS)
def used_with_text(request, with_text, text_network):
    form = FORMS[request.param](text_network)
    return form, encode_image(form, with_text.tensor("image"))


def as_tokens(embedding):
    return embedding.flatten(2).transpose(1, 2)


@torch.inference_mode()
def decode_all(form, embedding, prompts, text=None):
    """All four masks and IoU values, as the official files have them."""
    sparse, dense = form.prompt_encoder(**prompts, text_embedding=text)
    answers = [
        form.mask_decoder(
            image_embeddings=embedding,
            image_pe=form.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            text_embedding=text,
        )
        for multimask in (False, True)
    ]
    masks, iou = (torch.cat(parts, dim=1) for parts in zip(*answers, strict=True))
    return masks, iou


def test_keys_are_the_official_ones(golden, network, with_text, text_network):
    assert described_keys(network) == golden.keys
    assert described_keys(text_network) == with_text.keys


def test_keys_of_the_published_size(shared):
    golden = Golden3d(shared / "goldens" / "segvol_full.npz")
    with torch.device("meta"):
        text_free = described_keys(networks.create("segvol"))
        from_config = described_keys(networks.create("segvol", golden.config))
    assert text_free == from_config == {k: v for k, v in golden.keys.items() if not k.startswith("text_encoder.")}


@pytest.mark.parametrize("name", ["network", "text_network"])
def test_files_with_a_text_tower_load_strictly(request, with_text, name):
    network = request.getfixturevalue(name)
    file = {key: torch.from_numpy(golden_value(key, tuple(v.shape))) for key, v in network.state_dict().items()}
    for key in ("text_encoder.clip_text_model.text_model.final_layer_norm.weight", "text_encoder.dim_align.weight"):
        file.setdefault(key, torch.zeros(3))
    network.load_state_dict(from_segvol_file(file, network.state_dict()), strict=True)
    file["mask_decoder.something_else"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="something_else"):
        network.load_state_dict(from_segvol_file(file, network.state_dict()), strict=True)


def test_encoder_stages(golden, network):
    encoder = network.image_encoder
    parts = {"patch_embed": encoder.patch_embedding} | {f"block_{i}": encoder.blocks[i] for i in range(3)}
    found = outputs(encoder, golden.tensor("image"), parts)
    for name in parts:
        assert max_difference(found[name], golden.tensor(f"enc_{name}")) < TINY, name


def test_embedding(golden, used):
    assert used[1].shape[2:] == (4, 3, 2)
    assert max_difference(as_tokens(used[1]), golden.tensor("encoder_tokens")) < TINY


def test_dense_position_code(golden, network):
    assert max_difference(network.prompt_encoder.get_dense_pe(), golden.tensor("dense_pe")) < TINY


@pytest.mark.parametrize("case", CASES)
def test_prompt_encoder(golden, network, case):
    with torch.inference_mode():
        sparse, dense = network.prompt_encoder(**golden.prompts(case))
    assert max_difference(sparse, golden.tensor(f"{case}.sparse")) < TINY
    assert max_difference(dense, golden.tensor(f"{case}.dense")) < TINY


@pytest.mark.parametrize("case", CASES)
def test_case(golden, used, case):
    masks, iou = decode_all(*used, golden.prompts(case))
    assert max_difference(masks, golden.tensor(f"{case}.masks_all")) < MASKS
    assert max_difference(iou, golden.tensor(f"{case}.iou_all")) < TINY
    enlarged = F.interpolate(masks[:, :1], (16, 48, 32), mode="trilinear", align_corners=False)
    assert max_difference(enlarged, golden.tensor(f"{case}.final_logits")) < MASKS


def test_embedding_of_the_network_with_text(with_text, used_with_text):
    assert max_difference(as_tokens(used_with_text[1]), with_text.tensor("encoder_tokens")) < TINY


@pytest.mark.parametrize("case", TEXT_CASES)
def test_text_case(with_text, used_with_text, case):
    form, embedding = used_with_text
    with torch.inference_mode():
        text = form.text_encoder(with_text.tensor(f"{case}.text_embedding_512"))
        sparse, dense = form.prompt_encoder(**with_text.prompts(case), text_embedding=text)
    masks, iou = decode_all(form, embedding, with_text.prompts(case), text)
    assert max_difference(text, with_text.tensor(f"{case}.text_embedding_768")) < TINY
    assert max_difference(sparse, with_text.tensor(f"{case}.sparse")) < TINY
    assert max_difference(dense, with_text.tensor(f"{case}.dense")) < TINY
    assert max_difference(masks, with_text.tensor(f"{case}.masks_all")) < TEXT_MASKS
    assert max_difference(iou, with_text.tensor(f"{case}.iou_all")) < TINY
    enlarged = F.interpolate(masks[:, :1], (8, 32, 16), mode="trilinear", align_corners=False)
    assert max_difference(enlarged, with_text.tensor(f"{case}.final_logits")) < TEXT_MASKS


def test_several_texts_for_one_prompt(with_text, used_with_text):
    form, embedding = used_with_text
    texts = torch.cat([with_text.tensor(f"{case}.text_embedding_768") for case in ("t", "t_box")] * 3)
    none = {"points": None, "boxes": None, "masks": None}
    together, _ = decode_all(form, embedding, none, texts)
    alone = torch.cat([decode_all(form, embedding, none, text[None])[0] for text in texts])
    assert max_difference(together, alone) < TINY


def test_masks_are_refused(network):
    with pytest.raises(ValueError, match="mask prompt"):
        network.prompt_encoder(masks=torch.zeros(1, 1, 16, 12, 8))


def test_unknown_text_part_is_refused():
    with pytest.raises(ValueError, match="'bert'"):
        networks.create("segvol", {"text": "bert"})
