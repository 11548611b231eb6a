"""SAM: the official numbers through the model, prompts of every kind, slices of every orientation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sammed import networks
from napari_sammed.backend.encoding import BatchModel
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, Logits
from napari_sammed.models.frames import Frame
from napari_sammed.models.planes import fitted_shape, plane_of
from napari_sammed.models.sam import SAM, resize_bilinear
from napari_sammed.models.stability import stability_score
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests.golden import Golden, fill, smooth_logits, synth

AS_IS = Window.preset("as-is")
TINY = 1e-5
FULL = 2e-4


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.abs(a - b).max() <= tolerance)


def clicks(golden: Golden, case: str) -> list[Point]:
    """Points of a golden case, x and y, as those of a user."""
    coords, labels = golden[f"in.{case}.point_coords"], golden[f"in.{case}.point_labels"]
    return [Point((y, x), bool(label)) for (x, y), label in zip(coords.tolist(), labels, strict=True)]


def whole_box(golden: Golden, case: str) -> Box:
    """A golden box of whole pixels as the half-open box of a user."""
    x0, y0, x1, y1 = golden[f"in.{case}.box"].astype(int).tolist()
    return Box((y0, x0), (y1 + 1, x1 + 1))


def scaled(golden: Golden, case: str, frame: Frame) -> dict[str, np.ndarray | None]:
    """Points and box of a case in the frame; boxes of the golden files may have fractions, which `Box` has not."""
    asked: dict[str, np.ndarray | None] = {}
    if f"in.{case}.point_coords" in golden:
        asked["points"] = frame.points(golden[f"in.{case}.point_coords"][:, ::-1])
        asked["labels"] = golden[f"in.{case}.point_labels"]
    if f"in.{case}.box" in golden:
        asked["boxes"] = frame.points(golden[f"in.{case}.box"].reshape(2, 2)[:, ::-1]).reshape(1, 4)
    return asked


def upscaled(model: SAM, values: np.ndarray, region: Region) -> np.ndarray:
    return np.stack([model.restore(Logits(reading, region)) for reading in values])


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_tiny.npz")


@pytest.fixture(scope="module")
def model(golden) -> SAM:
    return SAM(fill(networks.create("sam-vit-b", golden.meta["config"])))


@pytest.fixture(scope="module")
def image(golden) -> Volume:
    return Volume.from_array(golden["in.image"])


@pytest.fixture(scope="module")
def embedding(model, image):
    return model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)


@pytest.mark.parametrize("case", range(5), ids=lambda case: f"sam_preprocess-{case}")
class TestPreprocessing:
    @pytest.fixture
    def file(self, shared) -> Golden:
        return Golden(shared / "goldens" / "sam_preprocess.npz")

    def test_resized_image_is_exact(self, file, case):
        image = Volume.from_array(file[f"in.{case}.image"], rgb=True)
        plane = plane_of(image.grid, image.grid.box)
        shape = fitted_shape(plane, int(file[f"in.{case}.long_side"]))
        assert np.array_equal(resize_bilinear(image.array, shape), file[f"out.{case}.resized"])
        assert fitted_shape(plane, 1024) == tuple(file[f"out.{case}.shape_1024"])

    def test_points_and_boxes_in_the_frame(self, file, case):
        grid = Grid.plain(file[f"in.{case}.image"].shape[:2])
        side = int(file[f"in.{case}.long_side"])
        shape = fitted_shape(plane_of(grid, grid.box), side)
        frame = Frame.of(Region.of_box(grid, grid.box, shape), side)
        assert close(frame.points(file[f"in.{case}.coords"][:, ::-1]), file[f"out.{case}.coords"], 1e-12)
        (x0, y0, x1, y1), _ = file[f"in.{case}.boxes"].tolist()
        corners = frame.corners([Box((y0, x0), (y1 + 1, x1 + 1))], last=1)
        assert close(corners[0], file[f"out.{case}.boxes"][0], 1e-12)


def test_stability_as_in_the_golden_file(shared):
    """sam_preprocess-amg: the score of two masks; the third has no logit above -1, where the official code fails."""
    file = Golden(shared / "goldens" / "sam_preprocess.npz")
    scores = [stability_score(logits) for logits in file["in.amg.logits"]]
    assert scores[:2] == pytest.approx(file["out.amg.stability"].tolist(), abs=1e-6)
    assert stability_score(np.full((3, 3), -9.0)) == 0


class TestGolden:
    def test_sam_tiny_input(self, golden, model, image):
        frame = model.frame(model.plan(image.grid, Prompts(), None))
        assert close(model.network_input(image.array, frame)[None], golden["out.pre.input"], 1e-6)

    def test_sam_tiny_embedding(self, golden, embedding):
        assert close(embedding.features.numpy(), golden["out.image_embedding"], TINY)

    @pytest.mark.parametrize("case", ["pred_point", "pred_posneg", "pred_box", "pred_point_box"])
    def test_sam_tiny_three_readings(self, golden, model, embedding, case):
        asked = scaled(golden, case, model.frame(embedding.region))
        if "points" in asked:
            assert close(asked["points"], golden[f"out.{case}.coords_in_frame"], 1e-12)
        if "boxes" in asked:
            assert close(asked["boxes"], golden[f"out.{case}.box_in_frame"], 1e-12)
        masks, iou = model.answer(embedding, **asked, multimask=True)
        assert close(masks[0], golden[f"out.{case}.low_res"], TINY)
        assert close(iou[0], golden[f"out.{case}.iou"], TINY)
        assert close(upscaled(model, masks[0], embedding.region), golden[f"out.{case}.masks"], TINY)

    def test_sam_tiny_pred_point_best_first(self, golden, model, embedding):
        answer = model.decode(embedding, Prompts(tuple(clicks(golden, "pred_point"))), None)
        order = np.argsort(-golden["out.pred_point.iou"])
        readings = (answer, *answer.alternatives)
        assert [r.score for r in readings] == pytest.approx(golden["out.pred_point.iou"][order].clip(0, 1), abs=TINY)
        for reading, index in zip(readings, order, strict=True):
            assert close(model.restore(reading), golden["out.pred_point.masks"][index], TINY)

    def test_sam_tiny_pred_refine(self, golden, model, embedding):
        first = model.decode(embedding, Prompts(tuple(clicks(golden, "pred_point"))), None)
        assert close(first.values, golden["in.pred_refine.mask_input"][0], TINY)
        answer = model.decode(embedding, Prompts(tuple(clicks(golden, "pred_posneg"))), first)
        assert answer.alternatives == ()
        assert close(answer.values, golden["out.pred_refine.low_res"][0], TINY)
        mask = model.restore(answer)
        assert close(mask, golden["out.pred_refine.masks"][0], TINY)
        assert np.array_equal(mask > 0, golden["out.pred_refine.binary"][0])


@pytest.fixture(scope="module")
def vit_b(shared) -> Golden:
    return Golden(shared / "goldens" / "sam_vit_b.npz")


@pytest.fixture(scope="module")
def large() -> SAM:
    return SAM(fill(networks.create("sam-vit-b")))


@pytest.fixture(scope="module")
def encoded(large):
    image = Volume.from_array(synth(600, 800, 0))
    return large.embed(image, large.plan(image.grid, Prompts(), None), AS_IS)


@pytest.mark.full
class TestFullSize:
    CASES = ("point1", "points_posneg", "box", "points_box", "mask", "none")

    def test_sam_vit_b_embedding(self, vit_b, large, encoded):
        assert large.card.name == "sam-vit-b"
        assert close(encoded.features.numpy()[:, ::4, ::4, ::4], vit_b["out.image_embedding_sub"], FULL)

    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("readings", ["multi", "single"])
    def test_sam_vit_b(self, vit_b, large, encoded, case, readings):
        asked = scaled(vit_b, case, large.frame(encoded.region))
        if case == "mask":
            asked["mask"] = smooth_logits(1, 256, 256, 9)[0, 0].numpy()
        masks, iou = large.answer(encoded, **asked, multimask=readings == "multi")
        assert close(masks[0, :, ::4, ::4], vit_b[f"out.{case}.low_res_{readings}_sub"], FULL)
        assert close(iou[0], vit_b[f"out.{case}.iou_{readings}"], FULL)
        full = upscaled(large, masks[0], encoded.region)
        assert close(full[:, ::16, ::16], vit_b[f"out.{case}.masks_{readings}_sub"], FULL)

    def test_sam_vit_b_box_and_point_of_a_user(self, vit_b, large, encoded):
        box = large.decode(encoded, Prompts((whole_box(vit_b, "box"),)), None)
        assert close(large.restore(box)[::16, ::16], vit_b["out.box.masks_single_sub"][0], FULL)
        both = large.decode(encoded, Prompts((*clicks(vit_b, "points_box"), whole_box(vit_b, "points_box"))), None)
        assert close(both.values[::4, ::4], vit_b["out.points_box.low_res_single_sub"][0], FULL)
        three = large.decode(encoded, Prompts(tuple(clicks(vit_b, "points_posneg"))), None)
        assert close(three.values[::4, ::4], vit_b["out.points_posneg.low_res_single_sub"][0], FULL)


class TestPrompts:
    BOX = Box((20, 30), (70, 90))

    def test_is_a_box_model(self, model):
        assert isinstance(model, BoxModel)

    def test_the_card_is_that_of_the_width(self, model):
        assert model.card.name == "sam-vit-b"

    def test_only_one_click_alone_is_ambiguous(self, model, embedding):
        click = Point((40, 50))
        assert len(model.decode(embedding, Prompts((click,)), None).alternatives) == 2
        for prompts in ((click, Point((41, 50))), (click, self.BOX), (self.BOX,)):
            assert model.decode(embedding, Prompts(prompts), None).alternatives == ()
        first = model.decode(embedding, Prompts((click,)), None)
        assert model.decode(embedding, Prompts((click,)), first).alternatives == ()

    def test_any_reading_can_be_refined(self, model, embedding):
        first = model.decode(embedding, Prompts((Point((40, 50)),)), None)
        clicks = Prompts((Point((40, 50)), Point((60, 60), positive=False)))
        refined = [model.decode(embedding, clicks, r).values for r in (first, *first.alternatives)]
        assert not close(refined[0], refined[1], 1e-3)

    def test_batch_of_boxes_equals_single_ones(self, model, embedding):
        boxes = [self.BOX.shift((k, -k)) for k in range(18)]  # more than one internal batch
        together = model.decode_boxes(embedding, boxes)
        for index in (0, 15, 16, 17):
            alone = model.decode(embedding, Prompts((boxes[index],)), None)
            assert close(together[index].values, alone.values, 1e-5)
            assert together[index].score == pytest.approx(alone.score, abs=1e-5)

    def test_parts_of_one_object_are_united(self, model, embedding):
        parts = [self.BOX, Box((2, 2), (15, 20))]
        single = [logits.values for logits in model.decode_boxes(embedding, parts)]
        united = model.decode(embedding, Prompts(tuple(parts)), None)
        assert close(united.values, np.maximum(*single), 1e-5)

    def test_points_go_with_the_box_they_lie_in(self, model, embedding):
        parts = [self.BOX, Box((2, 2), (15, 20))]
        click = Point((30, 40), positive=False)
        corrected = model.decode(embedding, Prompts((parts[0], click)), None).values
        other = model.decode(embedding, Prompts((parts[1],)), None).values
        united = model.decode(embedding, Prompts((*parts, click)), None)
        assert close(united.values, np.maximum(corrected, other), 1e-5)

    def test_mask_prompt_alone_brings_its_box(self, model, embedding):
        mask = MaskPrompt(np.ones((50, 60), bool), (20, 30))
        alone = model.decode(embedding, Prompts((mask,)), None)
        with_box = model.decode(embedding, Prompts((mask, self.BOX)), None)
        assert close(alone.values, with_box.values, 1e-6)
        assert not close(alone.values, model.decode(embedding, Prompts((self.BOX,)), None).values, 1e-3)

    def test_mask_prompt_lies_where_it_was_drawn(self, model, embedding):
        """Covered cells of the quarter-size map say inside with a logit of 6.9, others, padding too, outside."""
        frame = model.frame(embedding.region)  # 90 x 120 becomes 96 x 128 of 128 x 128
        values = model.mask_input(frame.coverage([MaskPrompt(np.ones((45, 60), bool), (0, 60))], 32).clip(1e-3, 0.999))
        expected = np.full((32, 32), -6.9068)
        expected[:12, 16:] = 6.9068
        assert close(values, expected, 1e-3)

    def test_newest_mask_goes_before_the_earlier_answer(self, model, embedding):
        mask = MaskPrompt(np.ones((50, 60), bool), (20, 30))
        first = model.decode(embedding, Prompts((Point((5, 5)),)), None)
        prompts = Prompts((Point((5, 5)), mask))
        assert close(
            model.decode(embedding, prompts, first).values, model.decode(embedding, prompts, None).values, 1e-6
        )
        prompts = Prompts((mask, Point((5, 5))))
        refined = model.decode(embedding, prompts, first).values
        assert not close(refined, model.decode(embedding, prompts, None).values, 1e-3)

    def test_earlier_answer_about_another_region_is_left_out(self, model, embedding):
        other = Logits(np.ones((32, 32), np.float32), Region.of_box(embedding.image, Box((0, 0), (9, 9)), (9, 9)))
        prompts = Prompts((Point((40, 50)),))
        assert close(
            model.decode(embedding, prompts, other).values, model.decode(embedding, prompts, None).values, 1e-6
        )

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ((), "needs a prompt"),
            ((Point((40, 50), positive=False),), "inside the object is needed"),
            ((Point((90.6, 50)),), "outside the part"),
            ((Box((100, 0), (110, 9)),), "outside the part"),
        ],
        ids=["none", "negative only", "point outside", "box outside"],
    )
    def test_refuses_what_says_nothing(self, model, embedding, prompts, message):
        with pytest.raises(InputError, match=message):
            model.decode(embedding, Prompts(prompts), None)

    @pytest.mark.parametrize("labels", [[2], [1, 0], [0.5]], ids=["corner", "too many", "fraction"])
    def test_refuses_labels_that_the_network_would_ignore(self, model, embedding, labels):
        with pytest.raises(InputError, match="labels 1, 0 or -1"):
            model.answer(embedding, points=np.array([[3.0, 4.0]]), labels=np.array(labels), multimask=False)


class TestSlices:
    def test_slices_of_all_planes_give_the_flat_answer(self, model, image):
        grey = image.array[..., 0]
        flat = Volume.from_array(grey)
        region = model.plan(flat.grid, Prompts(), None)
        prompts = Prompts((Point((40, 50)), Box((20, 30), (70, 90))))
        expected = model.restore(model.decode(model.embed(flat, region, AS_IS), prompts, None))
        for axis in range(3):
            array = np.stack([np.zeros_like(grey), grey, np.full_like(grey, 255)], axis)
            volume = Volume.from_array(array, rgb=False)

            def at(index, value, axis=axis):
                return (*index[:axis], value, *index[axis:])

            asked = Prompts((Point(at((40, 50), 1.2)), Box(at((20, 30), 1), at((70, 90), 2))))
            region = model.plan(volume.grid, asked, None)
            answer = model.restore(model.decode(model.embed(volume, region, AS_IS), asked, None))
            assert answer.shape == region.box.shape
            assert np.array_equal(answer.squeeze(axis), expected)

    def test_many_slices_at_once_equal_each_alone(self, model, image):
        volume = Volume.from_array(np.stack([image.array[..., k] for k in range(3)]), rgb=False)
        regions = [model.plan(volume.grid, Prompts(), Box((k, 0, 0), (k + 1, 90, 120))) for k in (2, 0)]
        many = model.embed_many(volume, regions, AS_IS)
        assert isinstance(model, BatchModel)
        assert model.batch == 1  # on a processor
        for embedding, region in zip(many, regions, strict=True):
            alone = model.embed(volume, region, AS_IS)
            assert (embedding.region, embedding.nbytes) == (region, alone.nbytes)
            assert close(embedding.features.numpy(), alone.features.numpy(), TINY)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_keeps_half_the_memory(self, golden, embedding, image, dtype):
        half = SAM(fill(networks.create("sam-vit-b", golden.meta["config"])), dtype=dtype)
        kept = half.embed(image, embedding.region, AS_IS)
        assert kept.nbytes == embedding.nbytes // 2
        exact = embedding.features.numpy()
        assert np.abs(kept.features.float().numpy() - exact).mean() < 0.02 * np.abs(exact).mean()
        assert half.decode(kept, Prompts((Point((40, 50)),)), None).values.dtype == np.float32

    def test_mask_of_a_volume_counts_where_it_crosses_the_slice(self, model, image):
        grey = image.array[..., 0]
        volume = Volume.from_array(np.stack([grey] * 3), rgb=False)
        solid = np.zeros((3, 50, 60), bool)
        solid[0], solid[1, 10:40, 10:50] = True, True
        region = model.plan(volume.grid, Prompts(), Box((1, 0, 0), (2, 90, 120)))
        embedding = model.embed(volume, region, AS_IS)
        thick = model.decode(embedding, Prompts((MaskPrompt(solid, (0, 20, 30)),)), None)
        thin = model.decode(embedding, Prompts((MaskPrompt(solid[1:2], (1, 20, 30)),)), None)
        assert np.array_equal(thick.values, thin.values)
        with pytest.raises(InputError, match="outside the part"):
            model.decode(embedding, Prompts((MaskPrompt(solid[:1], (0, 20, 30)),)), None)

    def test_oblong_pixels_become_square(self, model):
        grid = Grid.plain((50, 40), (2.0, 1.0))  # 100 mm by 40 mm
        assert model.plan(grid, Prompts(), None).grid.shape == (128, 51)

    def test_zooming_in_fills_the_frame(self, model, image):
        within = Box((10, 20), (50, 60))
        region = model.plan(image.grid, Prompts(), within)
        assert (region.box, region.grid.shape) == (within, (128, 128))
        embedding = model.embed(image, region, AS_IS)
        assert model.restore(model.decode(embedding, Prompts((Point((30, 40)),)), None)).shape == (40, 40)

    def test_coarse_covers_the_slice(self, model, embedding):
        logits = model.decode(embedding, Prompts((Point((40, 50)),)), None)
        assert model.coarse(logits).shape == (24, 32)  # 96 x 128 of the frame, at a quarter

    def test_nan_in_the_part_is_refused(self, model):
        array = np.random.default_rng(0).random((60, 80)).astype(np.float32)
        array[3, 4] = np.nan
        image = Volume.from_array(array)
        with pytest.raises(InputError, match="NaN"):
            model.embed(image, model.plan(image.grid, Prompts(), None), Window.displayed(0, 1))
        elsewhere = model.plan(image.grid, Prompts(), Box((10, 10), (40, 40)))
        assert model.embed(image, elsewhere, Window.displayed(0, 1)).features.isfinite().all()

    def test_opacity_is_dropped(self, model, image):
        opaque = np.concatenate([image.array, np.full((90, 120, 1), 255, np.uint8)], axis=-1)
        with_opacity = Volume.from_array(opaque, rgb=True)
        region = model.plan(image.grid, Prompts(), None)
        a, b = (model.embed(v, region, AS_IS).features for v in (image, with_opacity))
        assert a.equal(b)
