"""SegVol's recipe: windows, prompts, pieces of like grey values, what learns, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models.segvol_windows import measured
from napari_sammed.training import losses, window_draws
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Example, Material
from napari_sammed.training.pseudo_masks import NOTHING
from napari_sammed.training.schedules import warmed_cosine
from napari_sammed.training.segvol_recipe import SMALL, SegVolSettings, SegVolTask, mark
from napari_sammed.training.window_draws import Look, View
from napari_sammed.volume import Volume
from tests.phantoms import ball
from tests.tiny_models import tiny_config
from tests.training.alike import check_runs_are_alike
from tests.training.volumes import NAMES, balls

WINDOW = (8, 32, 48)
STILL = Look(flip=0, change=0)
FEW = SegVolSettings(rate=4e-3, steps=1000, rise=0.005, batch=2, flip=0, change=0, whole=1.0, pseudo=0.0)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lit(seed: int = 0) -> Example:
    """Two balls in the dark, of which the window shows the box that holds both."""
    example = balls(seed)
    grey = np.array([0.0, 900, 0, 500])[example.labels] + np.random.default_rng(seed).normal(
        0, 15, example.labels.shape
    )
    return replace(example, image=Volume(grey.astype(np.int16), example.image.grid))


def material(train: int = 2, held_out: int = 1) -> Material:
    examples = tuple(lit(seed) for seed in range(train + held_out))
    return Material(examples[:train], examples[train:], NAMES)


def network(**changes):
    torch.manual_seed(0)
    return networks.create("segvol", {**tiny_config("segvol"), **changes})


def task(settings: SegVolSettings = FEW, of: Material | None = None) -> SegVolTask:
    return SegVolTask(network(), of or material(), settings)


class TestWindows:
    def test_a_whole_volume_in_the_window(self):
        example = lit()
        seen = window_draws.view(example, window_draws.whole(example, WINDOW))
        assert seen.image.shape == seen.labels.shape == WINDOW and set(np.unique(seen.labels)) == {0, 1, 3}
        assert seen.image[seen.labels == 1].min() > seen.image[seen.labels == 3].max() > 0.2

    def test_windows_one_to_one_are_around_objects_in_two_of_three_cases(self):
        example, random, hits = lit(), np.random.default_rng(0), 0
        box = Box.of_mask(example.labels == 1)
        for _ in range(90):
            region = window_draws.closer(example, 1, box, WINDOW, random)
            assert region.seen.shape == WINDOW
            seen = window_draws.view(example, region)
            inside = example.labels[region.box.slices]
            assert np.array_equal(seen.labels[region.inside.slices], inside)
            assert (seen.labels == 1).sum() == (inside == 1).sum()
            middle = tuple((a + b) // 2 for a, b in zip(region.seen.low, region.seen.high, strict=True))
            hits += box.low[0] <= middle[0] < box.high[0] and (seen.labels == 1).any()
        assert hits > 55

    def test_pieces_lie_on_what_they_are_of(self):
        example, random = lit(), np.random.default_rng(0)
        there = window_draws.view(example, window_draws.whole(example, WINDOW)).labels.astype(np.int32)
        again = window_draws.view(example, window_draws.whole(example, WINDOW), there)
        assert np.array_equal(again.pseudo, there)
        foreground = measured(example.image)[1]
        for _ in range(5):
            region = window_draws.closer(example, 1, Box.of_mask(example.labels == 1), WINDOW, random)
            seen = window_draws.view(example, region, there)
            known = seen.pseudo != NOTHING
            assert known.sum() == region.seen.intersect(foreground).shape[0] * np.prod(
                region.seen.intersect(foreground).shape[1:]
            )
            assert (seen.pseudo == seen.labels)[known].mean() > 0.9  # coarser along z

    def test_what_is_varied_stays_together(self):
        example, random, images = lit(), np.random.default_rng(0), set()
        seen = window_draws.view(example, window_draws.whole(example, WINDOW))
        seen = View(seen.image, seen.labels, seen.labels.astype(np.int32))
        for _ in range(40):
            other = window_draws.varied(seen, random, Look(flip=0.5, change=0.5))
            assert np.array_equal(other.labels, other.pseudo)
            bright, dim = (np.median(other.image[other.labels == value]) for value in (1, 3))
            assert 0.2 < bright - dim < 0.7
            images.add(other.image.tobytes())
        assert len(images) > 20
        assert np.array_equal(window_draws.varied(seen, random, STILL).image, seen.image)


class TestPrompts:
    @pytest.mark.parametrize("fewest", [0, 4])
    def test_points(self, fewest):
        mask, random, counts = ball((8, 32, 48), (4, 16, 20), 4), np.random.default_rng(0), set()
        for _ in range(60):
            places, labels = window_draws.points(mask, random, fewest)
            assert places.shape == (21, 3) and labels.shape == (21,)
            assert all(
                mask[tuple(place.astype(int))] == label
                for place, label in zip(places, labels, strict=True)
                if label >= 0
            )
            assert (places[labels < 0] == -1).all() and labels[0] == 1
            counts.add(((labels == 1).sum(), (labels == 0).sum()))
        assert {inside for inside, _ in counts} == set(range(1 + fewest, 12))
        assert {outside for _, outside in counts} == set(range(11))

    def test_points_of_a_small_object(self):
        mask = np.zeros((3, 3, 3), bool)
        mask[1, 1, 1:] = True
        places, labels = window_draws.points(mask, np.random.default_rng(0), fewest=4)
        assert (labels == 1).sum() == 3 and {tuple(p) for p in places[labels == 1]} == {(1, 1, 1), (1, 1, 2)}

    def test_a_box_of_a_piece_is_of_all_that_lies_nearly_all_in_it(self):
        found = np.full((4, 12, 12), NOTHING, np.int32)
        found[:, 2:10, 2:10] = 0
        found[1:3, 4:6, 4:6] = 1
        found[1:3, 8:12, 5:8] = 2  # half of it outside
        found[1, 6, 1:8] = 3  # all but one of seven voxels inside
        found[1, 6, 8:10] = 3
        box, mask = window_draws.in_box(found, 0)
        assert box.tolist() == [0, 2, 2, 3, 9, 9]
        assert np.array_equal(mask, (found == 0) | (found == 1))
        found[0, 2:10, 2:3] = 3  # and now more than 90 % of it
        assert np.array_equal(window_draws.in_box(found, 0)[1], np.isin(found, (0, 1, 3)))


class TestLosses:
    def test_the_loss(self):
        logits = torch.tensor([0.0, 2.0, -1.0, 3.0]).reshape(2, 1, 1, 1, 2)
        masks = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(2, 1, 1, 1, 2)
        p = torch.sigmoid(logits).reshape(2, 2).tolist()
        dice = [1 - 2 * p[0][0] / (sum(p[0]) + 1 + 1), 1.0]
        cross = -np.mean([np.log(p[0][0]), np.log(1 - p[0][1]), np.log(1 - p[1][0]), np.log(1 - p[1][1])])
        assert losses.window_masks(logits, masks).total.item() == pytest.approx(cross + np.mean(dice), abs=1e-6)

    def test_three_sets_weigh_as_much_as_the_published_six(self):
        asked = []
        trained = task(replace(FEW, pseudo=0.1))
        encode = trained.network.prompt_encoder.forward
        trained.network.prompt_encoder.forward = lambda points=None, boxes=None: (
            asked.append((points is not None, boxes is not None)) or encode(points, boxes)
        )
        (loss,) = trained.losses(np.random.default_rng(0), CPU)
        assert asked[:3] == [(True, False), (False, True), (True, True)]
        assert asked[3:] == [(True, False), (False, True)] * 3
        parts = loss.parts
        real = parts["points"] + parts["box"] + parts["points and box"]
        assert loss.total.item() == pytest.approx(2 * real + 0.1 * parts["pieces"], rel=1e-5)

    def test_rates(self):
        trained = task(SegVolSettings(steps=500))
        assert trained.rate(0) == pytest.approx(1e-5) and trained.rate(9) == trained.rate(10) == 1e-4
        assert trained.rate(255) == pytest.approx(0.5e-4) and trained.rate(500) == 0 == trained.rate(600)
        assert warmed_cosine(0, 1.0, 10) == 1.0
        assert trained.optimizer().param_groups[0]["weight_decay"] == 1e-5


class TestLearning:
    @pytest.mark.parametrize("learns", ["all", "decoder"])
    def test_what_learns_gets_gradients_and_nothing_else(self, learns):
        trained = task(replace(FEW, learns=learns))
        (loss,) = trained.losses(np.random.default_rng(0), CPU)
        loss.total.backward()
        reached = {n for n, p in trained.network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        marked = {name for name, parameter in trained.network.named_parameters() if parameter.requires_grad}
        assert reached == marked
        assert any(name.startswith("image_encoder.") for name in marked) == (learns == "all")
        left = {name for name, _ in trained.network.named_parameters()} - marked
        beside = {name for name in left if not name.startswith("image_encoder.")}
        assert {".".join(name.split(".")[:2]) for name in beside} == {
            "prompt_encoder.mask_downscaling",
            "mask_decoder.iou_prediction_head",
            "mask_decoder.output_hypernetworks_mlps",
            "mask_decoder.txt_align_upscaled_embedding",
        }
        assert not any("hypernetworks_mlps.0." in name for name in beside)

    def test_of_the_published_network(self):
        with torch.device("meta"):
            published = networks.create("segvol")
        mark(published)
        assert sum(p.numel() for p in published.parameters() if p.requires_grad) == 113_214_208  # of 117.3 million

    def test_it_learns_and_the_rest_stays(self, tmp_path):
        small = network(patch_size=(2, 8, 8), hidden_size=48)
        trained = SegVolTask(small, Material((lit(),), (), NAMES), replace(FEW, rate=6e-3))
        before = {name: value.clone() for name, value in trained.network.state_dict().items()}
        standing = fit(trained, Run(tmp_path, 55, measure_every=11, clip=1.0, accelerator="cpu"))
        assert standing.best > 0.7, standing.curve  # less than that, if it took both balls for one
        assert set(standing.curve[-1]) == {"step", "loss", "score", *NAMES.values()}
        now = trained.network.state_dict()
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        assert changed == {name for name, parameter in trained.network.named_parameters() if parameter.requires_grad}

    @pytest.mark.parametrize("learns", ["all", "decoder"])
    def test_runs_of_a_seed_are_the_same_and_a_stopped_one_goes_on(self, tmp_path, learns):
        settings = SegVolSettings(learns=learns, steps=100, batch=1)
        run = Run(tmp_path, 4, seed=5, measure_every=2, accelerator="cpu")
        check_runs_are_alike(lambda: task(settings), run)

    def test_measured_closer_as_published(self):
        trained = task(replace(FEW, zoomed_in=True))
        measures = trained.measure(CPU)
        assert set(measures) == {"score", *NAMES.values()} and measures == trained.measure(CPU)

    def test_pieces_are_found_once_for_each_volume(self):
        trained = task(replace(FEW, pseudo=0.1, batch=1))
        for seed in range(6):
            next(trained.losses(np.random.default_rng(seed), CPU))
        assert len(trained._pieces) == 2
        plain = task(replace(FEW, batch=1))
        next(plain.losses(np.random.default_rng(0), CPU))
        assert not len(plain._pieces)


class TestMaterialThatDoesNotFit:
    def test_flat_images(self):
        flat = Example("x-ray", "one", Volume.from_array(np.eye(40)), np.eye(40, dtype=np.uint8), {1: "line"})
        with pytest.raises(InputError, match=r"SegVol learns from volumes, but x-ray is a flat image of \(40, 40\)"):
            task(of=Material((lit(), flat), (), NAMES))

    def test_objects_of_a_few_voxels_and_where_the_network_sees_nothing(self):
        labels = np.zeros((26, 40, 44), np.uint8)
        labels[13, 20, 10:13], labels[:3, :3, :3] = 1, 3
        with pytest.raises(InputError, match="bright of case 0: 3 voxels are fewer than 10"):
            task(of=Material((replace(lit(), labels=labels),), (), NAMES))
        labels[labels == 1] = 0
        dark = replace(lit(), labels=labels, names={3: "dark"})
        with pytest.raises(InputError, match="dark of case 0: it lies where the image is as dark as air"):
            task(of=Material((dark,), (), NAMES))

    def test_an_image_without_contrast_is_named(self):
        empty = replace(lit(), image=Volume(np.zeros((26, 40, 44), np.int16), lit().image.grid))
        with pytest.raises(InputError, match="case 0: The image has the same value"):
            task(of=Material((empty,), (), NAMES))

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"learns": "text"}, 'What learns is one of all, decoder, not "text"'),
            ({"batch": 0}, "batch is at least 1, not 0"),
            ({"whole": 1.5}, "whole is a share, 0 to 1, not 1.5"),
        ],
    )
    def test_settings(self, how, message):
        with pytest.raises(InputError, match=message):
            task(replace(SMALL, **how))
