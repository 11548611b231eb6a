"""Prompts: refusals, JSON, and what strokes and masks mean in voxels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke

coordinate = st.floats(-1e6, 1e6)
voxel = st.integers(-1000, 1000)


def prompts_of(n: int) -> st.SearchStrategy[Prompts]:
    point = st.tuples(*[coordinate] * n)
    masks = hnp.arrays(bool, hnp.array_shapes(min_dims=n, max_dims=n, max_side=6)).filter(np.any)
    corner = st.tuples(*[voxel] * n)
    size = st.tuples(*[st.integers(1, 99)] * n)
    item = st.one_of(
        st.builds(Point, point, st.booleans()),
        st.builds(lambda low, sides: Box(low, tuple(np.add(low, sides))), corner, size),
        st.builds(Stroke, st.lists(point, min_size=1, max_size=5).map(tuple), st.booleans()),
        st.builds(MaskPrompt, masks, corner),
    )
    return st.lists(item, max_size=5).map(lambda items: Prompts(tuple(items)))


@given(st.one_of(prompts_of(2), prompts_of(3)))
def test_json_round_trip(prompts: Prompts) -> None:
    again = Prompts.from_json(json.loads(json.dumps(prompts.to_json())))
    assert again == prompts
    assert hash(again) == hash(prompts)
    assert again.extent == prompts.extent


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"kind": "lasso"},
        {"kind": "point", "index": [1, 2]},
        {"kind": "point", "index": 3, "positive": True},
        {"kind": "point", "index": [1, "a"], "positive": True},
        {"kind": "point", "index": [1, None], "positive": True},
        {"kind": "box", "low": [0, 0], "high": [0, 0]},
        {"kind": "box", "low": 1, "high": 2},
        {"kind": "stroke", "points": [], "positive": True},
        {"kind": "stroke", "points": [1, 2], "positive": True},
        {"kind": "mask", "offset": [0, 0], "shape": [2, 2], "bits": "!"},
        {"kind": "mask", "offset": [0, 0], "shape": [2, 2], "bits": "AAAA"},
        {"kind": "mask", "offset": [0, 0], "shape": [2, 0], "bits": ""},
        {"kind": "mask", "offset": [0, 0], "shape": ["a", 2], "bits": ""},
        {"kind": "mask", "offset": [0, 0], "shape": [-2, -2], "bits": ""},
        {"kind": "mask", "offset": [0, 0], "shape": [8, 2**61 - 1], "bits": "eJxjYAAAAAIAAQ=="},  # 64 bits: -8 voxels
        {"kind": "mask", "offset": [0, 0], "shape": [2**70, 2], "bits": "eJxjYAAAAAIAAQ=="},
        "point",
        None,
    ],
    ids=str,
)
def test_refused_json(item: object) -> None:
    with pytest.raises(InputError):
        Prompts.from_json([item])


def test_a_mask_does_not_inflate_beyond_its_shape() -> None:
    big = MaskPrompt(np.ones((512, 512), bool), (0, 0))
    item = Prompts((big,)).to_json()[0] | {"shape": [2, 2]}
    with pytest.raises(InputError, match="bytes"):
        Prompts.from_json([item])


@pytest.mark.parametrize("index", [(1,), (1, 2, 3, 4), (1, float("nan")), (float("inf"), 1), ("a", 1), 5], ids=str)
def test_refused_points(index: object) -> None:
    with pytest.raises(InputError):
        Point(index)


def test_refused_strokes_and_masks() -> None:
    with pytest.raises(InputError, match="at least one"):
        Stroke(())
    with pytest.raises(InputError, match="dimension"):
        Stroke(((1, 2), (1, 2, 3)))
    with pytest.raises(InputError, match="boolean"):
        MaskPrompt(np.ones((2, 2), np.uint8), (0, 0))
    with pytest.raises(InputError, match="empty"):
        MaskPrompt(np.zeros((2, 2), bool), (0, 0))
    with pytest.raises(InputError, match="offsets"):
        MaskPrompt(np.ones((2, 2), bool), (0, 0, 0))
    with pytest.raises(InputError, match="2D or all be 3D"):
        Prompts((Point((1, 2)), Point((1, 2, 3))))


def test_a_mask_is_cropped_and_its_own() -> None:
    source = np.zeros((6, 7), bool)
    source[2:4, 3] = True
    prompt = MaskPrompt(source, (10, 20))
    source[:] = True
    assert prompt.offset == (12, 23)
    assert prompt.mask.shape == (2, 1)
    assert prompt.extent == Box((12, 23), (14, 24))
    with pytest.raises(ValueError, match="read-only"):
        prompt.mask[0, 0] = False


@given(st.lists(st.tuples(*[st.floats(-50, 50)] * 3), min_size=1, max_size=6))
def test_the_voxels_of_a_stroke_are_connected_and_unique(points: list) -> None:
    voxels = Stroke(tuple(points)).voxels()
    assert len(np.unique(voxels, axis=0)) == len(voxels)
    for point in points:
        assert (np.abs(voxels - np.array(point)).max(1) <= 0.5 + 1e-9).any()
    vertices = len(points)
    if vertices == 2:  # with more, a stroke may cross itself, and repeats are left out
        assert (np.abs(np.diff(voxels, axis=0)) <= 1).all()


def test_spread_points_are_few_and_on_the_stroke() -> None:
    stroke = Stroke(((5, 0), (5, 100)))
    picked = stroke.spread(4)
    assert picked.shape == (4, 2)
    assert (np.diff(picked[:, 1]) >= 15).all()
    assert (picked[:, 0] == 5).all()
    assert 0 < picked[0, 1] < picked[-1, 1] < 100
    assert Stroke(((3, 4),)).spread(5).tolist() == [[3, 4]]


def test_order_and_selection() -> None:
    prompts = Prompts().add(Point((1, 2))).add(Box((0, 0), (3, 3))).add(Point((4, 5), positive=False))
    assert [type(item).__name__ for item in prompts] == ["Point", "Box", "Point"]
    assert prompts.points(positive=True).tolist() == [[1, 2]]
    assert prompts.points(positive=False).tolist() == [[4, 5]]
    assert prompts.extent == Box((0, 0), (5, 6))
    assert (Prompts().ndim, Prompts().extent, prompts.ndim, len(prompts)) == (None, None, 2, 3)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (Point((-0.51, 3)), "outside"),
        (Point((9.5, 3)), "outside"),
        (Point((1, 2, 3)), "3D"),
        (Box((10, 0), (12, 5)), "outside"),
        (Stroke(((5, 5), (5, 25))), "outside"),
        (MaskPrompt(np.ones((3, 3), bool), (8, 0)), "outside"),
    ],
    ids=str,
)
def test_prompts_outside_the_image(prompt: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Prompts((prompt,)).check_inside(Grid.plain((10, 20)))


@pytest.mark.parametrize(
    "prompt",
    [
        Point((-0.5, 19.49)),
        Box((-5, -5), (3, 30)),
        Stroke(((0, 0), (9, 19))),
        MaskPrompt(np.ones((10, 20), bool), (0, 0)),
    ],
    ids=str,
)
def test_prompts_inside_the_image(prompt: object) -> None:
    Prompts((prompt,)).check_inside(Grid.plain((10, 20)))
