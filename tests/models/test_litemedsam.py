"""LiteMedSAM: the official numbers, boxes and slices of every orientation, real images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel
from napari_sammed.models.litemedsam import LiteMedSAM, box_in_frame, frame_shape, to_frame
from napari_sammed.models.planes import plane_of
from napari_sammed.models.registry import load
from napari_sammed.models.resize import resize_area, resize_mask
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume, read_volume
from tests.golden import Golden, fill

AS_IS = Window.preset("as-is")


@pytest.fixture(scope="module")
def golden(shared) -> Golden:
    return Golden(shared / "goldens" / "lite_medsam.npz")


@pytest.fixture(scope="module")
def model() -> LiteMedSAM:
    """The published size with the weights of the golden files."""
    return LiteMedSAM(fill(networks.create("litemedsam")))


@pytest.fixture(scope="module")
def small() -> LiteMedSAM:
    """A network of the same make with few channels, for what does not depend on the numbers."""
    sizes = {"embed_dims": (8, 16, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2)}
    return LiteMedSAM(fill(networks.create("litemedsam", sizes)))


@pytest.fixture(scope="module")
def trained(weights) -> LiteMedSAM:
    return load("litemedsam", weights)


@pytest.fixture(scope="module")
def image(golden) -> Volume:
    return Volume.from_array(golden["in.image_gray"])


@pytest.fixture(scope="module")
def box(golden) -> Box:
    x0, y0, x1, y1 = map(int, golden["in.box"])
    return Box((y0, x0), (y1 + 1, x1 + 1))


@pytest.fixture(scope="module")
def embedding(model, image):
    return model.embed(image, model.plan(image.grid, Prompts(), None), AS_IS)


class TestGolden:
    def test_preprocessing_is_exact(self, golden, model, image):
        plane = plane_of(image.grid, image.grid.box)
        resized = resize_area(image.array, frame_shape(plane))
        assert np.array_equal(resized, golden["out.pre.resized_uint8"])
        assert np.array_equal(to_frame(resized)[None, :, ::4, ::4], golden["out.pre.input_sub"])

    def test_box_in_frame_is_exact(self, golden, image, box):
        assert box_in_frame(box, plane_of(image.grid, image.grid.box)) == tuple(golden["out.box_in_frame"])

    def test_embedding(self, golden, embedding):
        difference = embedding.features[:, ::4, ::4, ::4].numpy() - golden["out.image_embedding_sub"]
        assert np.abs(difference).max() < 2e-5

    def test_logits_score_and_mask(self, golden, model, embedding, box):
        logits = model.decode(embedding, Prompts((box,)), None)
        assert np.abs(logits.values[::4, ::4] - golden["out.low_res_sub"][0, 0]).max() < 2e-5
        assert logits.score == pytest.approx(float(golden["out.iou"][0, 0]), abs=1e-5)
        mask = model.restore(logits) > 0
        expected = np.unpackbits(golden["out.seg_packed"], count=mask.size).astype(bool)
        assert np.array_equal(mask.ravel(), expected)

    def test_box_of_the_next_slice_is_exact(self, golden, model, embedding, box):
        """The rule of the official 3D code: bounding box of the area-resized mask, 3 wider, clipped to 0 and 256."""
        logits = model.decode(embedding, Prompts((box,)), None)
        small = resize_mask(model.restore(logits) > 0, logits.region.grid.shape)
        tight = Box.of_mask(small)
        corners = [tight.low[1] - 3, tight.low[0] - 3, tight.high[1] - 1 + 3, tight.high[0] - 1 + 3]
        assert np.array_equal(np.clip(corners, 0, 256), golden["out.next_box"])


class TestBoxes:
    def test_batch_equals_single(self, model, embedding, box):
        boxes = [box.shift((k, -k)) for k in range(20)]  # more than one internal batch
        together = model.decode_boxes(embedding, boxes)
        for index in (0, 15, 16, 19):
            alone = model.decode_boxes(embedding, [boxes[index]])[0]
            assert np.abs(together[index].values - alone.values).max() < 1e-4
            assert together[index].score == pytest.approx(alone.score, abs=1e-5)

    def test_several_boxes_are_united(self, model, embedding, box):
        parts = [box, box.shift((20, 10))]
        united = model.decode(embedding, Prompts(tuple(parts)), None)
        single = model.decode_boxes(embedding, parts)
        assert np.allclose(united.values, np.maximum(single[0].values, single[1].values), atol=1e-4)

    def test_box_beyond_the_image_is_cut(self, model, embedding, image):
        rows, columns = image.grid.shape
        plane = plane_of(image.grid, image.grid.box)
        assert box_in_frame(Box((-9, -9), (rows + 9, columns + 9)), plane) == (0, 0, 255, 231)

    def test_needs_a_box_on_its_slice(self, model, embedding):
        with pytest.raises(InputError, match="needs a box"):
            model.decode(embedding, Prompts((Point((3.0, 4.0)),)), None)


class TestSlices:
    GRID = Grid.plain((20, 30, 40), (5.0, 1.0, 1.0))

    def test_is_a_box_model(self, model):
        assert isinstance(model, BoxModel)
        assert model.card.name == "litemedsam"

    @pytest.mark.parametrize(
        ("prompts", "expected"),
        [
            ([Point((7.4, 3, 3))], Box((7, 0, 0), (8, 30, 40))),
            ([Box((2, 9, 4), (12, 10, 30))], Box((0, 9, 0), (20, 10, 40))),
            ([Box((2, 4, 4), (12, 24, 30))], Box((6, 0, 0), (7, 30, 40))),
            ([MaskPrompt(np.ones((3, 4, 1), bool), (1, 2, 17))], Box((0, 0, 17), (20, 30, 18))),
            ([Box((2, 9, 4), (12, 10, 30)), Point((5, 8, 3))], Box((0, 8, 0), (20, 9, 40))),
        ],
        ids=["point", "flat box", "thick box", "mask", "box then point"],
    )
    def test_plan_chooses_the_slice_under_the_prompts(self, model, prompts, expected):
        assert model.plan(self.GRID, Prompts(tuple(prompts)), None).box == expected

    def test_plan_stays_within(self, model):
        within = Box((4, 2, 0), (5, 22, 35))
        region = model.plan(self.GRID, Prompts((Point((4, 3, 3)),)), within)
        assert region == Region.of_box(self.GRID, within, (1, 146, 256))

    def test_plan_makes_pixels_square(self, model):
        box = Box((0, 0, 7), (20, 30, 8))  # 100 mm by 30 mm
        assert model.plan(self.GRID, Prompts(), box).grid.shape == (256, 77, 1)

    def test_plan_outside_the_image_is_refused(self, model):
        with pytest.raises(InputError, match="outside"):
            model.plan(self.GRID, Prompts(), Box((30, 0, 0), (31, 5, 5)))

    def test_slices_of_all_planes_give_the_flat_answer(self, small, image, box):
        """A flat image, as a slice across each axis of a volume, gives the same mask there."""
        region = small.plan(image.grid, Prompts(), None)
        expected = small.restore(small.decode(small.embed(image, region, AS_IS), Prompts((box,)), None))
        for axis in range(3):
            array = np.stack([np.zeros_like(image.array), image.array, np.full_like(image.array, 255)], axis)
            volume = Volume.from_array(array, rgb=False)
            low, high = list(box.low), list(box.high)
            low.insert(axis, 1)
            high.insert(axis, 2)
            prompts = Prompts((Box(tuple(low), tuple(high)),))
            region = small.plan(volume.grid, prompts, None)
            answer = small.restore(small.decode(small.embed(volume, region, AS_IS), prompts, None))
            assert answer.shape == region.box.shape
            assert np.array_equal(answer.squeeze(axis), expected)


# Item, label, Dice of a tight box + 2 pixels: what the official network gives on area-resized images.
REAL = [
    ("2d_endoscopy_polyp_a", 1, 0.956),
    pytest.param("2d_ct_abdomen_amos", 3, 0.937, marks=pytest.mark.full),
    pytest.param("2d_us_nerve_vessel_b", 1, 0.915, marks=pytest.mark.full),
]


@pytest.mark.parametrize(("item", "label", "expected"), REAL)
def test_real_image_from_a_box(trained, shared, item, label, expected):
    folder = shared / "data" / item
    volume = read_volume(next(folder.glob("image.*")))
    reference = read_volume(folder / "labels.png").array == label
    prompts = Prompts((Box.of_mask(reference).grow(2),))
    region = trained.plan(volume.grid, prompts, None)
    mask = trained.restore(trained.decode(trained.embed(volume, region, Window.auto(volume)), prompts, None)) > 0
    dice = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
    assert dice > expected - 0.01  # JPEG decoders differ a little
