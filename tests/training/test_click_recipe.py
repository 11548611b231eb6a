"""The click network learns on from examples of a user's own, and is measured as the program answers clicks."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed.backend import reductions
from napari_sammed.errors import Cancelled, InputError
from napari_sammed.evaluation.clicks import next_click
from napari_sammed.evaluation.metrics import dice
from napari_sammed.intensity import Window
from napari_sammed.models.click import shipped_head
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.models.registry import load
from napari_sammed.networks.click_head import ClickHead
from napari_sammed.prompts import Point, Prompts
from napari_sammed.training.click_recipe import ClickRecipeSettings, ClickRecipeTask
from napari_sammed.training.fitting import Run, fit, learnt
from napari_sammed.training.material import Example, Material
from napari_sammed.volume import Volume

NAMES = {1: "bright", 2: "dark"}
FEW = ClickRecipeSettings(rate=0.003, warm_up=2, steps=10, batch=1, pictures=2, clicks=3, slices=1)
CPU = torch.device("cpu")


def example(name: str, shape: tuple[int, ...] = (6, 60, 80), seed: int = 0) -> Example:
    """A bright ball, and a dark one of another size, in noise; label 3 is not to be learnt."""
    places, random = np.indices(shape), np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    for value, (row, column), radius in ((3, (50, 70), 6), (1, (20, 25), 14), (2, (35, 60), 10)):
        labels[(places[-2] - row) ** 2 + (places[-1] - column) ** 2 < radius**2] = value
    if len(shape) == 3:
        labels[:2][labels[:2] == 2] = 0
    grey = np.array([100, 180, 40, 140])[labels] + random.normal(0, 5, shape)
    return Example(name, name, Volume.from_array(grey.astype(np.int16), (3.0, 1.0, 1.0)[-len(shape) :]), labels, NAMES)


@pytest.fixture
def model(weights) -> LiteMedSAM:
    return load("litemedsam", weights)


def small() -> ClickHead:
    torch.manual_seed(0)
    return ClickHead(widths=(8, 8, 16, 16), heads=2, head_dim=4)


def test_pictures_are_of_what_is_to_be_learnt(model):
    task = ClickRecipeTask(small(), Material((example("a"), example("flat", (60, 80))), (), NAMES), boxes=model)
    shown = 0
    for number in range(20):
        picture, again = task._picture(number), task._picture(number)
        np.testing.assert_array_equal(picture.pixels, again.pixels)
        areas = sorted(mask.mean() for mask in picture.masks)
        assert 1 <= len(areas) <= 4
        if picture.pixels.shape == (192, 256) and len(areas) == 2:  # as the program shows it
            shown += 1
            bright, dark = (float(np.median(picture.pixels[mask])) for mask in picture.masks)
            around = float(np.median(picture.pixels))
            assert abs(bright - around) > 30 and abs(dark - around) > 30
    assert shown >= 4


@pytest.mark.full
def test_the_measure_is_what_the_program_makes_of_clicks(model, weights):
    train, held = example("a"), example("b", seed=1)
    task = ClickRecipeTask(shipped_head(), Material((train,), (held,), NAMES), FEW, model)
    measured = task.measure(CPU)
    click, image = load("click", weights), held.image
    found = {"bright": [], "dark": []}
    for value, indices in ((1, (2,)), (2, (4,))):
        for index in indices:
            prompts, previous, mask = Prompts(), None, np.zeros((60, 80), bool)
            region = click.plan(image.grid, Prompts((Point((index, 0, 0)),)), None)
            embedding = click.embed(image, region, Window.auto(image))
            for _ in range(3):
                place = next_click(mask, held.labels[index] == value, (1, 1))
                if place is None:
                    break
                prompts = prompts.add(Point((index, *place.index), place.positive))
                previous, _ = reductions.answer(click, embedding, prompts, previous)
                mask = click.restore(previous)[0] > 0
            found[NAMES[value]].append(dice(mask, held.labels[index] == value))
    expected = {name: np.mean(values) for name, values in found.items()}
    assert measured == pytest.approx({"score": np.mean(list(expected.values())), **expected})
    assert task.measure(CPU) == measured, "with what is kept from the first time"
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.zero_()
    assert task.measure(CPU) != measured, "it is the network that learns which is measured"


@pytest.mark.full
def test_it_learns_and_a_run_that_was_stopped_ends_as_one_that_was_not(model, tmp_path):
    def run(name: str, **how) -> ClickRecipeTask:
        task = ClickRecipeTask(small(), Material((example("a", (60, 80)),), (), NAMES), FEW, model)
        fit(task, Run(tmp_path / name, 4, measure_every=2, clip=1.0, average=0.9, accelerator="cpu"), **how)
        return task

    before = {name: value.clone() for name, value in learnt(small()).items()}
    whole, cancel = run("whole"), threading.Event()
    with pytest.raises(Cancelled):
        run("halves", cancel=cancel, progress=lambda text, share: share >= 0.5 and cancel.set())
    again = learnt(run("halves").network)
    for name, value in learnt(whole.network).items():
        assert torch.equal(value, again[name]), name
    assert before.keys() == again.keys() and not torch.equal(before["draw.weight"], again["draw.weight"])


def test_what_cannot_be_clicked_on_is_refused(model):
    tiny = example("a", (600, 800))
    labels = np.zeros_like(tiny.labels)
    labels[300, 400] = 1
    with pytest.raises(InputError, match="less than 30"):
        ClickRecipeTask(small(), Material((Example("a", "a", tiny.image, labels, {1: "dot"}),), (), {1: "dot"}), FEW)
    with pytest.raises(InputError, match="rate is above 0"):
        ClickRecipeSettings(rate=0)
    with pytest.raises(InputError, match="clicks is at least 1"):
        ClickRecipeSettings(clicks=0)
