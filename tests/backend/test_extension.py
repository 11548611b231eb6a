"""Following an object from cube to cube: to its end and no farther, within limits, refined by further clicks."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_sammed.backend import extension
from napari_sammed.backend.local import LocalBackend
from napari_sammed.errors import Cancelled
from napari_sammed.geometry import Box, Grid
from napari_sammed.models.base import ExtendingModel, Logits
from napari_sammed.prompts import MaskPrompt, Point, Prompts
from napari_sammed.volume import Volume
from tests import oracle
from tests.tiny_models import tiny_model

SIDE = 32
NAME = "sam-med3d"
GRID = Grid.plain((40, 40, 160), (1.5, 1.5, 1.5))
ROD = Box((15, 15, 10), (25, 25, 150))
LEFT = Point((20, 20, 24))  # of which the cube is the voxels 9 to 40 along the rod


def volume(*boxes: Box, grid: Grid = GRID) -> Volume:
    array = np.zeros(grid.shape, np.uint8)
    for box in boxes:
        array[box.slices] = 1
    return Volume(array, grid)


class Asking:
    """A backend with one model and one open image."""

    def __init__(self, model: ExtendingModel, image: Volume) -> None:
        self.model = model
        self.backend = LocalBackend(models={NAME: model})
        self.image = image
        self.opened = self.backend.open(image)

    def __call__(self, *prompts: Point | Box, **options):
        answer = self.backend.predict(self.opened, NAME, Prompts(prompts), **options)
        mask = np.zeros(self.image.grid.shape, bool)
        mask[answer.box.slices] = answer.mask
        return answer, mask


@pytest.fixture
def ask(request):
    """Asks a model that knows the truth given by the test's parameter, or the rod."""
    truth = getattr(request, "param", None) or volume(ROD)
    noisy = np.random.default_rng(0).normal(100, 9, truth.grid.shape).astype(np.float32)
    asking = Asking(oracle.cube(truth, SIDE), Volume(noisy, truth.grid))
    yield asking
    asking.backend.shutdown()


def test_is_an_extending_model():
    assert isinstance(tiny_model(NAME), ExtendingModel)
    assert not isinstance(tiny_model("litemedsam"), ExtendingModel)


def test_the_whole_object_is_found(ask):
    answer, mask = ask(LEFT)
    assert np.array_equal(mask, volume(ROD).array > 0)
    assert answer.scope == GRID.box
    assert len(ask.model.encoded) == 8  # steps of 16 voxels, until the rod ends inside a cube
    assert len(set(ask.model.encoded)) == 8
    assert answer.reductions == (
        "The object reaches beyond SAM-Med3D's cube: 7 neighbouring cubes were looked at as well.",
    )


def test_neighbours_overlap_by_half(ask):
    ask(LEFT)
    lows = [region.box.low[2] for region in ask.model.encoded]
    assert lows == [9 + 16 * number for number in range(8)]


@pytest.mark.parametrize("ask", [volume(Box((15, 15, 14), (25, 25, 34)))], indirect=True)
def test_an_object_that_fits_costs_nothing_more(ask, monkeypatch):
    def never(*_):
        raise AssertionError("joined though alone")

    monkeypatch.setattr(oracle.CubeOracle, "joined", never)
    answer, mask = ask(LEFT)
    assert np.array_equal(mask, ask.model.truth.array > 0)
    assert len(ask.model.encoded) == 1
    assert answer.reductions == ()


@pytest.mark.parametrize("ask", [volume(Box((15, 15, 14), (25, 25, 30)), Box((0, 0, 38), (9, 9, 45)))], indirect=True)
def test_islands_at_the_rim_are_not_followed(ask):
    ask(LEFT)
    assert len(ask.model.encoded) == 1


@pytest.mark.parametrize(
    "ask", [volume(Box((0, 3, 3), (1, 37, 150)), grid=Grid.plain((1, 40, 160), (1.0, 1.5, 1.5)))], indirect=True
)
def test_a_single_slice_is_followed(ask):
    _, mask = ask(Point((0, 20, 24)))
    assert np.array_equal(mask, ask.model.truth.array > 0)


def test_a_next_click_refines_the_first_cube_and_encodes_nothing(ask):
    first, before = ask(LEFT)
    assert first.logits.region == ask.model.encoded[0]
    encoded = len(ask.model.encoded)
    second, after = ask(LEFT, Point((20, 22, 30)), previous=first.logits)
    assert second.logits.region == first.logits.region
    assert np.array_equal(after, before)
    assert len(ask.model.encoded) == encoded


@pytest.mark.parametrize(
    "ask", [volume(Box((15, 15, 14), (25, 25, 34)), Box((15, 15, 100), (25, 25, 110)))], indirect=True
)
def test_clicks_on_parts_far_apart_are_all_answered(ask):
    answer, mask = ask(LEFT, Point((20, 20, 105)))
    assert np.array_equal(mask, ask.model.truth.array > 0)
    assert len(ask.model.encoded) == 2
    assert "1 neighbouring cube was looked at" in answer.reductions[0]


