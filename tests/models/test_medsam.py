"""MedSAM: the official numbers through the model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, Logits
from napari_sammed.models.medsam import MedSAM, stretch
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests.golden import Golden, fill, synth

AS_IS = Window.preset("as-is")
TINY = 1e-5
FULL = 2e-4


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance)


def boxes(golden: Golden) -> list[Box]:
    """The golden boxes, whose second corner is the last pixel, as a user's half-open ones."""
    return [Box((y0, x0), (y1 + 1, x1 + 1)) for x0, y0, x1, y1 in golden["in.boxes"].tolist()]


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "medsam_tiny.npz")


@pytest.fixture(scope="module")
def model(golden) -> MedSAM:
    return MedSAM(fill(networks.create("medsam", golden.meta["config"])))


@pytest.fixture(scope="module")
def image(golden) -> Volume:
    return Volume.from_array(golden["in.image_gray"])


@pytest.fixture(scope="module")
def embedding(model, image):
    return model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)


@pytest.fixture(scope="module")
def file(shared) -> Golden:
    return Golden(shared / "goldens" / "medsam_preprocess.npz")


class TestPreprocessing:
    """medsam_preprocess: what comes before the stretch is a window of ours, see `napari_sammed.intensity`."""

    @pytest.mark.parametrize(
        ("case", "window"), [("L40W400", Window.preset("soft-tissue")), ("L-600W1500", Window.preset("lung"))]
    )
    def test_medsam_preprocess_ct(self, file, case, window):
        volume = Volume.from_array(file["in.ct.volume"], rgb=False)
        low, high = window.limits(volume)  # the official limits are those of the clipped voxels
        limits = max(low, volume.extremes[0]), min(high, volume.extremes[1])
        assert np.array_equal(window.apply(volume.array, limits), file[f"out.ct.{case}"])

    def test_medsam_preprocess_mr(self, file):
        volume = Volume.from_array(file["in.mr.volume"], rgb=False)
        window = Window.preset("percentiles")
        low, high = window.limits(volume)
        limits = max(low, volume.extremes[0]), min(high, volume.extremes[1])
        assert np.array_equal(window.apply(volume.array, limits), file["out.mr"])

    @pytest.mark.parametrize("case", ["rgb8", "rgba8"])
    def test_medsam_preprocess_colour(self, file, case):
        image = Volume.from_array(file[f"in.{case}.image"][..., :3], rgb=True)
        assert np.array_equal(AS_IS.apply(image.array, AS_IS.limits(image)), file[f"out.{case}"])

    def test_medsam_preprocess_resize(self, file):
        stretched = stretch(file["out.ct.L40W400"][2], (48, 48))
        assert np.array_equal(stretched, file["out.resize.infer_default"].astype(np.uint8))


class TestGolden:
    def test_medsam_tiny_input(self, golden, model, image):
        stretched = stretch(image.array, (model.side, model.side))
        assert np.array_equal(np.repeat(stretched[..., None], 3, axis=2), golden["out.pre.resized_uint8"])
        frame = model.frame(model.plan(image.grid, Prompts(), None))
        assert close(model.network_input(image.array, frame)[None], golden["out.pre.input"], 1e-7)

    def test_medsam_tiny_embedding(self, golden, embedding):
        assert close(embedding.features.numpy(), golden["out.image_embedding"], TINY)

    def test_medsam_tiny_colour(self, golden, model):
        image = Volume.from_array(synth(*golden["in.colour_image_hw_variant"].tolist()))
        assert np.array_equal(stretch(image.array, (128, 128)), golden["out.colour.resized_uint8"])
        features = model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS).features
        assert close(features.numpy(), golden["out.colour.image_embedding"], TINY)

    @pytest.mark.parametrize("case", [0, 1], ids=["box0", "box1"])
    def test_medsam_tiny(self, golden, model, embedding, case):
        box = boxes(golden)[case]
        corners = model.frame(embedding.region).corners([box], last=1)
        assert close(corners, golden[f"out.box{case}.box_in_frame"], 1e-12)
        answer = model.decode(embedding, Prompts((box,)), None)
        assert close(answer.values, golden[f"out.box{case}.low_res"][0, 0], TINY)
        assert answer.score == pytest.approx(max(golden[f"out.box{case}.iou"].item(), 0), abs=TINY)
        restored = model.restore(answer)
        assert close(expit(restored), golden[f"out.box{case}.prob"][0, 0], 1e-6)
        assert np.array_equal(restored > 0, golden[f"out.box{case}.seg"].astype(bool))


