"""SAM-Med2D: the official numbers through the model, small images, mask prompts of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed import networks
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, Embedding, Logits
from napari_sammed.models.refining import sigmoid
from napari_sammed.models.sam_med2d import SAMMed2D, resize_nearest
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests.golden import Golden, fill

AS_IS = Window.preset("as-is")
TINY = 1e-5
FULL = 2e-4
PRED = ["pred_point", "pred_posneg", "pred_box", "pred_point_box"]


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance)


def clicks(golden: Golden, case: str) -> list[Point]:
    """Points of a golden case, x and y, as those of a user."""
    coords, labels = golden[f"in.{case}.point_coords"], golden[f"in.{case}.point_labels"]
    return [Point((y, x), bool(label)) for (x, y), label in zip(coords.tolist(), labels, strict=True)]


def scaled(golden: Golden, case: str, model: SAMMed2D, embedding: Embedding) -> dict[str, np.ndarray]:
    """Points and box of a case in the frame, checked; golden boxes may have fractions, which `Box` has not."""
    frame = model.frame(embedding.region)
    asked = {}
    if f"in.{case}.point_coords" in golden:
        asked["points"] = frame.points(golden[f"in.{case}.point_coords"][:, ::-1])
        asked["labels"] = golden[f"in.{case}.point_labels"]
        assert close(asked["points"], golden[f"out.{case}.coords_in_frame"], 1e-12)
    if f"in.{case}.box" in golden:
        asked["boxes"] = frame.points(golden[f"in.{case}.box"].reshape(2, 2)[:, ::-1]).reshape(1, 4)
        assert close(asked["boxes"], golden[f"out.{case}.box_in_frame"], 1e-12)
    return asked


def encoded(model: SAMMed2D, image: Volume) -> Embedding:
    return model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_med2d_tiny.npz")


@pytest.fixture(scope="module")
def model(golden) -> SAMMed2D:
    return SAMMed2D(fill(networks.create("sam-med2d", golden.meta["config"])))


@pytest.fixture(scope="module")
def predictor(golden) -> SAMMed2D:
    """The same with the steps of the official predictor."""
    return SAMMed2D(fill(networks.create("sam-med2d", golden.meta["config"])), as_trained=False)


@pytest.fixture(scope="module")
def image(golden) -> Volume:
    return Volume.from_array(golden["in.image_gray"])


@pytest.fixture(scope="module")
def embedding(model, image) -> Embedding:
    return encoded(model, image)


class TestGolden:
    def test_sam_med2d_tiny_input(self, golden, model, image):
        frame = model.frame(model.plan(image.grid, Prompts(), None))
        assert close(model.network_input(image.array, frame)[None], golden["out.pre.input"], 1e-6)

    def test_sam_med2d_tiny_embedding(self, golden, embedding):
        assert close(embedding.features.numpy(), golden["out.image_embedding"], TINY)

    @pytest.mark.parametrize("case", PRED)
    @pytest.mark.parametrize("readings", ["multi", "single"])
    def test_sam_med2d_tiny(self, golden, model, embedding, case, readings):
        asked = scaled(golden, case, model, embedding)
        masks, iou = model.answer(embedding, **asked, multimask=readings == "multi")
        best = iou[0].argmax()
        assert close(masks[0, best], golden[f"out.{case}.low_res_{readings}"][0], TINY)
        assert iou[0, best] == pytest.approx(golden[f"out.{case}.iou_{readings}"].item(), abs=TINY)
        restored = model.restore(Logits(masks[0, best], embedding.region))
        assert close(restored, golden[f"out.{case}.masks_{readings}"][0], TINY)

    def test_sam_med2d_tiny_pred_refine(self, golden, model, embedding):
        first = model.decode(embedding, Prompts(tuple(clicks(golden, "pred_point"))), None)
        assert first.score == pytest.approx(golden["out.pred_point.iou_multi"].item(), abs=TINY)
        assert close(sigmoid(first.values), golden["in.pred_refine.mask_input"][0], TINY)
        answer = model.decode(embedding, Prompts(tuple(clicks(golden, "pred_posneg"))), first)
        assert close(answer.values, golden["out.pred_refine.low_res"][0], TINY)
        assert answer.score == pytest.approx(golden["out.pred_refine.iou"].item(), abs=TINY)
        mask = model.restore(answer)
        assert close(mask, golden["out.pred_refine.masks"][0], TINY)
        assert np.array_equal(mask > 0, golden["out.pred_refine.binary"][0] > 0)

    def test_sam_med2d_tiny_pred_point_box_of_a_user(self, golden, model, embedding):
        x0, y0, x1, y1 = golden["in.pred_point_box.box"].tolist()  # the second corner is one past the last pixel
        prompts = Prompts((*clicks(golden, "pred_point_box"), Box((y0, x0), (y1, x1))))
        answer = model.decode(embedding, prompts, None)
        assert close(model.restore(answer), golden["out.pred_point_box.masks_multi"][0], TINY)

    def test_sam_med2d_tiny_pred_two_boxes(self, golden, model, embedding):
        corners = golden["in.pred_two_boxes.boxes"].reshape(-1, 2)[:, ::-1]
        corners = model.frame(embedding.region).points(corners).reshape(-1, 4)
        masks, iou = model.answer(embedding, boxes=corners, multimask=True)
        for box, best in enumerate(iou.argmax(axis=1)):
            restored = model.restore(Logits(masks[box, best], embedding.region))
            assert close(restored, golden["out.pred_two_boxes.masks"][box, 0], TINY)
        assert iou[1].max() == pytest.approx(golden["out.pred_two_boxes.iou_last"].item(), abs=TINY)

    def test_sam_med2d_tiny_colour_of_the_predictor(self, golden, predictor):
        image = Volume.from_array(golden["in.colour_image"])
        frame = predictor.frame(predictor.plan(image.grid, Prompts(), None))
        values = predictor.network_input(image.array, frame)
        assert close(values[None, :, ::2, ::2], golden["out.colour.input_sub"], 1e-6)
        assert close(encoded(predictor, image).features.numpy(), golden["out.colour.image_embedding"], TINY)

    @pytest.mark.parametrize("case", ["eval_small", "eval_mixed"])
    def test_sam_med2d_tiny_evaluation(self, golden, model, case):
        """Padding, resizing and back as in the official evaluation, which reads colours in reverse."""
        image = Volume.from_array(golden[f"in.{case}.image"][..., ::-1])
        region = model.plan(image.grid, Prompts(), None)
        frame = model.frame(region)
        assert close(model.network_input(image.array, frame), golden[f"out.{case}.input"], 1e-6)
        label = np.zeros((frame.side, frame.side), np.uint8)
        label[frame.slices] = resize_nearest(golden[f"in.{case}.label"], frame.shape)
        assert np.array_equal(label, golden[f"out.{case}.label"])
        restored = model.restore(Logits(golden[f"in.{case}.low_res"][0, 0], region))
        assert close(restored, golden[f"out.{case}.masks"][0, 0], TINY)
        if golden[f"out.{case}.pad"][0] >= 0:
            assert frame.offset == tuple(golden[f"out.{case}.pad"])


@pytest.fixture(scope="module")
def vit_b(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_med2d_vit_b.npz")


@pytest.fixture(scope="module")
def large() -> SAMMed2D:
    return SAMMed2D(fill(networks.create("sam-med2d")))


@pytest.fixture(scope="module")
def large_embedding(large, vit_b) -> Embedding:
    return encoded(large, Volume.from_array(vit_b["in.image_gray"]))


@pytest.mark.full
class TestFullSize:
    def test_sam_med2d_vit_b_embedding(self, vit_b, large_embedding):
        assert close(large_embedding.features.numpy()[:, ::4, ::2, ::2], vit_b["out.image_embedding_sub"], FULL)

    @pytest.mark.parametrize("case", PRED)
    @pytest.mark.parametrize("readings", ["multi", "single"])
    def test_sam_med2d_vit_b(self, vit_b, large, large_embedding, case, readings):
        asked = scaled(vit_b, case, large, large_embedding)
        masks, iou = large.answer(large_embedding, **asked, multimask=readings == "multi")
        best = iou[0].argmax()
        assert close(masks[0, best, ::2, ::2], vit_b[f"out.{case}.low_res_{readings}"][0], FULL)
        assert iou[0, best] == pytest.approx(vit_b[f"out.{case}.iou_{readings}"].item(), abs=FULL)
        restored = large.restore(Logits(masks[0, best], large_embedding.region))
        assert close(restored[::8, ::8], vit_b[f"out.{case}.masks_{readings}"][0], FULL)

    def test_sam_med2d_vit_b_pred_refine(self, vit_b, large, large_embedding):
        first = large.decode(large_embedding, Prompts(tuple(clicks(vit_b, "pred_point"))), None)
        answer = large.decode(large_embedding, Prompts(tuple(clicks(vit_b, "pred_posneg"))), first)
        assert close(large.restore(answer)[::8, ::8], vit_b["out.pred_refine.masks"][0], FULL)
        assert answer.score == pytest.approx(vit_b["out.pred_refine.iou"].item(), abs=FULL)

    def test_sam_med2d_vit_b_pred_two_boxes(self, vit_b, large, large_embedding):
        corners = vit_b["in.pred_two_boxes.boxes"].reshape(-1, 2)[:, ::-1]
        corners = large.frame(large_embedding.region).points(corners).reshape(-1, 4)
        masks, iou = large.answer(large_embedding, boxes=corners, multimask=True)
        for box, best in enumerate(iou.argmax(axis=1)):
            restored = large.restore(Logits(masks[box, best], large_embedding.region))
            assert close(restored[::8, ::8], vit_b["out.pred_two_boxes.masks"][box, 0], FULL)

    def test_sam_med2d_vit_b_noadapter(self, vit_b):
        model = SAMMed2D(fill(networks.create("sam-med2d", {"adapter": False})))
        features = encoded(model, Volume.from_array(vit_b["in.image_gray"])).features
        assert close(features.numpy()[:, ::4, ::2, ::2], vit_b["out.noadapter.image_embedding_sub"], FULL)


class TestPrompts:
    def test_is_a_box_model(self, model):
        assert isinstance(model, BoxModel)
        assert model.card.name == "sam-med2d"

    @pytest.mark.parametrize("prompts", [(Point((40, 50)),), (Box((20, 30), (70, 90)),)], ids=["point", "box"])
    def test_always_three_readings_best_first(self, model, embedding, prompts):
        answer = model.decode(embedding, Prompts(prompts), None)
        scores = [answer.score, *(other.score for other in answer.alternatives)]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)

    def test_boxes_in_one_pass_equal_each_alone(self, model, embedding):
        boxes = [Box((20 + k, 30), (70, 90 + k)) for k in range(20)]  # more than one internal batch
        for box, answer in zip(boxes, model.decode_boxes(embedding, boxes), strict=True):
            alone = model.decode(embedding, Prompts((box,)), None)
            assert close(answer.values, alone.values, TINY)
            assert answer.score == pytest.approx(alone.score, abs=TINY)

    def test_mask_prompt_is_a_probability_and_goes_alone(self, model, embedding):
        frame = model.frame(embedding.region)
        mask = MaskPrompt(np.ones((50, 60), bool), (20, 30))
        values = frame.coverage([mask], 32).clip(1e-3, 0.999)
        masks, iou = model.answer(embedding, mask=values, multimask=True)
        answer = model.decode(embedding, Prompts((mask,)), None)
        assert close(answer.values, masks[0, iou[0].argmax()], TINY)


class TestFrames:
    def test_zoomed_in_parts_are_stretched(self, model):
        grid = Grid.plain((100, 120))
        assert model.plan(grid, Prompts(), None).grid.shape == (100, 120)
        assert model.plan(grid, Prompts(), Box((10, 10), (60, 60))).grid.shape == (128, 128)

    def test_small_slices_with_oblong_pixels_become_square(self, model):
        assert model.plan(Grid.plain((30, 90), (4.0, 1.0)), Prompts(), None).grid.shape == (120, 90)
        assert model.plan(Grid.plain((60, 90), (4.0, 1.0)), Prompts(), None).grid.shape == (128, 128)

    def test_colours_are_fed_as_in_training(self, model, predictor, golden):
        image = Volume.from_array(golden["in.colour_image"])
        within = image.grid.box
        region = Region.of_box(image.grid, within, (128, 128))
        reverse = Volume(image.array[..., ::-1], image.grid)
        assert model.embed(reverse, region, AS_IS).features.equal(predictor.embed(image, region, AS_IS).features)

    def test_mask_prompt_of_a_padded_slice_lies_in_the_middle(self, model):
        grid = Grid.plain((64, 64))
        frame = model.frame(model.plan(grid, Prompts(), None))
        coverage = frame.coverage([MaskPrompt(np.ones((64, 64), bool), (0, 0))], 32)
        assert Box.of_mask(coverage > 0) == Box((8, 8), (24, 24))
        assert coverage.max() == 1

    def test_coarse_is_the_slice_without_padding(self, model):
        image = Volume.from_array(np.random.default_rng(0).integers(0, 255, (64, 60), np.uint8))
        answer = model.decode(encoded(model, image), Prompts((Point((30, 30)),)), None)
        assert model.coarse(answer).shape == (16, 16)  # 60 columns at 34 touch 16 cells
        assert model.restore(answer).shape == (64, 60)


def test_nearest_pixels_are_those_of_opencv():
    """Where i * 186 / 256 is a whole number, OpenCV's two divisions fall just below it and take the pixel before."""
    line = np.arange(186)[None].repeat(256, 0)
    columns = resize_nearest(line, (256, 256))[0]
    plain = np.arange(256) * 186 // 256
    differs = np.flatnonzero(columns != plain)
    assert differs.size
    assert (columns[differs] == plain[differs] - 1).all()
    assert (differs * 186 % 256 == 0).all()