def test_a_chosen_part_is_not_left(ask):
    within = Box((10, 10, 0), (30, 30, 90))
    answer, mask = ask(LEFT, region=within)
    assert answer.scope.intersect(within) == answer.scope
    expected = volume(Box(ROD.low, (25, 25, 90))).array > 0
    assert np.array_equal(mask, expected)


def test_a_box_is_not_left(ask):
    box = Box((10, 10, 10), (30, 30, 100))
    _, mask = ask(box)
    assert np.array_equal(mask, volume(Box(ROD.low, (25, 25, 100))).array > 0)
    assert max(region.box.high[2] for region in ask.model.encoded) <= 100 + SIDE


def test_the_number_of_cubes_is_bounded(ask, monkeypatch):
    monkeypatch.setattr(extension, "MOST", 3)
    answer, mask = ask(LEFT)
    assert len(ask.model.encoded) == 4
    assert "3 neighbouring cubes" in answer.reductions[0]
    assert "may go on beyond them" in answer.reductions[0]
    assert np.array_equal(mask, volume(Box(ROD.low, (25, 25, 89))).array > 0)


def test_cancelling_stops_between_cubes_and_progress_is_told(ask):
    cancel, told = threading.Event(), []

    def progress(what: str, share: float) -> None:
        told.append((what, share))
        if what.endswith("part 3"):
            cancel.set()

    with pytest.raises(Cancelled):
        ask(LEFT, cancel=cancel, progress=progress)
    parts = [what for what, _ in told if "beyond" in what]
    assert parts == [f"looking beyond the cube, part {number}" for number in (1, 2, 3)]
    assert all(0 <= share < 1 for _, share in told)
    assert len(ask.model.encoded) == 3


class TestWhatAFurtherCubeIsAsked:
    @pytest.fixture
    def model(self, monkeypatch):
        model = tiny_model(NAME)
        self.questions = []

        def answer(embedding, points, labels, mask=None):
            self.questions.append((points, labels, mask))
            return np.zeros(model.mask_shape, np.float32)

        monkeypatch.setattr(model, "answer", answer)
        return model

    def ask(self, model, prompts: Prompts, first: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = volume(ROD)
        region = model.plan(GRID, prompts, None)
        before = [Logits(first, region)]
        beyond = model.beyond(before, prompts, None)
        self.beyond = beyond
        embedding = model.embed(Volume(image.array + np.random.default_rng(0).random(GRID.shape), GRID), beyond, None)
        model.decode_beyond(embedding, prompts, before)
        return self.questions[-1]

    def known(self, model) -> np.ndarray:
        """Logits of a first cube that are different everywhere, positive in a rod that runs out at one side."""
        values = np.random.default_rng(0).uniform(-3, -1, model.mask_shape).astype(np.float32)
        values[:5, 3:5, 3:5] *= -1  # axis 0 goes to the right: against x
        return values

    def test_what_is_known_is_its_mask_prompt(self, model):
        first = self.known(model)
        _, _, mask = self.ask(model, Prompts((LEFT,)), first)
        assert np.abs(mask[4:] - first[:4]).max() < 1e-6
        assert not mask[:4].any()

    def test_the_middle_of_the_overlap_is_clicked_on_where_there_is_no_click(self, model):
        points, labels, _ = self.ask(model, Prompts((LEFT,)), self.known(model))
        assert labels.tolist() == [1]
        assert self.known(model)[tuple((points[0] // 4).astype(int) - (4, 0, 0))] > 0

    def test_clicks_in_it_are_said_again(self, model):
        inside, outside = Point((20, 20, 30)), Point((25, 20, 40), False)
        prompts = Prompts((LEFT, inside, outside))
        points, labels, _ = self.ask(model, prompts, self.known(model))
        expected = [self.beyond.grid.to_index(GRID.to_world(np.array(p.index))) for p in (inside, outside)]
        assert labels.tolist() == [1, 0]
        assert np.allclose(points, expected)

    def test_a_mask_speaks_for_what_is_not_known(self, model):
        mask = MaskPrompt(np.ones((8, 8, 48), bool), (16, 16, 12))
        aside = Point((20, 20, 24))
        _, _, given = self.ask(model, Prompts((mask, aside)), self.known(model))
        assert np.abs(given[4:] - self.known(model)[:4]).max() < 1e-6
        assert given[:4].max() == pytest.approx(np.log(0.999 / 0.001), abs=1e-4)  # what lies beyond the first cube
        assert given[:4].min() == pytest.approx(-np.log(0.999 / 0.001), abs=1e-4)


def test_what_no_cube_saw_is_surely_outside():
    model = tiny_model(NAME)
    first = model.plan(GRID, Prompts((LEFT,)), None)
    far = model.plan(GRID, Prompts((Point((20, 20, 24 + 64)),)), None)
    joined = model.joined([Logits(np.full(model.mask_shape, 3.0, np.float32), region) for region in (first, far)])
    assert joined.values.shape == (24, 8, 8)
    assert np.allclose(joined.values[:8], 3) and np.allclose(joined.values[16:], 3)
    assert np.allclose(joined.values[8:16], -np.log(0.999 / 0.001))
    assert model.restore(joined).shape == joined.region.box.shape
