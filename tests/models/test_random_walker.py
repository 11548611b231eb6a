"""The random walker on phantoms: noisy bodies of known shape, and on the two torso volumes."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest
from scipy import ndimage

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.metrics import dice
from napari_sammed.geometry import Box
from napari_sammed.models.base import GrowingModel
from napari_sammed.models.lattice import edge_weights, shapes, walk
from napari_sammed.models.random_walker import RandomWalker, RandomWalkerResult, segment
from napari_sammed.prompts import Point, Prompts, Stroke
from napari_sammed.volume import Volume


def ellipsoid(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...], radii: tuple[float, ...]):
    """Voxels within an ellipsoid; centre and radii in mm."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    parts = zip(axes, spacing, centre, radii, strict=True)
    return sum(((axis * step - c) / r) ** 2 for axis, step, c, r in parts) <= 1


def noisy(*bodies: tuple[np.ndarray, float], noise: float = 10.0) -> np.ndarray:
    """Bodies of given grey values on a background of 0."""
    image = np.random.default_rng(0).normal(0, noise, bodies[0][0].shape)
    for mask, grey in bodies:
        image += grey * mask
    return image.astype(np.float32)


def whole(result: RandomWalkerResult, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(result.low, result.high, strict=True))] = result.mask
    return mask


SPHERE = ellipsoid((48, 48, 48), (2, 2, 2), (48, 48, 48), (24, 24, 24))


@pytest.mark.parametrize("contrast", [60.0, -60.0, 1000.0], ids=["bright", "dark", "strong"])
def test_one_click_finds_a_sphere(contrast: float) -> None:
    result = segment(noisy((SPHERE, contrast)), (2, 2, 2), [(24, 24, 24)])
    assert dice(whole(result, SPHERE.shape), SPHERE) > 0.93
    assert 0 <= result.score <= 1


def test_grey_scale_and_offset_do_not_matter() -> None:
    image = noisy((SPHERE, 60))
    first = segment(image, (2, 2, 2), [(24, 24, 24)])
    second = segment(image * 0.01 + 5, (2, 2, 2), [(24, 24, 24)])
    assert dice(first.mask, second.mask) > 0.99


@pytest.mark.parametrize("spacing", [(6.0, 1.0, 1.0), (1.0, 1.0, 6.0)], ids=["thick z", "thick x"])
def test_ellipsoid_on_thick_slices(spacing: tuple[float, ...]) -> None:
    shape = tuple(int(72 / step) for step in spacing)
    truth = ellipsoid(shape, spacing, (36, 36, 36), (22, 15, 18))
    result = segment(noisy((truth, 60)), spacing, [tuple(36 / step for step in spacing)])
    assert dice(whole(result, shape), truth) > 0.88


def test_body_larger_than_the_first_region_is_followed() -> None:
    shape, spacing = (50, 110, 110), (3, 3, 3)
    truth = ellipsoid(shape, spacing, (75, 165, 165), (65, 150, 120))
    result = segment(noisy((truth, 80)), spacing, [(25, 55, 55)])
    assert result.high[1] - result.low[1] > 72
    assert dice(whole(result, shape), truth) > 0.9


def test_touching_bodies_are_told_apart() -> None:
    other = ellipsoid(SPHERE.shape, (2, 2, 2), (48, 48, 90), (20, 20, 20)) & ~SPHERE
    image = noisy((SPHERE, 100), (other, 40))
    mask = whole(segment(image, (2, 2, 2), [(24, 24, 24)]), SPHERE.shape)
    assert dice(mask, SPHERE) > 0.9
    assert (mask & other).sum() < 0.05 * other.sum()


