"""Clicks answered with boxes, on a model that marks what is bright inside a box."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.backend.ladder import climb
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.prompts import Point, Prompts
from tests.backend.boxes import BrightBoxes


def discs() -> np.ndarray:
    """Two discs, of radius 14 around (40, 40) and 9 around (75, 90), on (100, 130) pixels."""
    rows, columns = np.mgrid[:100, :130]
    first = (rows - 40) ** 2 + (columns - 40) ** 2 <= 14**2
    return first | ((rows - 75) ** 2 + (columns - 90) ** 2 <= 9**2)


def embedded(array: np.ndarray, within: Box | None = None):
    model, grid = BrightBoxes(), Grid.plain(array.shape)
    return model, model.embed(array, model.plan(grid, Prompts(), within), grid)


@pytest.mark.parametrize(
    ("click", "rows", "columns"),
    [((40, 40), (26, 55), (26, 55)), ((75, 90), (66, 85), (81, 100))],
    ids=["large", "small"],
)
def test_one_click_finds_its_disc(click, rows, columns):
    image = discs()
    model, embedding = embedded(image)
    rung = climb(model, embedding, Prompts((Point(click),)), None)
    expected = np.zeros_like(image)
    expected[slice(*rows), slice(*columns)] = image[slice(*rows), slice(*columns)]
    assert np.array_equal(rung.logits.values > 0, expected)
    assert rung.count == len(set(model.decoded))
    assert Box((rows[0], columns[0]), (rows[1], columns[1])).intersect(rung.box) is not None


def test_few_boxes_are_decoded():
    model, embedding = embedded(discs())
    assert climb(model, embedding, Prompts((Point((40, 40)),)), None).count <= 20


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_of_a_volume_gives_the_flat_answer(axis):
    image = discs()
    volume = np.stack([np.zeros_like(image), image, np.zeros_like(image)], axis)
    within = [(0, n) for n in volume.shape]
    within[axis] = (1, 2)
    model, embedding = embedded(volume, Box(*zip(*within, strict=True)))
    click = [40, 40]
    click.insert(axis, 1)
    rung = climb(model, embedding, Prompts((Point(tuple(click)),)), None)
    flat_model, flat = embedded(image)
    expected = climb(flat_model, flat, Prompts((Point((40, 40)),)), None)
    assert np.array_equal(rung.logits.values.squeeze(axis), expected.logits.values)
    assert rung.box.shape[axis] == 1


def test_a_second_positive_click_adds_the_other_disc():
    image = discs()
    model, embedding = embedded(image)
    prompts = Prompts((Point((40, 40)),))
    first = climb(model, embedding, prompts, None)
    second = climb(model, embedding, prompts.add(Point((75, 90))), first.logits)
    mask = second.logits.values > 0
    assert mask[40, 40]
    assert mask[75, 90]
    assert (mask & image).sum() > 0.95 * image.sum()


def test_a_negative_click_takes_a_part_away():
    image = discs()
    model, embedding = embedded(image)
    everything = model.decode_boxes(embedding, [Box((0, 0), (100, 130))])[0]
    prompts = Prompts((Point((40, 40)), Point((75, 90), positive=False)))
    mask = climb(model, embedding, prompts, everything).logits.values > 0
    assert mask[40, 40]
    assert not mask[75, 90]


def test_a_box_with_a_click_is_kept_where_both_agree():
    image = discs()
    model, embedding = embedded(image)
    box = Box((24, 24), (57, 57))
    mask = climb(model, embedding, Prompts((box, Point((40, 40)))), None).logits.values > 0
    assert np.array_equal(mask, model.decode_boxes(embedding, [box])[0].values > 0)


def test_an_answer_for_another_region_is_no_previous_one():
    image = discs()
    model, embedding = embedded(image)
    _, part = embedded(image, Box((0, 0), (60, 60)))
    elsewhere = model.decode_boxes(part, [Box((0, 0), (60, 60))])[0]
    prompts = Prompts((Point((75, 90)),))
    alone = climb(model, embedding, prompts, None)
    assert np.array_equal(climb(model, embedding, prompts, elsewhere).logits.values, alone.logits.values)


@pytest.mark.parametrize("click", [(0, 0), (99, 129), (0, 64)])
def test_clicks_at_the_border_are_answered(click):
    image = np.ones((100, 130), bool)
    model, embedding = embedded(image)
    assert climb(model, embedding, Prompts((Point(click),)), None).logits.values[click] > 0


def test_only_negative_clicks_are_refused():
    model, embedding = embedded(discs())
    with pytest.raises(InputError, match="inside the object"):
        climb(model, embedding, Prompts((Point((3, 3), positive=False),)), None)


def test_a_negative_click_alone_corrects_a_previous_answer():
    image = discs()
    model, embedding = embedded(image)
    everything = model.decode_boxes(embedding, [Box((0, 0), (100, 130))])[0]
    mask = climb(model, embedding, Prompts((Point((75, 90), positive=False),)), everything).logits.values > 0
    assert mask[40, 40]
    assert not mask[75, 90]


def test_cancel():
    model, embedding = embedded(discs())
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        climb(model, embedding, Prompts((Point((40, 40)),)), None, cancel)
