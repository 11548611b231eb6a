"""Cleaning of masks: what is left out and why, and which halves are the patient's left."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.training.cleaning import Rules, clean
from napari_sammed.volume import Volume, read_volume

SHAPE = (30, 40, 50)
GRID = Grid.plain(SHAPE, (2.0, 2.0, 2.0))


def block(*parts: tuple[slice, ...], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for part in parts:
        mask[part] = True
    return mask


LARGE = np.s_[5:20, 10:30, 10:25]


def test_what_is_fine_stays_as_it_is():
    (found,) = clean(block(LARGE), "liver", GRID)
    assert found.name == "liver" and not found.remark and np.array_equal(found.mask, block(LARGE))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (block(), "it is empty"),
        (block(np.s_[5:10, 5:10, 5:9]), "0.8 cm3 are less than 1"),
        (block(np.s_[5:9, 5:30, 5:30]), "8 mm thick, less than 15"),
        (block(np.s_[5:13, 5:13, 5:13]), "99.15% of the image lie outside"),
    ],
    ids=["empty", "small", "thin", "lost in the image"],
)
def test_what_is_left_out_is_said_with_the_reason(mask, reason):
    (found,) = clean(mask, "cyst", GRID)
    assert found.mask is None and reason in found.remark


def test_the_bounds_are_where_they_are_said_to_be():
    mask = block(np.s_[5:13, 5:13, 5:13])  # 4.1 cm3, 16 mm, 0.85 % of the image
    assert clean(mask, "cyst", GRID, Rules(background=0.992))[0].mask is not None
    assert clean(mask, "cyst", GRID, Rules(background=0.992, extent=16))[0].mask is not None
    assert clean(mask, "cyst", GRID, Rules(background=0.992, extent=16.1))[0].mask is None
    assert clean(mask, "cyst", GRID, Rules(background=0.992, volume=4.096))[0].mask is not None
    assert clean(mask, "cyst", GRID, Rules(background=0.992, volume=4.1))[0].mask is None


def test_the_five_largest_pieces_are_kept():
    specks = [np.s_[25:26, 35:36, 7 * n : 7 * n + n + 1] for n in range(7)]
    (found,) = clean(block(LARGE, *specks), "liver", GRID)
    assert np.array_equal(found.mask, block(LARGE, *specks[3:]))
    assert found.remark.startswith("3 of 8 pieces left out")


@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
def test_left_is_the_patients_left_however_the_array_lies(flips):
    spacing = (2.0, 2.0, 2.0)
    mask = block(np.s_[5:20, 10:30, 5:20], np.s_[5:20, 10:30, 28:45])  # x grows to the left
    direction = np.diag([1.0, 1.0, 1.0])[:, ::-1]  # columns z, y, x
    turned, origin = mask, np.zeros(3)
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis)
            origin = origin + direction[:, axis] * (SHAPE[axis] - 1) * spacing[axis]
            direction = np.where(np.arange(3) == axis, -direction, direction)
    grid = Grid(SHAPE, spacing, tuple(origin), tuple(map(tuple, direction)), mirrored=True)
    found = {item.name: item.mask for item in clean(turned, "kidney", grid)}
    where = {name: grid.to_world(np.argwhere(half).mean(0)[None])[0, 0] for name, half in found.items()}
    assert where["kidney, left"] > where["kidney, right"] and found["kidney, left"].sum() == 15 * 20 * 17
    assert np.array_equal(found["kidney, left"] | found["kidney, right"], turned)


@pytest.mark.parametrize(
    "parts",
    [
        (np.s_[2:12, 10:30, 10:40], np.s_[18:28, 10:30, 10:40]),
        (np.s_[5:20, 2:18, 10:40], np.s_[5:20, 22:38, 10:40]),
        (np.s_[5:20, 10:30, 5:25], np.s_[5:20, 10:30, 40:44]),
        (np.s_[5:20, 10:30, 5:45],),
    ],
    ids=["above each other", "behind each other", "of unlike size", "one piece"],
)
def test_what_is_no_pair_is_not_split(parts):
    assert [item.name for item in clean(block(*parts), "vertebrae", GRID)] == ["vertebrae"]


def test_pairs_of_a_real_ct_are_split_as_their_labels_say(shared):
    folder = shared / "data" / "3d_ct_torso_multiorgan"
    labels: Volume = read_volume(folder / "labels.nii.gz")
    names = {name: int(value) for value, name in json.loads((folder / "labels.json").read_text()).items()}
    left, right = names["kidney_left"], names["kidney_right"]
    both = np.isin(labels.array, [left, right])
    found = {item.name: item.mask for item in clean(both, "kidneys", labels.grid, Rules(background=1))}
    for side, value in (("left", left), ("right", right)):
        true = labels.array == value
        half = found[f"kidneys, {side}"]
        assert 2 * (half & true).sum() / (half.sum() + true.sum()) > 0.98


def test_flat_images_and_other_shapes_are_refused():
    with pytest.raises(InputError, match="Masks of volumes"):
        clean(np.ones((4, 5), bool), "x", Grid.plain((4, 5)))
    with pytest.raises(InputError, match=r"shape \(4, 5, 6\), its image \(30, 40, 50\)"):
        clean(np.ones((4, 5, 6), bool), "x", GRID)