def test_negative_click_removes_a_leak() -> None:
    shape, spacing = (40, 40, 80), (2, 2, 2)
    truth = ellipsoid(shape, spacing, (40, 40, 48), (22, 22, 22))
    twin = ellipsoid(shape, spacing, (40, 40, 108), (22, 22, 22))
    bridge = ellipsoid(shape, spacing, (40, 40, 78), (14, 14, 24)) & ~truth & ~twin
    image = noisy((truth, 60), (twin, 60), (bridge, 60))
    clicks = [(20, 20, 24), (20, 20, 28)]
    leaky = whole(segment(image, spacing, clicks), shape)
    mended = whole(segment(image, spacing, clicks, [(20, 20, 54)]), shape)
    assert (leaky & twin).sum() > 0.25 * twin.sum()  # else there is nothing to mend
    assert (mended & twin).sum() < 0.5 * (leaky & twin).sum()
    assert not mended[20, 20, 54]
    assert dice(mended, truth) > dice(leaky, truth)


def test_every_positive_click_is_inside_and_every_negative_one_outside() -> None:
    image = noisy((SPHERE, 60))
    result = segment(image, (2, 2, 2), [(24, 24, 24), (24, 24, 40)], [(24, 30, 24), (5, 5, 5)])
    mask = whole(result, SPHERE.shape)
    assert mask[24, 24, 24] and mask[24, 24, 40]
    assert not mask[24, 30, 24] and not mask[5, 5, 5]


def test_stroke_over_two_tissues_takes_both() -> None:
    half = SPHERE & (np.arange(48) < 24)
    image = noisy((half, 60), (SPHERE & ~half, 150))
    volume = Volume.from_array(image, (2, 2, 2), rgb=False)
    model = RandomWalker()
    prompts = Prompts((Stroke(((24, 24, 15), (24, 24, 33))),))
    region = model.plan(volume.grid, prompts, None)
    logits = model.decode(model.embed(volume, region), prompts, None)
    mask = np.zeros(SPHERE.shape, bool)
    mask[region.box.slices] = model.restore(logits) > 0
    assert dice(mask, SPHERE) > 0.85


def test_box_alone_finds_what_it_was_drawn_around() -> None:
    mask = whole(segment(noisy((SPHERE, 60)), (2, 2, 2), [], box=((11, 11, 11), (38, 38, 38))), SPHERE.shape)
    assert dice(mask, SPHERE) > 0.9


def test_nothing_lies_outside_of_a_box_that_cuts_the_body() -> None:
    box = Box((10, 10, 10), (38, 38, 24))
    mask = whole(segment(noisy((SPHERE, 60)), (2, 2, 2), [(24, 24, 18)], box=(box.low, box.high)), SPHERE.shape)
    inside = np.zeros(SPHERE.shape, bool)
    inside[box.slices] = True
    assert mask[24, 24, 18]
    assert not (mask & ~inside).any()


def test_a_click_outside_of_a_box_goes_on_from_it() -> None:
    """The object leaves the box there: what lies in it is kept, and the box limits nothing any more."""
    image = Volume.from_array(noisy((SPHERE, 60)), (2, 2, 2))
    prompts = Prompts((Box((10, 10, 10), (38, 38, 24)), Point((24, 24, 30))))
    model = RandomWalker()
    logits = model.decode(model.embed(image, model.plan(image.grid, prompts, None)), prompts)
    mask, place = model.object_mask(logits)
    found = np.zeros(SPHERE.shape, bool)
    found[place.slices] = mask
    assert dice(found, SPHERE) > 0.93
    assert found[24, 24, 17]


def test_only_the_part_asked_for_is_looked_at() -> None:
    result = segment(noisy((SPHERE, 60)), (2, 2, 2), [(24, 24, 24)], within=((24, 0, 0), (25, 48, 48)))
    assert result.mask.shape[0] == 1
    assert dice(whole(result, SPHERE.shape)[24], SPHERE[24]) > 0.9


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_flat_images(colour: bool) -> None:
    truth = ellipsoid((120, 160), (1, 1), (60, 70), (25, 40))
    grey = noisy((truth, 60)) + 100
    image = np.stack([grey, 0.5 * grey, 255 - grey], axis=-1) if colour else grey
    result = segment(image, (1, 1), [(60, 70)])
    assert dice(whole(result, truth.shape), truth) > 0.93


def test_constant_image_is_refused() -> None:
    with pytest.raises(InputError, match="same value"):
        segment(np.full((20, 20, 20), 7.0), (1, 1, 1), [(10, 10, 10)])


