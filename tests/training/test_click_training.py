"""The training of the click network: its simulated users, its losses, its files, and that it goes on after a stop."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.training.click_draws import draw
from napari_sammed.training.click_learning import following, losses, overlaps
from napari_sammed.training.click_pictures import Encoded, make, path_of
from napari_sammed.training.click_training import ClickTask, begin_with, settings, train
from napari_sammed.training.click_users import Clicker, mistaken
from napari_sammed.training.schedules import cosine
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


def test_undoing_what_was_right_costs_more_than_another_mistake():
    target = torch.from_numpy(_disc(64, 64, 20)).float()[None]
    before = 8 * (2 * target[:, None] - 1)
    undone = before.clone()
    undone[..., 60:68, 60:68] *= -1
    assert losses(undone, target, before).item() > losses(undone, target).item() + 0.1
    torch.testing.assert_close(losses(undone, target, -before), losses(undone, target), msg="nothing was right before")
    mended = losses(before, target, undone).item()
    assert mended < 0.01
    assert mended < losses(undone, target, undone).item()


def test_a_first_click_takes_the_likeliest_reading():
    logits = torch.stack([torch.full((2, 2), float(v)) for v in (-1, 1, 2, 3)])[None]
    expected, points = torch.tensor([[1.0, 0.2, 0.9, 0.5]]), torch.tensor([[[0.5, 0.5]]])
    assert following(logits, expected, None, points)[0].unique().item() == 2
    before = torch.ones(1, 1, 2, 2)
    assert following(logits, expected, before, points)[0].unique().item() == -1


def test_a_further_click_leaves_what_is_far_away():
    before = torch.full((1, 1, 128, 128), -5.0)
    logits = torch.full((1, 4, 128, 128), -4.0)
    logits[:, 0, 20:26, 40:46], logits[:, 0, 90:110, 90:110] = 5, 5
    shown, masks = following(logits, torch.zeros(1, 4), before, torch.tensor([[[9.0, 9.0], [85.5, 46.5]]]))
    assert masks[0, 20:26, 40:46].all()
    assert masks.sum() == 36
    assert shown.shape == (1, 1, 128, 128)


def test_weights_without_walks_are_taken_over():
    """Those of the time before walks: walks have no say in what is drawn at first, and begin to have one."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 8, "widths": (8, 8, 16, 16), "heads": 2, "head_dim": 4}
    older, newer = ClickHead(**sizes), ClickHead(**sizes)
    weights = {key: value for key, value in older.state_dict().items() if not key.startswith("trust")}
    weights["stem.0.weight"] = weights["stem.0.weight"][:, :10].half()
    begin_with(newer, weights)
    given = (torch.randn(1, 8, 16, 16), torch.rand(1, 3, 64, 64), torch.full((1, 1, 2), 20.0), torch.ones(1, 1))
    before, walks = torch.randn(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    with_walks, without = newer(*given, before, walks)[0], older(*given, before)[0]
    torch.testing.assert_close(with_walks[:, 1:], without[:, 1:], rtol=1e-2, atol=1e-2)
    with_walks.square().mean().backward()
    assert newer.stem[0].weight.grad[:, 10:].abs().max() > 0
    assert newer.trust.weight.grad.abs().max() > 0


def test_pictures_are_turned_as_a_whole(pictures):
    """The features say where the disc is: turned and mirrored, they still do."""
    ways = set()
    for seed in range(30):
        drawn = draw(Encoded.read(path_of(pictures, 3)), np.random.default_rng(seed))
        shown = torch.nn.functional.avg_pool2d(drawn.targets[:1], 2)[0]
        assert ((drawn.features[0, 0] > 0.5) == (shown > 0.5)).float().mean() > 0.98
        assert ((drawn.pixels[0, 0] > 0.5)[::2, ::2] == (drawn.targets[0] > 0.5)).float().mean() > 0.98
        ways.add(tuple(np.argwhere(shown.numpy() > 0.5).mean(0).round().astype(int)))
    assert len(ways) == 8
    plain = draw(Encoded.read(path_of(pictures, 3)), np.random.default_rng(0), plain=True)
    np.testing.assert_array_equal(plain.pixels[0, 0].numpy() > 0.5, Encoded.read(path_of(pictures, 3)).masks[0])


def test_walks_of_several_objects_are_the_same_as_of_one(pictures):
    drawn = draw(Encoded.read(path_of(pictures, 3)), np.random.default_rng(0), plain=True)
    points, labels = Clicker(drawn.targets.numpy() > 0.5, None).click(np.zeros(drawn.targets.shape, bool))
    before = 4 * (2 * drawn.targets[:, None] - 1)
    walks = drawn.walks(points, labels, before)
    assert walks.shape == (4, 3, 128, 128)
    torch.testing.assert_close(drawn.walks(points[1:2], labels[1:2], before[1:2]), walks[1:2])
    assert ((walks[0, 0] > 0) == (drawn.targets[0] > 0.5)).float().mean() > 0.95


def test_encoded_pictures_come_back(pictures):
    read = Encoded.read(path_of(pictures, 3))
    assert read.features.dtype == np.float16
    assert read.masks.shape == (1, 256, 256)
    drawn = draw(Encoded.read(path_of(pictures, 3)), np.random.default_rng(0), 4)
    assert drawn.targets.shape == (4, 128, 128)
    assert not list(pictures.glob("*.part"))


def test_what_is_there_is_not_made_again(pictures):
    make(lambda number: pytest.fail("made again"), pictures, range(1, 13))


def small() -> ClickHead:
    torch.manual_seed(0)
    return ClickHead(widths=(8, 8, 16, 16), heads=2, head_dim=4)


def test_training_learns_and_goes_on_after_a_stop(pictures, tmp_path):
    out = tmp_path / "out"
    boxes = networks.create("litemedsam", {**tiny_config("litemedsam"), "prompt_embed_dim": 256})

    for steps in (5, 10):
        task = ClickTask(small(), pictures, boxes, 20, 3e-3)
        train(task, replace(settings(out, steps, every=5), accumulate=1))
    rows = list(csv.DictReader((out / "curve.csv").open()))
    assert [int(row["step"]) for row in rows] == [5, 10]
    assert float(rows[-1]["3 clicks"]) > float(rows[0]["3 clicks"]), "three clicks find a disc that the features show"
    kept = load_file(out / "click.safetensors")
    assert all(torch.equal(kept[key], value.half()) for key, value in task.network.state_dict().items())
    small().load_state_dict(kept)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        ClickTask(small(), tmp_path, None, 20)


def test_the_rate_falls_as_half_a_cosine():
    rates = [cosine(step, 2.0, 100, warm_up=10) for step in (0, 9, 50, 100, 200)]
    assert rates == pytest.approx(
        [0.202 - 0.00005, 2.0 * (0.5 + 0.5 * np.cos(0.09 * np.pi) + 0.01), 1.02, 0.02, 0.02], rel=1e-3
    )
