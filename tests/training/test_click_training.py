"""The training of the click network: its simulated users, its losses, its files, and that it goes on after a stop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_sammed import networks
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.training import click_training
from napari_sammed.training.click_pictures import Encoded, make, path_of
from napari_sammed.training.click_training import draw, following, losses, overlaps, train
from napari_sammed.training.click_users import Clicker, mistaken
from tests.tiny_models import tiny_config


def _disc(row: int, column: int, radius: int, side: int = 128) -> np.ndarray:
    rows, columns = np.indices((side, side))
    return np.hypot(rows - row, columns - column) <= radius


@pytest.fixture
def pictures(tmp_path):
    """Twelve encoded pictures of a disc whose features say where it is."""

    def encoded(number: int) -> Encoded:
        random = np.random.default_rng(number)
        row, column = random.integers(60, 190, 2)
        mask = _disc(row, column, 40, 256)
        features = np.zeros((256, 64, 64), np.float16)
        features[0] = mask[::4, ::4]
        return Encoded(features, mask[None], (mask * 200).astype(np.uint8))

    make(encoded, tmp_path / "pictures", range(1, 13))
    return tmp_path / "pictures"


def test_users_click_into_the_middle_of_the_largest_mistake():
    target = _disc(40, 90, 20)
    clicker = Clicker(target[None], None)
    points, labels = clicker.click(np.zeros_like(target)[None])
    np.testing.assert_allclose(points[0, 0], (2 * 90.5 - 0.5, 2 * 40.5 - 0.5), atol=3)
    assert labels[0, 0] == 1
    points, labels = clicker.click((target | _disc(100, 30, 25))[None])
    assert points.shape == (1, 2, 2)
    np.testing.assert_allclose(points[0, 1], (2 * 30.5 - 0.5, 2 * 100.5 - 0.5), atol=3)
    assert labels[0].tolist() == [1, 0]
    _, labels = clicker.click(target[None])
    assert labels[0].tolist() == [1, 0, -1]


def test_random_users_click_into_mistakes_too():
    target = _disc(40, 90, 20)
    for seed in range(20):
        clicker = Clicker(target[None], np.random.default_rng(seed))
        points, _ = clicker.click(np.zeros_like(target)[None])
        column, row = ((points[0, 0].numpy() + 0.5) / 2).astype(int)
        assert target[row, column]


def test_mistaken_masks_are_wrong_but_not_somewhere_else():
    target, other = _disc(40, 50, 18), _disc(90, 90, 12)
    random = np.random.default_rng(0)
    masks = [mistaken(target, np.stack([target, other]), random) for _ in range(40)]
    shares = [(mask & target).sum() / (mask | target).sum() for mask in masks]
    assert 0.3 < np.mean(shares) < 0.95
    assert sum((mask & other).sum() > 0.9 * other.sum() for mask in masks) >= 3


def test_losses_prefer_the_truth():
    target = torch.from_numpy(_disc(64, 64, 20)).float()[None]
    right, empty = 20 * target[:, None] - 10, torch.full((1, 1, 128, 128), -10.0)
    assert losses(right, target).item() < 0.01
    assert losses(empty, target).item() > 0.9
    assert overlaps(right, target).item() == 1
    assert overlaps(empty, target).item() == 0


def test_a_first_click_takes_the_likeliest_reading():
    logits = torch.stack([torch.full((2, 2), float(v)) for v in (-1, 1, 2, 3)])[None]
    expected = torch.tensor([[1.0, 0.2, 0.9, 0.5]])
    assert following(logits, expected, first=True)[0].unique().item() == 2
    assert following(logits, expected, first=False)[0].unique().item() == -1


def test_encoded_pictures_come_back(pictures):
    read = Encoded.read(path_of(pictures, 3))
    assert read.features.dtype == np.float16
    assert read.masks.shape == (1, 256, 256)
    drawn = draw(path_of(pictures, 3), np.random.default_rng(0), 4)
    assert drawn.targets.shape == (4, 128, 128)
    assert not list(pictures.glob("*.part"))


def test_what_is_there_is_not_made_again(pictures):
    make(lambda number: pytest.fail("made again"), pictures, range(1, 13))


def test_training_learns_and_goes_on_after_a_stop(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(click_training, "ClickHead", lambda: ClickHead(widths=(8, 8, 16, 16), heads=2, head_dim=4))
    out = tmp_path / "out"
    boxes = networks.create("litemedsam", {**tiny_config("litemedsam"), "prompt_embed_dim": 256})
    train(pictures, out, boxes, steps=4, rate=3e-3, seed=0, every=2)
    (out / "click.safetensors").unlink()
    train(pictures, out, boxes, steps=20, rate=3e-3, seed=0, every=8)
    rows = [line.split(",") for line in (out / "curve.csv").read_text().splitlines()]
    assert [int(row[0]) for row in rows] == [2, 4, 8, 16, 20]
    assert float(rows[-1][6]) > float(rows[0][6]), "three clicks find a disc that the features show"
    kept = load_file(out / "click.safetensors")
    assert all(value.dtype == torch.float16 for value in kept.values())
    ClickHead(widths=(8, 8, 16, 16), heads=2, head_dim=4).load_state_dict(kept)
    train(pictures, tmp_path / "more", boxes, 1, 0.0, seed=0, every=1, begin=out / "click.safetensors")
    again = load_file(tmp_path / "more" / "click.safetensors")
    assert all(torch.allclose(again[key], value, atol=1e-3) for key, value in kept.items())