def test_nan_is_refused() -> None:
    image = noisy((SPHERE, 60))
    image[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        segment(image, (2, 2, 2), [(24, 24, 24)])


@pytest.mark.parametrize("index", [(48, 10, 10), (-1, 10, 10)])
def test_click_outside_is_refused(index: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="outside the image"):
        segment(noisy((SPHERE, 60)), (2, 2, 2), [index])


def test_only_negative_clicks_are_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        segment(noisy((SPHERE, 60)), (2, 2, 2), [], [(24, 24, 24)])


def test_cancel_ends_the_call() -> None:
    cancel = Event()
    cancel.set()
    with pytest.raises(Cancelled):
        segment(noisy((SPHERE, 60)), (2, 2, 2), [(24, 24, 24)], cancel=cancel)


def test_further_clicks_keep_the_region_so_that_its_embedding_is_used_again() -> None:
    model, grid = RandomWalker(), Volume.from_array(np.zeros((100, 400, 400), np.float32), (3, 1, 1)).grid
    first = Prompts((Point((50, 200, 200)),))
    assert isinstance(model, GrowingModel)
    assert model.plan(grid, first.add(Point((45, 180, 220), False)), None) == model.plan(grid, first, None)
    far = model.plan(grid, first.add(Point((10, 20, 20), False)), None)
    assert far.box.contains((10, 20, 20)) and far.box.contains((50, 200, 200))


def test_walk_solves_the_linear_system() -> None:
    """Against a dense solution of (L + leak) p = 0 with seeds, on a lattice small enough to write down."""
    rng = np.random.default_rng(1)
    grey = rng.normal(size=(3, 4, 5)).astype(np.float32)
    spacing = (2.0, 1.0, 1.5)
    weights = edge_weights(grey, spacing, 0.7, 1e-3)
    leak = rng.uniform(0.01, 0.1, grey.shape).astype(np.float32)
    inside, outside = np.zeros(grey.shape, bool), np.zeros(grey.shape, bool)
    inside[1, 1, 1], outside[2, 3, 4] = True, True
    number = np.arange(grey.size).reshape(grey.shape)
    matrix = np.diag(leak.ravel().astype(float))
    for axis, step in enumerate(spacing):
        ends = np.moveaxis(number, axis, 0)
        for i, j in zip(ends[:-1].ravel(), ends[1:].ravel(), strict=True):
            weight = (np.exp(-0.7 * (grey.flat[i] - grey.flat[j]) ** 2) + 1e-3) / step**2
            matrix[i, i] += weight
            matrix[j, j] += weight
            matrix[i, j] -= weight
            matrix[j, i] -= weight
    free = ~(inside | outside).ravel()
    expected = inside.ravel().astype(float)
    expected[free] = np.linalg.solve(matrix[np.ix_(free, free)], -matrix[np.ix_(free, ~free)] @ expected[~free])
    np.testing.assert_allclose(walk(weights, leak, inside, outside, tolerance=1e-6).ravel(), expected, atol=1e-5)


def test_shapes_count_and_measure_what_each_threshold_takes_in() -> None:
    p = np.zeros((21, 41))
    p[10, 5:36] = 0.3
    p[5:16, 5:36] = np.maximum(p[5:16, 5:36], 0.2)
    sizes, elongations = shapes(p, np.array([0.5, 0.25, 0.1]), (1.0, 1.0))
    assert sizes.tolist() == [0, 31, 341]
    # variance of n voxels in a row: (n² - 1) / 12, plus 1 / 12 of the voxel itself
    np.testing.assert_allclose(elongations[1:], [np.log(31), np.log(31 / 11)], atol=1e-9)


def test_shapes_are_those_of_labelled_sets() -> None:
    p = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(12, 12, 12)), 2)
    thresholds = np.quantile(p, [0.9, 0.5])
    sizes, _ = shapes(p, thresholds, (1, 1, 1))
    assert sizes.tolist() == [(p >= t).sum() for t in thresholds]
