"""SAM-Med3D's recipe: cubes, rounds of clicks, what learns, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra [train]")

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.training import cube_draws, losses
from napari_sammed.training.fitting import Run, fit
from napari_sammed.training.material import Example, Material
from napari_sammed.training.sam_med3d_recipe import SamMed3dSettings, SamMed3dTask, mark
from napari_sammed.training.schedules import stepped
from napari_sammed.volume import Volume, read_volume
from tests.golden_3d import Golden3d
from tests.phantoms import ball
from tests.training.alike import check_runs_are_alike
from tests.training.volumes import NAMES, balls, material

SMALL = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
    "global_attn_indexes": (1,),
    "window_size": 5,
    "prompt_embed_dim": 48,
    "decoder_mlp_dim": 64,
    "decoder_num_heads": 4,
    "iou_head_hidden_dim": 32,
}
FEW = SamMed3dSettings(rate=2e-3, share=1.0, steps=1000, batch=2, rounds=4, without_click=(2, 2), mirrored=False)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(**changes):
    torch.manual_seed(0)
    return networks.create("sam-med3d", {**SMALL, **changes})


def task(settings: SamMed3dSettings = FEW, of: Material | None = None) -> SamMed3dTask:
    return SamMed3dTask(network(), of or material(), settings)


def some(of: Material, settings: SamMed3dSettings = FEW, seed: int = 0) -> losses.Loss:
    (loss,) = task(settings, of).losses(np.random.default_rng(seed), torch.device("cpu"))
    return loss


class TestCubes:
    @pytest.mark.parametrize("case", ["A", "B", "C"])
    def test_the_cube_around_a_label_is_the_official_one(self, shared, case):
        golden = Golden3d(shared / "goldens" / "sam_med3d_pipeline.npz")
        array, labels = golden[f"{case}.volume_zyx"], golden[f"{case}.label_zyx"].astype(np.uint8)
        geometry = (golden[f"{case}.{name}"].tolist() for name in ("spacing_xyz", "origin_xyz", "direction"))
        image = Volume(array, Grid.from_itk(array.shape[::-1], *geometry))
        value = int(golden[f"{case}.category"])
        example = Example(case, case, image, labels, {value: "it"})
        found = cube_draws.target(example, value, Box.of_mask(labels == value), 128)
        assert np.array_equal(found.mask, golden[f"{case}.roi_label"].reshape(128, 128, 128) > 0)
        assert np.abs(cube_draws.samples(example, found.region, None) - golden[f"{case}.network_input"]).max() < 1e-5

    def test_ct_is_cut_where_it_is_known_to_be_ct(self):
        example = balls(0)
        array = np.array(example.image.array)
        array[0, 0, 0], array[13, 20, 22] = -2000, 3000
        cut = np.clip(array, -1000, 1000)

        def seen(values: np.ndarray, modality: str | None) -> np.ndarray:
            of = replace(example, image=Volume(values, example.image.grid, modality=modality))
            region = cube_draws.target(of, 1, Box.of_mask(of.labels == 1), 32).region
            return cube_draws.samples(of, region, (-1000, 1000))

        assert np.array_equal(seen(array, "CT"), seen(cut, None))
        assert np.array_equal(seen(array, "MR"), seen(array, None))
        assert not np.array_equal(seen(array, "CT"), seen(array, None))

    def test_mirrored_objects_stay_on_their_image(self):
        trained = task(replace(FEW, mirrored=True), Material((balls(0),), (), NAMES))
        random, masks = np.random.default_rng(0), set()
        for _ in range(60):
            cube, mask = trained._drawn(random, torch.device("cpu"))
            inside = cube.numpy()[0, 0][mask]
            assert len(inside) > 1000 and abs(inside.mean() - np.median(inside)) < 0.1  # all of one grey value
            assert inside.std() < 0.2 * cube.numpy().std()
            masks.add(mask.tobytes())
        assert 8 < len(masks) <= 16


class TestRounds:
    def test_clicks_are_on_what_is_wrong_and_say_so(self):
        wanted = np.zeros((2, 8, 8, 8), bool)
        wanted[:, 2:6, 2:6, 2:6] = True
        answers = np.stack([np.roll(wanted[0], 2, 2), wanted[1]])
        random, kinds = np.random.default_rng(0), set()
        for _ in range(60):
            points, labels = cube_draws.clicked(answers, wanted, random)
            first, second = (tuple(point[0].astype(int)) for point in points)
            assert answers[0][first] != wanted[0][first] and labels[0, 0] == wanted[0][first]
            assert wanted[1][second] and labels[1, 0] == 1
            kinds.add(float(labels[0, 0]))
        assert kinds == {0.0, 1.0}

    @pytest.mark.parametrize("all_clicks", [False, True])
    def test_which_rounds_are_told_what(self, all_clicks):
        told, mutes = [], set()
        trained = task(SamMed3dSettings(all_clicks=all_clicks))
        encode = trained.network.prompt_encoder.forward

        def listening(points=None, boxes=None, masks=None):
            told.append((points, masks))
            return encode(points, boxes, masks)

        trained.network.prompt_encoder.forward = listening
        features = torch.zeros(1, 48, 4, 4, 4)
        masks = ball((32, 32, 32), (16, 16, 16), 9)[None]
        for seed in range(8):
            told.clear()
            answers = list(trained.rounds(features, masks, np.random.default_rng(seed)))
            assert len(answers) == len(told) == 11 and answers[0].shape == (1, 1, 32, 32, 32)
            mute = [number for number, (points, _) in enumerate(told) if points is None]
            assert len(mute) == 2 and mute[1] == 10
            mutes.add(mute[0])
            assert not told[0][1].any() and all(masks.requires_grad for _, masks in told[1:])
            said = [points[0].shape[1] for points, _ in told if points is not None]
            counts = [number + 1 for number in range(11) if number not in mute]
            assert said == (counts if all_clicks else [1] * 9)
        assert mutes <= set(range(2, 9)) and len(mutes) > 3

    def test_losses_of_all_rounds_are_added(self):
        settings = replace(FEW, rounds=1)
        one, four = some(material(), settings), some(material())
        assert one.total.item() == pytest.approx(one.parts["first"]) == pytest.approx(four.parts["first"])
        assert four.total.item() > 3 * min(four.parts.values())

    def test_a_batch_and_as_many_accumulated_have_the_same_gradients(self):
        single = Material((replace(balls(0), names={1: "bright"}),), (), {1: "bright"})
        one, two = (replace(FEW, batch=batch, rounds=1) for batch in (1, 2))
        grads = []
        for settings in (one, two):
            trained = task(settings, single)
            fixed = [np.random.default_rng(3)] * 2
            trained.rounds = lambda features, masks, random, real=trained.rounds: real(features, masks, _Middle())
            for random in fixed[: 2 // settings.batch]:
                (loss,) = trained.losses(random, torch.device("cpu"))
                (loss.total * settings.batch / 2).backward()
            grads.append({n: p.grad for n, p in trained.network.named_parameters() if p.grad is not None})
        assert grads[0].keys() == grads[1].keys()
        assert all(torch.allclose(grads[0][name], grads[1][name], atol=1e-5) for name in grads[0])

    def test_the_loss_is_that_of_monai(self):
        monai = pytest.importorskip("monai.losses")
        random = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 1, 6, 7, 8, generator=random)
        masks = (torch.rand(2, 1, 6, 7, 8, generator=random) > 0.7).float()
        expected = monai.DiceCELoss(sigmoid=True, squared_pred=True, reduction="mean")(logits, masks)
        assert losses.box_masks(logits, masks).total.item() == pytest.approx(expected.item(), abs=1e-6)


class _Middle(np.random.Generator):
    """Draws the middle one of whatever there is."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def integers(self, low, high=None):
        return (low if high is None else low + high) // 2


