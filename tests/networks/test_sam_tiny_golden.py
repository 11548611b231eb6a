"""Prompt encoder and mask decoder of SAM against the official code's numbers (`sam_tiny.npz`)."""

from __future__ import annotations

import pytest
import torch

from napari_sammed.networks.builders import build_mask_decoder, build_prompt_encoder
from napari_sammed.networks.fast_mask_decoder import FastMaskDecoder
from tests.golden import Golden, described_keys, fill, max_difference

TOLERANCE = 1e-5
CASES = [
    "point1",
    "points_posneg",
    "points_pad",
    "box",
    "points_box",
    "mask",
    "points_mask",
    "two_boxes",
    "none",
]


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_tiny.npz")


@pytest.fixture(scope="module", params=["trainable", "fast"])
def decoder(request, parts):
    """Each form of the mask decoder."""
    return parts[1] if request.param == "trainable" else FastMaskDecoder(parts[1])


@pytest.fixture(scope="module")
def parts(golden):
    """Prompt encoder and mask decoder with golden weights."""
    size = golden.meta["config"]["image_size"]
    grid = size // golden.meta["config"]["patch_size"]
    prompt_encoder = fill(build_prompt_encoder(golden.meta["config"], (grid, grid), (size, size)), "prompt_encoder.")
    return prompt_encoder, fill(build_mask_decoder(golden.meta["config"], dims=2), "mask_decoder.")


def encode(golden, prompt_encoder, case):
    points = golden.optional(f"in.{case}.point_coords")
    if points is not None:
        points = (points, golden.tensor(f"in.{case}.point_labels"))
    boxes = golden.optional(f"in.{case}.boxes")
    masks = golden.optional(f"in.{case}.mask_inputs")
    with torch.inference_mode():
        return prompt_encoder(points=points, boxes=boxes, masks=masks)


def test_keys_are_the_official_ones(golden, parts):
    ours = {}
    for prefix, part in zip(("prompt_encoder.", "mask_decoder."), parts, strict=True):
        ours |= {prefix + key: described for key, described in described_keys(part).items()}
    assert ours == {k: v for k, v in golden.keys.items() if not k.startswith("image_encoder.")}


def test_dense_position_code(golden, parts):
    assert max_difference(parts[0].get_dense_pe(), golden.tensor("out.dense_pe")) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_prompt_encoder(golden, parts, case):
    sparse, dense = encode(golden, parts[0], case)
    stored = golden.tensor(f"out.{case}.dense")
    assert max_difference(sparse, golden.tensor(f"out.{case}.sparse")) < TOLERANCE
    assert dense.shape[2:] == (8, 8)
    assert max_difference(dense, stored.expand_as(dense)) < TOLERANCE


@pytest.mark.parametrize("output", ["multi", "single"])
@pytest.mark.parametrize("case", CASES)
def test_mask_decoder(golden, parts, decoder, case, output):
    sparse, dense = encode(golden, parts[0], case)
    with torch.inference_mode():
        masks, iou = decoder(
            image_embeddings=golden.tensor("out.image_embedding"),
            image_pe=parts[0].get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=output == "multi",
        )
    assert max_difference(masks, golden.tensor(f"out.{case}.low_res_{output}")) < TOLERANCE
    assert max_difference(iou, golden.tensor(f"out.{case}.iou_{output}")) < TOLERANCE
