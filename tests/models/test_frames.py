"""Masks into the frame of a network and back: they must come out where they went in."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed import networks
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import Logits
from napari_sammed.models.refining import logit
from napari_sammed.models.sam import SAM
from napari_sammed.models.sam_med2d import SAMMed2D
from napari_sammed.prompts import MaskPrompt, Prompts

SMALL = {
    "image_size": 256,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 1,
    "global_attn_indexes": (),
    "prompt_embed_dim": 16,
    "decoder_num_heads": 2,
    "decoder_mlp_dim": 16,
    "iou_head_hidden_dim": 16,
}


@pytest.fixture(scope="module", params=["sam-vit-b", "sam-med2d"])
def model(request):
    make = {"sam-vit-b": SAM, "sam-med2d": SAMMed2D}[request.param]
    return make(networks.create(request.param, SMALL))


@pytest.mark.parametrize(
    ("shape", "spacing", "within"),
    [
        ((300, 400), (1.0, 1.0), None),
        ((400, 300), (0.5, 0.5), Box((100, 50), (350, 200))),
        ((120, 150), (1.0, 1.0), None),
        ((60, 240), (4.0, 1.0), None),
        ((7, 200, 260), (3.0, 1.0, 1.0), Box((3, 0, 0), (4, 200, 260))),
        ((200, 7, 260), (1.0, 3.0, 1.0), Box((0, 2, 0), (200, 3, 260))),
    ],
    ids=["shrunk", "zoomed in", "small", "oblong", "axial", "coronal"],
)
def test_a_mask_comes_back_where_it_was(model, shape, spacing, within):
    grid = Grid.plain(shape, spacing)
    region = model.plan(grid, Prompts(), within)
    box = region.box
    thin = box.thin_axes if box.ndim == 3 else ()
    centre, radii = np.array(box.low) + 0.4 * np.array(box.shape), 0.25 * np.array(box.shape)
    places = np.indices(shape) + 0.5
    inside = sum(
        ((place - c) / r) ** 2
        for axis, (place, c, r) in enumerate(zip(places, centre, radii, strict=True))
        if axis not in thin
    )
    mask = np.zeros(shape, bool)
    mask[box.slices] = inside[box.slices] < 1
    side = model.network.prompt_encoder.mask_input_size[0]
    frame = model.frame(region)
    coverage = frame.coverage([MaskPrompt(mask, (0,) * len(shape))], side)
    back = model.restore(Logits(logit(coverage.clip(1e-3, 0.999)), region)) > 0
    expected = mask[box.slices]
    assert 2 * (back & expected).sum() / (back.sum() + expected.sum()) > 0.97
    offset = [np.mean(np.nonzero(back)[axis]) - np.mean(np.nonzero(expected)[axis]) for axis in range(len(shape))]
    assert np.abs(offset).max() < 0.3


def test_masks_of_one_object_are_joined(model):
    grid = Grid.plain((256, 256))
    frame = model.frame(model.plan(grid, Prompts(), None))
    one, other = (MaskPrompt(np.ones((16, 16), bool), at) for at in ((0, 0), (8, 8)))
    both = frame.coverage([one, other], 64)
    assert np.array_equal(both, np.maximum(frame.coverage([one], 64), frame.coverage([other], 64)))
    assert both.sum() == 28  # cells of 4 x 4 pixels