class TestLearning:
    @pytest.mark.parametrize("learn", ["all", "decoder"])
    def test_what_learns_gets_gradients_and_nothing_else(self, learn):
        trained = task(replace(FEW, learns=learn))
        with torch.no_grad():  # zeros at first, which would hide that gradients reach what is before them
            for parameter in trained.network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            trained.network.mask_decoder.output_hypernetworks_mlps[0].layers[-1].weight.mul_(100)  # something leaks
        for seed in range(2):
            (loss,) = trained.losses(np.random.default_rng(seed), torch.device("cpu"))
            loss.total.backward()
        reached = {n for n, p in trained.network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        marked = {name for name, parameter in trained.network.named_parameters() if parameter.requires_grad}
        assert reached == marked
        assert any(name.startswith("image_encoder.") for name in marked) == (learn == "all")
        left = {name for name, _ in trained.network.named_parameters()} - marked
        beside = {name for name in left if not name.startswith("image_encoder.")}
        assert {name.split(".layers")[0] for name in beside} == {
            "prompt_encoder.no_mask_embed.weight",
            "mask_decoder.iou_prediction_head",
            *(f"mask_decoder.output_hypernetworks_mlps.{number}" for number in (1, 2, 3)),
        }

    def test_of_the_published_network(self):
        with torch.device("meta"):
            published = networks.create("sam-med3d")
        mark(published)
        whole = sum(p.numel() for p in published.parameters() if p.requires_grad)
        mark(published, "decoder")
        part = sum(p.numel() for p in published.parameters() if p.requires_grad)
        assert 99e6 < whole < 100.6e6 and 5e6 < part < 12e6

    def test_rates(self):
        trained = task(SamMed3dSettings(steps=200))
        assert [trained.rate(step) for step in (0, 119, 120, 179, 180)] == pytest.approx(
            [8e-5] * 2 + [8e-6] * 2 + [8e-7]
        )
        encoder, rest = trained.optimizer().param_groups
        assert "share" not in encoder and rest["share"] == 0.1 and rest["weight_decay"] == 0.1
        assert stepped(5, 1.0, 10, falls=()) == 1.0

    def test_it_learns_and_the_rest_stays(self, tmp_path):
        trained = task(replace(FEW, rate=5e-3, rounds=2, without_click=(1, 1)))
        before = {name: value.clone() for name, value in trained.network.state_dict().items()}
        standing = fit(trained, Run(tmp_path, 20, measure_every=10, clip=1.0, accelerator="cpu"))
        assert standing.best > 0.6, standing.curve
        assert set(standing.curve[-1]) == {"step", "loss", "score", *NAMES.values()}
        now = trained.network.state_dict()
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        assert changed == {name for name, parameter in trained.network.named_parameters() if parameter.requires_grad}

    @pytest.mark.parametrize("learn", ["all", "decoder"])
    def test_runs_of_a_seed_are_the_same_and_a_stopped_one_goes_on(self, tmp_path, learn):
        settings = replace(FEW, learns=learn, batch=1, rounds=3, mirrored=True)
        run = Run(tmp_path, 4, seed=5, measure_every=2, accumulate=2, accelerator="cpu")
        check_runs_are_alike(lambda: task(settings), run)

    def test_what_the_encoder_says_is_computed_once_and_within_the_memory_given(self):
        plenty, little = (task(replace(FEW, learns="decoder", kept=kept)) for kept in (1 << 20, 40_000))
        calls = []
        for trained in (plenty, little):
            encoder = trained._encoder(torch.device("cpu"))
            encode = encoder.forward
            encoder.forward = lambda image, encode=encode, of=trained: calls.append(of) or encode(image)
        for seed in range(12):
            losses_of = [
                next(of.losses(np.random.default_rng(seed), torch.device("cpu"))).total.item()
                for of in (plenty, little)
            ]
            assert losses_of[0] == losses_of[1]
        assert calls.count(plenty) == 4 < calls.count(little)
        assert little._kept.nbytes <= 40_000 < plenty._kept.nbytes

    def test_without_anything_held_out_it_is_measured_on_what_it_learns_from(self):
        trained = task(of=Material(material().train, (), NAMES))
        measures = trained.measure(torch.device("cpu"))
        assert set(measures) == {"score", "bright", "dark"}
        assert measures["score"] == pytest.approx((measures["bright"] + measures["dark"]) / 2)
        assert measures == trained.measure(torch.device("cpu"))

    @pytest.mark.full
    def test_it_learns_organs_of_a_ct_from_random_weights(self, shared, tmp_path):
        """Kidneys: they fit into the small cube of 96 mm. Of a liver, no answer there can reach more than 0.66."""
        folder = shared / "data" / "3d_ct_torso_multiorgan"
        image, labels = (read_volume(folder / f"{name}.nii.gz") for name in ("image", "labels"))
        example = Example("ct", "one", image, labels.array.astype(np.uint8), {2: "right kidney", 3: "left kidney"})
        settings = replace(FEW, batch=2, learns="all", clicks=3)
        trained = SamMed3dTask(network(img_size=64, window_size=9), Material((example,), (), example.names), settings)
        standing = fit(trained, Run(tmp_path, 150, measure_every=50, clip=1.0, accelerator="cpu"))
        assert standing.best > 0.75, standing.curve


class TestMaterialThatDoesNotFit:
    def test_flat_images(self):
        flat = Example("x-ray", "one", Volume.from_array(np.eye(40)), np.eye(40, dtype=np.uint8), {1: "line"})
        with pytest.raises(InputError, match=r"SAM-Med3D learns from volumes, but x-ray is a flat image of \(40, 40\)"):
            task(of=Material((balls(0), flat), (), {1: "line"}))

    def test_labels_beside_their_image(self):
        wrong = replace(balls(0), labels=np.zeros((3, 4, 5), np.uint8))
        with pytest.raises(InputError, match=r"labels of case 0 have the shape \(3, 4, 5\), its image has"):
            task(of=Material((wrong,), (), NAMES))

    def test_objects_that_are_too_small(self):
        labels = np.zeros((26, 40, 44), np.uint8)
        labels[5:9, 5:9, 5:9] = 1
        small = replace(balls(0), labels=labels)
        with pytest.raises(InputError, match=r"bright of case 0: 80 samples of 1\.5 mm are not more than 1000"):
            task(of=Material((small,), (), NAMES))
        trained = task(of=Material((small, balls(1)), (), NAMES))
        drawn = [trained._objects.draw(np.random.default_rng(seed))[0].name for seed in range(20)]
        assert set(drawn) == {"case 1"}

    def test_settings(self):
        with pytest.raises(InputError, match='one of all, decoder, not "encoder"'):
            task(replace(FEW, learns="encoder"))
        with pytest.raises(InputError, match="rounds is at least 1, not 0"):
            task(replace(FEW, rounds=0))

    def test_an_image_without_contrast_is_named(self):
        empty = replace(balls(0), image=Volume(np.zeros((26, 40, 44), np.int16), balls(0).image.grid))
        with pytest.raises(InputError, match="case 0: The image has the same value"):
            some(Material((empty,), (), NAMES))
