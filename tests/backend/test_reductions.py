"""Prompts of kinds that a model does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sammed.backend.reductions import STROKE_POINTS, answer, cut, innermost, limits, reduce
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import MaskPrompt, Point, Prompts, Stroke
from tests.backend.boxes import CARD, BrightBoxes

POINTS_ONLY = replace(CARD, prompts=frozenset({"point"}))
MASK = MaskPrompt(np.ones((9, 5), bool), (10, 20))


@pytest.fixture
def bright():
    image = np.zeros((60, 80), bool)
    image[20:40, 30:60] = True
    model, grid = BrightBoxes(), Grid.plain(image.shape)
    return model, model.embed(image, model.plan(grid, Prompts(), None), grid), image


def test_known_kinds_pass_without_a_word(bright):
    model, embedding, image = bright
    logits, sentences = answer(model, embedding, Prompts((Box((15, 25), (45, 65)),)), None)
    assert np.array_equal(logits.values > 0, image)
    assert sentences == ()


def test_a_click_tells_its_box(bright):
    model, embedding, image = bright
    logits, sentences = answer(model, embedding, Prompts((Point((30, 45)),)), None)
    assert np.array_equal(logits.values > 0, image)
    assert len(sentences) == 1
    assert sentences[0].startswith("Bright knows boxes only: the clicks were answered with the box (rows ")
    assert sentences[0].endswith(f"chosen among {len(set(model.decoded))}.")


@pytest.mark.parametrize("positive", [True, False])
def test_a_stroke_becomes_spread_points(positive):
    stroke = Stroke(((5.0, 5.0), (5.0, 45.0)), positive)
    reduced, sentences = reduce(Prompts((stroke,)), CARD)
    points = reduced.of(Point)
    assert len(points) == len(reduced) == STROKE_POINTS
    assert {p.positive for p in points} == {positive}
    columns = sorted(p.index[1] for p in points)
    assert min(np.diff(columns)) >= 5
    assert sentences == ("Bright does not know strokes: each was taken as a few points along it.",)


def test_a_stroke_is_answered_by_boxes(bright):
    model, embedding, image = bright
    logits, sentences = answer(model, embedding, Prompts((Stroke(((30.0, 34.0), (30.0, 56.0))),)), None)
    assert np.array_equal(logits.values > 0, image)
    assert len(sentences) == 2


def test_a_mask_becomes_its_box():
    reduced, sentences = reduce(Prompts((MASK,)), CARD)
    assert reduced.items == (Box((10, 20), (19, 25)),)
    assert "bounding box" in sentences[0]


def test_a_mask_becomes_a_point_for_a_points_only_network():
    reduced, _ = reduce(Prompts((MASK,)), POINTS_ONLY)
    assert len(reduced) == 1
    row, column = reduced.items[0].index
    assert 12 <= row <= 16
    assert column == 22


def test_a_box_becomes_its_centre_for_a_points_only_network():
    reduced, sentences = reduce(Prompts((Box((10, 20), (20, 25)),)), POINTS_ONLY)
    assert reduced.items == (Point((14.5, 22.0)),)
    assert "centre" in sentences[0]


def test_order_is_kept_and_sentences_are_not_repeated():
    stroke = Stroke(((5.0, 5.0),))
    reduced, sentences = reduce(Prompts((Point((1, 1)), stroke, Point((2, 2)), stroke)), CARD)
    assert [p.index for p in reduced] == [(1, 1), (5, 5), (2, 2), (5, 5)]
    assert len(sentences) == 1


def test_innermost_of_a_ring_lies_in_the_ring():
    rows, columns = np.mgrid[:31, :31]
    radius = np.hypot(rows - 15, columns - 15)
    ring = (radius < 14) & (radius > 7)
    row, column = innermost(MaskPrompt(ring, (100, 200)))
    assert ring[int(row) - 100, int(column) - 200]


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [((), "None of the object's prompts"), ((Point((5, 5), positive=False),), "inside the object is needed")],
    ids=["none", "only negative"],
)
def test_what_cannot_be_answered_is_refused(bright, prompts, sentence):
    model, embedding, _ = bright
    with pytest.raises(InputError, match=sentence):
        answer(model, embedding, Prompts(prompts), None)


VOLUMES = replace(POINTS_ONLY, dimensions=frozenset({3}))
LEFT, RIGHT = Box((2, 2, 2), (6, 6, 6)), Box((2, 2, 10), (6, 6, 14))


@pytest.mark.parametrize(
    ("prompts", "boxes"),
    [
        ((LEFT,), (LEFT,)),
        ((LEFT, RIGHT, Point((3, 3, 12))), (LEFT, RIGHT)),
        ((LEFT, Point((3, 3, 8), False)), (LEFT,)),
        ((LEFT, Point((3, 3, 8))), ()),
        ((LEFT, Stroke(((3, 3, 3), (3, 3, 8)))), ()),
        ((Box((3, 2, 2), (4, 6, 6)),), ()),
        ((Point((3, 3, 3)),), ()),
    ],
    ids=["box", "two boxes", "negative outside", "positive outside", "stroke reaching out", "one slice", "no box"],
)
def test_boxes_limit_what_knows_only_their_centres(prompts, boxes):
    assert limits(Prompts(prompts), VOLUMES) == boxes
    assert limits(Prompts(prompts), CARD) == ()  # knows boxes


def test_a_mask_is_cut_to_the_boxes():
    place = Box((4, 0, 0), (8, 10, 13))
    mask = cut(np.ones(place.shape, bool), place, (LEFT, RIGHT, Box((20, 0, 0), (21, 1, 1))))
    expected = np.zeros((24, 10, 20), bool)
    expected[LEFT.slices] = expected[RIGHT.slices] = True
    assert np.array_equal(mask, expected[place.slices])
    assert cut(mask, place, ()) is mask
