"""SAM-Med3D: the official pipeline's numbers, stage by stage, and cubes of volumes in every orientation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid
from napari_sammed.intensity import Window
from napari_sammed.models.base import BoxModel, Embedding, Logits, PromptableModel
from napari_sammed.models.cube_choice import SPACING
from napari_sammed.models.cubes import CubeRegion, canonical_lattice, centred_cube
from napari_sammed.models.resampling import covered, resample
from napari_sammed.models.sam_med3d import SAMMed3D, enlarged, network_input
from napari_sammed.prompts import MaskPrompt, Point, Prompt, Prompts, Stroke
from napari_sammed.volume import Volume, resample_labels
from tests.golden import fill
from tests.golden_3d import Golden3d
from tests.orientations import ALL_48, oblique_grids, reorient
from tests.parameters import few
from tests.tiny_models import tiny_config, tiny_model

SIDE = 128
CASES = ["A", "B", "C"]
ANY = Window.preset("as-is")
TO_RAS = np.diag([-1.0, -1, 1, 1])
FLOAT32 = 1e-5
UNCERTAIN = 1e-6  # logits whose sign is noise


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "sam_med3d_pipeline.npz")


@pytest.fixture(scope="module")
def model(golden) -> SAMMed3D:
    return SAMMed3D(fill(networks.create("sam-med3d", golden.config)))


@pytest.fixture(scope="module", params=CASES)
def case(request, golden) -> SimpleNamespace:
    """A case of the golden file as this package sees it: the image, and the cube around the label."""

    def stored(name: str) -> np.ndarray:
        return golden[f"{request.param}.{name}"]

    array = stored("volume_zyx")
    geometry = (stored(name).tolist() for name in ("spacing_xyz", "origin_xyz", "direction"))
    image = Volume(array, Grid.from_itk(array.shape[::-1], *geometry))
    label = Volume((stored("label_zyx") == stored("category")).astype(np.uint8), image.grid)
    lattice = canonical_lattice(image.grid, SPACING)
    box = centred_cube(Box.of_mask(resample_labels(label, lattice) > 0), SIDE)
    cube = lattice.crop(box)
    region = CubeRegion(covered(image.grid, cube), cube, image.grid)
    return SimpleNamespace(stored=stored, image=image, label=label, lattice=lattice, box=box, region=region)


@pytest.fixture(scope="module")
def answers(model, case) -> list[Logits]:
    """Answers after each click, all clicks so far said each time."""
    embedding = model.embed(case.image, case.region, ANY)
    places = case.image.grid.to_index(case.region.grid.to_world(case.stored("click_coords")))
    clicks = [Point(tuple(p), bool(s)) for p, s in zip(places, case.stored("click_labels"), strict=True)]
    found: list[Logits] = []
    for count in range(1, len(clicks) + 1):
        found.append(model.decode(embedding, Prompts(tuple(clicks[:count])), found[-1] if found else None))
    return found


class TestPipeline:
    """`sam_med3d_pipeline`."""

    def test_canonical_grid(self, case):
        assert case.lattice.shape == tuple(case.stored("canonical_shape"))
        assert np.abs(TO_RAS @ case.lattice.affine - case.stored("canonical_affine")).max() < 1e-6

    def test_canonical_image(self, case):
        found = np.trunc(resample(case.image.array, case.image.grid, case.lattice))
        assert np.abs(found - case.stored("canonical_image")).max() <= 1

    def test_padding_and_cropping(self, case):
        low, high = np.array(case.box.low), np.array(case.box.high)
        beyond = high - case.lattice.shape
        for found, name in ((-low, beyond), "padding_ini_fin"), ((low, -beyond), "cropping_ini_fin"):
            assert np.stack(found, axis=1).clip(0).ravel().tolist() == case.stored(name).tolist()
        assert np.abs(TO_RAS @ case.region.grid.affine - case.stored("roi_affine")).max() < 1e-6

    def test_network_input(self, case):
        found = network_input(case.image, case.region)
        assert found.dtype == np.float32
        assert np.abs(found - case.stored("network_input")).max() < FLOAT32

    def test_label_round_trip(self, case):
        label = resample_labels(case.label, case.region.grid)
        assert np.array_equal(label, case.stored("roi_label"))
        back = resample_labels(Volume(label, case.region.grid), case.image.grid)
        assert np.array_equal(back, case.stored("label_roundtrip_zyx"))

    @pytest.mark.parametrize("click", [0, 1, 2])
    def test_low_res_logits(self, case, answers, click):
        stored = case.stored(f"low_res_logits_{click}")
        stride = 32 // len(stored)
        assert np.abs(answers[click].values[::stride, ::stride, ::stride] - stored).max() < FLOAT32

    def test_cube_mask(self, case, answers):
        logits = enlarged(answers[-1].values, (SIDE,) * 3)
        stored = np.unpackbits(case.stored("roi_mask")).reshape(logits.shape).astype(bool)
        assert stored.sum() == case.stored("roi_mask_count")
        assert np.abs(logits[(logits > 0) != stored]).max(initial=0) < UNCERTAIN

    def test_official_mask_on_the_image_grid(self, case):
        mask = np.unpackbits(case.stored("roi_mask")).reshape((SIDE,) * 3)
        back = resample_labels(Volume(mask, case.region.grid), case.image.grid)
        assert np.array_equal(back, case.stored("final_mask_zyx"))

    def test_logits_on_the_image_grid(self, model, case, answers):
        """The official mask, but for voxels near its surface, where it has stairs."""
        restored = model.restore(answers[-1])
        assert restored.shape == case.region.box.shape
        assert restored.dtype == np.float32
        official = case.stored("final_mask_zyx")[case.region.box.slices] > 0
        at_samples = enlarged(answers[-1].values, (SIDE,) * 3)
        steepest = max(np.abs(np.diff(at_samples, axis=axis)).max() for axis in range(3))
        assert np.abs(restored[(restored > 0) != official]).max(initial=0) < 1.5 * steepest


# ---- cubes around prompts, at a tiny size: 32 samples, 48 mm


@pytest.fixture(scope="module")
def small() -> SAMMed3D:
    return tiny_model("sam-med3d")


def blob(spacing: tuple[float, float, float] = (3.0, 1.5, 0.75), shape: tuple[int, int, int] = (24, 40, 64)) -> Volume:
    """Noise and a bright ball, in a volume whose extent is a whole number of samples along every axis."""
    rng = np.random.default_rng(3)
    places = np.moveaxis(np.indices(shape), 0, -1) * spacing
    ball = np.linalg.norm(places - (30, 30, 24), axis=-1) < 12
    return Volume.from_array(rng.normal(100, 20, shape).astype(np.float32) + 80 * ball, spacing)


def moved(volume: Volume, turned: Volume, index: tuple[float, ...]) -> Point:
    """A click on the same place in a volume stored otherwise."""
    return Point(tuple(turned.grid.to_index(volume.grid.to_world(np.array(index)))))


class TestEveryOrientation:
    CLICK = (10.0, 20.0, 32.0)

    @pytest.mark.parametrize(("permutation", "flips"), few(ALL_48, tried=range(0, 48, 5)))
    def test_the_network_sees_and_says_the_same(self, small, permutation, flips):
        volume = blob()
        turned = reorient(volume, permutation, flips)
        answers = []
        for image in (volume, turned):
            prompts = Prompts((moved(volume, image, self.CLICK),))
            region = small.plan(image.grid, prompts, None)
            logits = small.decode(small.embed(image, region, ANY), prompts, None)
            answers.append((network_input(image, region), logits, small.restore(logits)))
        (seen, said, mask), (seen_turned, said_turned, mask_turned) = answers
        assert np.abs(seen - seen_turned).max() < 1e-4
        assert np.abs(said.values - said_turned.values).max() < 1e-4
        same = reorient(Volume(mask, said.region.answered), permutation, flips)
        assert said_turned.region.answered.same_place(same.grid)
        assert np.abs(mask_turned - same.array).max() < 1e-4

    @pytest.mark.parametrize("grid", list(oblique_grids(shape=(30, 24, 20))))
    def test_a_plane_comes_back_where_it_was(self, small, grid):
        """Logits that rise evenly are interpolated exactly, but in the outer half of the cells at the faces."""
        region = small.plan(grid, Prompts((Point((15, 12, 10)),)), None)
        cells = np.moveaxis(np.indices((8,) * 3), 0, -1) * 4 + 1.5  # samples at the middle of the coarse cells
        slope = np.array([0.5, -1.2, 2.0])
        restored = small.restore(Logits(((cells - 16) @ slope).astype(np.float32), region))
        voxels = np.moveaxis(np.indices(region.box.shape), 0, -1)
        samples = region.grid.to_index(region.answered.to_world(voxels))
        whole = ((samples >= 2) & (samples <= 29)).all(axis=-1)
        assert restored.shape == region.box.shape
        assert whole.any()
        assert np.abs(restored - (samples - 16) @ slope)[whole].max() < 1e-3


class TestPlan:
    GRID = Grid.plain((60, 200, 200), (2.0, 0.75, 0.75))

    def middle(self, region: CubeRegion) -> np.ndarray:
        """Index in the image of the cube's middle sample."""
        return self.GRID.to_index(region.grid.to_world(np.full(3, 16.0)))

    def plan(self, small: SAMMed3D, *prompts: Prompt, within: Box | None = None) -> CubeRegion:
        return small.plan(self.GRID, Prompts(prompts), within)

    def test_the_click_is_in_the_middle(self, small):
        region = self.plan(small, Point((30, 100, 90)))
        assert np.abs((self.middle(region) - (30, 100, 90)) * self.GRID.spacing).max() <= 0.76  # mm: half a sample
        assert np.allclose(region.grid.spacing, 1.5)
        assert region.box == covered(self.GRID, region.grid)

    @pytest.mark.parametrize("positive", [True, False])
    def test_more_clicks_in_the_cube_keep_it(self, small, positive):
        first = Point((30, 100, 90))
        assert self.plan(small, first, Point((38, 110, 100), positive)) == self.plan(small, first)

    @pytest.mark.parametrize("positive", [True, False])
    def test_clicks_beyond_it_bring_the_middle_of_all(self, small, positive):
        region = self.plan(small, Point((30, 100, 90)), Point((30, 140, 90), positive))
        assert np.abs((self.middle(region) - (30, 120, 90)) * self.GRID.spacing).max() <= 0.76

    def test_the_newest_where_no_cube_holds_all(self, small):
        far = Point((30, 180, 90))
        assert self.plan(small, Point((30, 20, 90)), far) == self.plan(small, far)
        assert self.plan(small, far, Point((30, 20, 90), False)) == self.plan(small, far)

    @pytest.mark.parametrize(
        "prompt",
        [
            Box((20, 80, 80), (41, 121, 101)),
            MaskPrompt(np.ones((21, 41, 21), bool), (20, 80, 80)),
            Stroke(((20, 80, 80), (40, 120, 100))),
        ],
        ids=["box", "mask", "stroke"],
    )
    def test_other_prompts_have_a_middle_too(self, small, prompt):
        assert np.abs((self.middle(self.plan(small, prompt)) - (30, 100, 90)) * self.GRID.spacing).max() <= 1.51

    def test_a_chosen_part_is_in_the_middle_and_nothing_else_changes(self, small):
        within = Box((20, 80, 80), (41, 121, 101))
        region = self.plan(small, Point((22, 82, 82)), within=within)
        assert region.box == within
        assert np.abs((self.middle(region) - (30, 100, 90)) * self.GRID.spacing).max() <= 1.51

    def test_a_large_part_is_seen_around_the_click(self, small):
        within = Box((28, 0, 0), (60, 200, 200))
        region = self.plan(small, Point((30, 100, 90)), within=within)
        alone = self.plan(small, Point((30, 100, 90)))
        assert region.grid == alone.grid
        assert region.box == alone.box.intersect(within) != alone.box

    def test_clicks_at_a_corner_stay_in_the_middle(self, small):
        region = self.plan(small, Point((0, 0, 0)))
        assert region.box == Box((0, 0, 0), (12, 34, 34))  # 16 samples up; its own and 16 more to the left and back

    @pytest.mark.parametrize("shape", [(3, 20, 20), (1, 30, 30), (5, 5, 5)])
    def test_images_smaller_than_the_cube(self, small, shape):
        image = Volume.from_array(np.random.default_rng(1).uniform(1, 9, shape), (2.0, 0.75, 0.75))
        prompts = Prompts((Point((shape[0] // 2, 2, 3)),))
        region = small.plan(image.grid, prompts, None)
        logits = small.decode(small.embed(image, region, ANY), prompts, None)
        assert region.box == image.grid.box
        assert small.restore(logits).shape == shape

    @pytest.mark.parametrize(
        ("grid", "prompts", "within", "said"),
        [
            (Grid.plain((40, 40)), (Point((5, 5)),), None, "volumes only"),
            (GRID, (), None, "click inside the object"),
            (GRID, (Point((5, 5, 5), False),), None, "only clicks outside"),
            (GRID, (Point((5, 5, 5)),), Box((70, 0, 0), (80, 9, 9)), "outside the image"),
            (GRID, (Point((5, 5, 5)),), Box((40, 0, 0), (60, 200, 200)), "No prompt lies in the part"),
        ],
        ids=["flat", "nothing", "negative only", "outside", "elsewhere"],
    )
    def test_what_cannot_be_looked_at_is_refused(self, small, grid, prompts, within, said):
        with pytest.raises(InputError, match=said):
            small.plan(grid, Prompts(prompts), within)


FIRST, SECOND, OUTSIDE = Point((12, 20, 32)), Point((14, 22, 40), False), Point((12, 20, 63), False)


@pytest.fixture(scope="module")
def embedding(small) -> Embedding:
    volume = blob(spacing=(3.0, 1.5, 1.5))
    return small.embed(volume, small.plan(volume.grid, Prompts((FIRST,)), None), ANY)


class TestDecode:
    def test_is_a_promptable_model(self, small):
        assert isinstance(small, PromptableModel)
        assert not isinstance(small, BoxModel)

    def test_the_answer_before_is_the_mask_prompt(self, small, embedding):
        both = Prompts((FIRST, SECOND))
        before = small.decode(embedding, Prompts((FIRST,)), None)
        answer = small.decode(embedding, both, before)
        points = embedding.region.grid.to_index(embedding.image.to_world([c.index for c in both]))
        assert np.array_equal(answer.values, small.answer(embedding, points, np.array([1, 0]), before.values))
        assert not np.array_equal(answer.values, small.decode(embedding, both, None).values)
        assert 0 <= answer.score <= 1

    def test_the_newest_click_only(self, small, embedding):
        newest = SAMMed3D(fill(networks.create("sam-med3d", tiny_config("sam-med3d"))), newest_only=True)
        both = Prompts((FIRST, SECOND))
        before = newest.decode(embedding, Prompts((FIRST,)), None)
        assert np.array_equal(before.values, small.decode(embedding, Prompts((FIRST,)), None).values)
        alone = small.decode(embedding, Prompts((SECOND,)), before)
        assert np.array_equal(newest.decode(embedding, both, before).values, alone.values)
        assert np.array_equal(newest.decode(embedding, both, None).values, small.decode(embedding, both, None).values)

    def test_an_answer_about_another_cube_has_no_say(self, small, embedding):
        prompts = Prompts((FIRST,))
        region = small.plan(embedding.image, Prompts((Point((2, 2, 2)),)), None)
        before = Logits(np.ones((8,) * 3, np.float32), region)
        found = small.decode(embedding, prompts, before).values
        assert np.array_equal(found, small.decode(embedding, prompts, None).values)

    def test_clicks_outside_the_cube_are_left_out(self, small, embedding):
        found = small.decode(embedding, Prompts((FIRST, OUTSIDE)), None).values
        assert np.array_equal(found, small.decode(embedding, Prompts((FIRST,)), None).values)

    @pytest.mark.parametrize(
        "prompts",
        [(), (OUTSIDE,), (SECOND,), (Box((0, 0, 0), (9, 9, 9)),), (MaskPrompt(np.ones((2, 2, 1), bool), (3, 3, 63)),)],
    )
    def test_without_a_click_inside_there_is_no_answer(self, small, embedding, prompts):
        with pytest.raises(InputError, match="click"):
            small.decode(embedding, Prompts(prompts), None)

    def test_negative_clicks_alone_correct_an_answer(self, small, embedding):
        before = small.decode(embedding, Prompts((FIRST,)), None)
        assert np.isfinite(small.decode(embedding, Prompts((SECOND,)), before).values).all()


class TestWindows:
    GRID = Grid.plain((60, 200, 200), (2.0, 0.8, 0.8))

    @pytest.mark.parametrize(
        ("part", "spacing"),
        [
            (Box((20, 80, 80), (30, 100, 90)), 20 / 24),  # 20 mm in the 24 inner samples of 32
            (Box((20, 80, 80), (22, 84, 84)), 0.8),  # the image has no finer voxels
            (Box((20, 80, 80), (38, 100, 90)), 1.5),
            (Box((20, 80, 80), (43, 100, 90)), 1.5),  # 46 of 48 mm
        ],
    )
    def test_the_spacing_is_that_at_which_the_part_fills_the_cube(self, small, part, spacing):
        (region,) = small.windows(self.GRID, part)
        assert np.allclose(region.grid.spacing, spacing)
        assert region.grid.shape == (32, 32, 32)
        assert region.box == covered(self.GRID, region.grid)
        assert part.intersect(region.box) == part

    def test_it_is_no_finer_than_half_the_usual(self, small):
        (region,) = small.windows(Grid.plain((200, 200, 200), (0.2, 0.2, 0.2)), Box((90, 90, 90), (99, 99, 99)))
        assert np.allclose(region.grid.spacing, 0.75)

    def test_large_parts_take_several_of_the_usual_spacing(self, small):
        part = Box((10, 50, 60), (50, 90, 80))  # 80 mm by 32 by 16
        regions = small.windows(self.GRID, part)
        assert len(regions) == 3
        assert all(np.allclose(region.grid.spacing, 1.5) for region in regions)
        seen = np.zeros(self.GRID.shape, bool)
        for region in regions:
            seen[region.box.slices] = True
        assert seen[part.slices].all()

    def test_what_cannot_be_looked_at_is_refused(self, small):
        with pytest.raises(InputError, match="outside the image"):
            small.windows(self.GRID, Box((60, 0, 0), (61, 1, 1)))
        with pytest.raises(InputError, match="volumes only"):
            small.windows(Grid.plain((9, 9)), Box((0, 0), (1, 1)))


class TestMasks:
    BLOCK = Box((6, 12, 24), (12, 24, 40))  # whole cells, but for half of one at each end along x

    @pytest.fixture
    def asked(self, small, monkeypatch):
        """What the network was asked last."""
        asked = SimpleNamespace()
        answer = small.answer

        def record(embedding, points, labels, mask=None):
            asked.points, asked.labels, asked.mask = points, labels, mask
            return answer(embedding, points, labels, mask)

        monkeypatch.setattr(small, "answer", record)
        return asked

    def painted(self, image: Volume) -> Volume:
        array = np.zeros(image.grid.shape, np.uint8)
        array[self.BLOCK.slices] = 1
        return Volume(array, image.grid)

    @pytest.mark.parametrize(("permutation", "flips"), ALL_48[::7])
    def test_cells_say_how_much_of_them_is_covered(self, small, asked, permutation, flips):
        upright = blob()
        image, mask = (reorient(v, permutation, flips) for v in (upright, self.painted(upright)))
        prompts = Prompts((MaskPrompt(mask.array > 0, (0, 0, 0)),))
        region = small.plan(image.grid, prompts, None)
        answer = small.decode(small.embed(image, region, ANY), prompts, None)
        assert np.isfinite(answer.values).all()
        assert asked.points.shape == (0, 3)
        assert asked.mask.shape == (8, 8, 8)
        share = 1 / (1 + np.exp(-asked.mask))
        expected = resample(mask.array.astype(float), image.grid, region.grid)
        assert np.abs(share - expected.reshape(8, 4, 8, 4, 8, 4).mean(axis=(1, 3, 5))).max() < 0.02
        assert np.isclose(asked.mask.max(), np.log(0.999 / 0.001), atol=1e-4)
        assert np.isclose(asked.mask.min(), -np.log(0.999 / 0.001), atol=1e-4)

    def test_clicks_refine_the_answer_before_and_not_the_mask(self, small, asked, embedding):
        mask = MaskPrompt(np.ones((3, 8, 8), bool), (10, 16, 28))
        before = small.decode(embedding, Prompts((mask,)), None)
        given = asked.mask
        small.decode(embedding, Prompts((mask, SECOND)), before)
        assert np.array_equal(asked.mask, before.values)
        assert asked.labels.tolist() == [0]
        small.decode(embedding, Prompts((FIRST, mask)), before)
        assert np.array_equal(asked.mask, given)
        assert asked.labels.tolist() == [1]

    def test_negative_clicks_correct_a_mask(self, small, embedding):
        mask = MaskPrompt(np.ones((3, 8, 8), bool), (10, 16, 28))
        alone = small.decode(embedding, Prompts((mask,)), None)
        corrected = small.decode(embedding, Prompts((mask, SECOND)), None)
        assert not np.array_equal(alone.values, corrected.values)

    def test_without_mask_or_answer_before_logits_are_zero(self, small, embedding):
        points = embedding.region.grid.to_index(embedding.image.to_world([FIRST.index]))
        zeros = np.zeros((8, 8, 8), np.float32)
        found = small.decode(embedding, Prompts((FIRST,)), None).values
        assert np.array_equal(found, small.answer(embedding, points, np.array([1]), zeros))


class TestGreyValues:
    def region(self, image: Volume) -> CubeRegion:
        return tiny_model("sam-med3d").plan(image.grid, Prompts((Point((5, 5, 5)),)), None)

    def test_mean_and_deviation_are_those_of_what_is_above_zero(self):
        image = blob((1.5,) * 3, (12, 12, 12))
        low = Volume(np.where(np.indices(image.grid.shape)[0] < 6, -500, image.array), image.grid)
        seen = network_input(low, self.region(low))
        shown = low.array[low.array > 0]
        assert np.isclose(seen.min(), (-500 - shown.mean()) / shown.std(ddof=1))
        inside = seen[seen > (0 - shown.mean()) / shown.std(ddof=1)]
        assert np.isclose(inside.mean(), 0, atol=1e-5) and np.isclose(inside.std(ddof=1), 1)

    def test_images_below_zero_are_seen(self):
        image = blob((1.5,) * 3, (12, 12, 12))
        below = Volume(image.array - 1000, image.grid)
        seen = network_input(below, self.region(below))
        inside = seen[seen != seen.max()]
        assert np.isclose(inside.mean(), 0, atol=1e-4) and np.isclose(inside.std(ddof=1), 1)

    def test_colours_become_luma(self):
        rng = np.random.default_rng(0)
        colour = Volume.from_array(rng.integers(0, 256, (12, 12, 12, 3)).astype(np.float32), rgb=True)
        grey = Volume(colour.array @ np.array([0.299, 0.587, 0.114]), colour.grid)
        difference = network_input(colour, self.region(colour)) - network_input(grey, self.region(grey))
        assert np.abs(difference).max() < 1e-4

    @pytest.mark.parametrize("value", [0, 7, -7])
    def test_nothing_to_see_is_refused(self, value):
        image = Volume.from_array(np.full((12, 12, 12), value, np.int16))
        with pytest.raises(InputError, match="same value"):
            network_input(image, self.region(image))

    def test_nan_is_refused(self):
        array = np.random.default_rng(0).uniform(size=(12, 12, 12))
        array[5, 5, 5] = np.nan
        image = Volume.from_array(array)
        with pytest.raises(InputError, match="NaN"):
            network_input(image, self.region(image))