@pytest.fixture(scope="module")
def vit_b(shared) -> Golden:
    return Golden(shared / "goldens" / "medsam_vit_b.npz")


@pytest.fixture(scope="module")
def large() -> MedSAM:
    return MedSAM(fill(networks.create("medsam")))


@pytest.fixture(scope="module")
def large_embedding(large, vit_b):
    image = Volume.from_array(vit_b["in.image_gray"])
    return large.embed(image, large.plan(image.grid, Prompts(), None), AS_IS)


@pytest.mark.full
class TestFullSize:
    def test_medsam_vit_b_embedding(self, vit_b, large_embedding):
        stretched = stretch(vit_b["in.image_gray"], (1024, 1024))
        assert np.array_equal(stretched[::8, ::8], vit_b["out.pre.resized_uint8_sub"])
        assert close(large_embedding.features.numpy()[:, ::4, ::4, ::4], vit_b["out.image_embedding_sub"], FULL)

    @pytest.mark.parametrize("case", [0, 1], ids=["box0", "box1"])
    def test_medsam_vit_b(self, vit_b, large, large_embedding, case):
        answer = large.decode(large_embedding, Prompts((boxes(vit_b)[case],)), None)
        assert close(answer.values[::4, ::4], vit_b[f"out.box{case}.low_res_sub"][0, 0], FULL)
        restored = large.restore(answer)
        assert close(expit(restored)[::8, ::8], vit_b[f"out.box{case}.prob_sub"][0, 0], FULL)
        expected = np.unpackbits(vit_b[f"out.box{case}.seg_packed"], count=restored.size).astype(bool)
        differs = (restored > 0) != expected.reshape(restored.shape)
        assert np.abs(restored[differs]).max(initial=0) < 1e-5  # on the fence


class TestBoxes:
    def test_is_a_box_model(self, model):
        assert isinstance(model, BoxModel)
        assert model.card.name == "medsam"

    def test_batch_equals_single_and_parts_are_united(self, golden, model, embedding):
        together = model.decode_boxes(embedding, boxes(golden))
        for answer, box in zip(together, boxes(golden), strict=True):
            assert close(answer.values, model.decode(embedding, Prompts((box,)), None).values, TINY)
        united = model.decode(embedding, Prompts(tuple(boxes(golden))), None)
        assert close(united.values, np.maximum(*(answer.values for answer in together)), TINY)

    @pytest.mark.parametrize("prompt", [Point((40, 50)), MaskPrompt(np.ones((9, 9), bool), (40, 50))])
    def test_refuses_what_it_was_not_trained_on(self, model, embedding, prompt):
        with pytest.raises(InputError, match="it knows a box"):
            model.decode(embedding, Prompts((prompt,)), None)

    def test_probabilities_are_resized_not_logits(self, model):
        """One sure pixel beside unsure ones: of probabilities its mask is smaller than of logits."""
        grid = Grid.plain((128, 128))
        values = np.full((32, 32), -1.0, np.float32)
        values[8, 8] = 20.0
        mask = model.restore(Logits(values, Region.of_box(grid, grid.box, (128, 128)))) > 0
        assert Box.of_mask(mask).shape == (6, 6)  # of logits it would be 8 x 8

    def test_sure_logits_stay_finite(self, model):
        grid = Grid.plain((40, 50))
        values = np.full((32, 32), 90.0, np.float32)
        restored = model.restore(Logits(values, Region.of_box(grid, grid.box, (128, 128))))
        assert np.isfinite(restored).all()

    def test_pixels_in_mm_do_not_matter(self, model, image):
        oblong = Volume(image.array, Grid.plain(image.grid.shape, (3.0, 1.0)))
        a, b = (model.embed(v, model.plan(v.grid, Prompts(), None), AS_IS).features for v in (image, oblong))
        assert a.equal(b)


def test_stretch_keeps_flat_areas_flat():
    """Splines of constants must not fall below them by rounding, which truncation would make a grey level."""
    image = np.zeros((37, 53), np.uint8)
    image[5:30, 10:40] = 200
    assert {0, 200} <= set(np.unique(stretch(image, (128, 128))).tolist())
    assert (stretch(np.full((37, 53), 77, np.uint8), (128, 128)) == 77).all()
