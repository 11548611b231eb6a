"""SegVol's zoom-out-zoom-in, stage by stage, against the official pipeline (`segvol_pipeline`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_sammed import networks
from napari_sammed.errors import InputError
from napari_sammed.geometry import Box
from napari_sammed.models import zooming
from napari_sammed.models.zooming import WindowPrompts
from tests.golden import fill
from tests.golden_3d import Golden3d

CASES = ["A", "B"]
MODES = ["box", "point", "boxstub", "pointstub"]
MASKS = 1e-6


@pytest.fixture(scope="module")
def golden(shared) -> Golden3d:
    return Golden3d(shared / "goldens" / "segvol_pipeline.npz")


@pytest.fixture(scope="module")
def window(golden) -> tuple[int, ...]:
    return tuple(golden.config["spatial_size"])


@pytest.fixture(scope="module")
def ask(golden) -> Callable[[np.ndarray, WindowPrompts], np.ndarray]:
    network = networks.optimized(fill(networks.create("segvol", golden.config)))

    @torch.inference_mode()
    def answer(image: np.ndarray, prompts: WindowPrompts) -> np.ndarray:
        tensor = torch.from_numpy(np.ascontiguousarray(image))[None, None]
        points = None
        if prompts.points is not None:
            points = torch.from_numpy(prompts.points)[None], torch.from_numpy(prompts.labels)[None]
        box = None if prompts.box is None else torch.from_numpy(prompts.box)[None]
        masks, _ = network(tensor, points, box)
        return F.interpolate(masks, image.shape, mode="trilinear", align_corners=False)[0, 0].numpy()

    return answer


def image_of(golden: Golden3d, case: str) -> np.ndarray:
    """The foreground as the network sees it."""
    array = golden[f"{case}.volume_xyz"].transpose(2, 1, 0)
    limits = zooming.grey_limits(array)
    return zooming.scaled(array[zooming.foreground(array, limits).slices], limits)


def users_prompts(golden: Golden3d, name: str) -> WindowPrompts:
    """What the whole volume is asked; without a box where there are points."""
    if f"{name}.global_box" in golden:
        return WindowPrompts(golden[f"{name}.global_box"][0])
    return WindowPrompts(None, golden[f"{name}.global_points"][0], golden[f"{name}.global_point_labels"][0])


@pytest.mark.parametrize("case", CASES)
class TestForeground:
    def test_box(self, golden, window, case):
        array = golden[f"{case}.volume_xyz"].transpose(2, 1, 0)
        box = zooming.foreground(array, zooming.grey_limits(array))
        padding = [max(0, side - size) // 2 for side, size in zip(window, array.shape, strict=True)]
        box = box.shift(padding)  # the official code pads before it crops, and counts from there
        assert list(box.low) == golden[f"{case}.foreground_start_coord"].tolist()
        assert list(box.high) == golden[f"{case}.foreground_end_coord"].tolist()

    def test_grey_values(self, golden, case):
        found = image_of(golden, case)
        assert found.dtype == np.float32
        assert np.abs(found - golden[f"{case}.image_zoom_in"][0]).max() < MASKS

    def test_squeezed_into_the_window(self, golden, window, case):
        found = zooming.shrunk(image_of(golden, case), window)
        assert np.abs(found - golden[f"{case}.image_zoom_out"][0]).max() < MASKS

    @pytest.mark.parametrize("label", [1, 2])
    def test_labels(self, golden, window, case, label):
        array = golden[f"{case}.volume_xyz"].transpose(2, 1, 0)
        labels = golden[f"{case}.label_xyz"].transpose(2, 1, 0) == label
        part = labels[zooming.foreground(array, zooming.grey_limits(array)).slices]
        assert np.array_equal(part, golden[f"{case}.label_zoom_in"][label - 1])
        assert np.array_equal(zooming.shrunk(part, window), golden[f"{case}.label_zoom_out"][label - 1])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["box", "point"])
def test_zoom_out(golden, window, ask, case, mode):
    found = ask(zooming.shrunk(image_of(golden, case), window), users_prompts(golden, f"{case}.{mode}"))
    assert np.abs(found - golden[f"{case}.{mode}.global_logits"]).max() < MASKS


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_zoom_in(golden, window, ask, case, mode):
    name = f"{case}.{mode}"
    image = image_of(golden, case)
    prompts = users_prompts(golden, name)
    shown = zooming.prompt_map(window, box=prompts.box, points=prompts.points, labels=prompts.labels)
    coarse = zooming.stretched(golden[f"{name}.global_logits"].astype(np.float32), image.shape)
    region = zooming.focus(coarse > 0, window)
    *low, z, y, x = golden[f"{name}.roi_min_d_h_w_max_d_h_w"].tolist()
    assert region.low == tuple(low)
    assert region.high == tuple(min(last + 1, size) for last, size in zip((z, y, x), image.shape, strict=True))

    asked: list[tuple[WindowPrompts, np.ndarray]] = []
    stored = stored_points(golden, name)

    def recorded(part: np.ndarray, prompts: WindowPrompts) -> np.ndarray:
        answer = ask(part, prompts)
        asked.append((prompts, answer))
        return answer

    def drawn(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points that the official code drew; ours are as many, and from the same places."""
        points, labels = next(stored)
        own_points, own_labels = zooming.drawn_points(given, np.random.default_rng(0))
        assert np.array_equal(own_labels, labels)
        for chosen in (points, own_points):
            assert given[tuple(chosen[labels == 1].astype(int).T)].all()
            assert (chosen[labels == -1] == -1).all()
        return points, labels

    found = zooming.zoom_in(
        image,
        coarse,
        zooming.stretched(shown, image.shape),
        window,
        recorded,
        None if prompts.points is None else drawn,
    )
    assert len(asked) == golden[f"{name}.n_windows"]
    assert np.array_equal([prompts.box for prompts, _ in asked], golden[f"{name}.win_boxes"])
    assert next(stored, None) is None
    if f"{name}.win0_logits" in golden:
        assert np.abs(asked[0][1] - golden[f"{name}.win0_logits"]).max() < MASKS
    stride = 1 if f"{name}.final_logits" in golden else 2
    expected = golden[f"{name}.final_logits" if stride == 1 else f"{name}.final_logits_s222"]
    assert np.abs(found[::stride, ::stride, ::stride] - expected).max() < MASKS
    mask = np.unpackbits(golden[f"{name}.final_mask_packbits"])[: found.size].reshape(found.shape) > 0
    assert np.abs(found[(found > 0) != mask]).max(initial=0) < MASKS


def stored_points(golden: Golden3d, name: str):
    """Points and labels of each window in turn."""
    if f"{name}.win_point_counts" not in golden:
        return iter(())
    ends = golden[f"{name}.win_point_counts"].cumsum()[:-1]
    points, labels = (np.split(golden[f"{name}.win_{what}_concat"], ends) for what in ("points", "point_labels"))
    return zip(points, labels, strict=True)


@pytest.mark.parametrize("number", range(4))
def test_region(golden, number):
    """`roi0` to `roi3`: blocks in the middle, at an edge, in an array smaller than the window, larger than it."""
    name = f"roi{number}"
    shape = golden[f"{name}.shape"]
    mask = np.zeros(shape, bool)
    mask[Box(tuple(golden[f"{name}.fg_lo"]), tuple(golden[f"{name}.fg_hi_inclusive"] + 1)).slices] = True
    low, last = golden[f"{name}.result_min_max"].reshape(2, 3)
    expected = Box(tuple(low), tuple(np.minimum(last + 1, shape)))
    assert zooming.focus(mask, golden[f"{name}.window"]) == expected


def test_nothing_seen_changes_nothing(window):
    logits = np.full((20, 50, 40), -1, np.float32)
    assert zooming.zoom_in(logits, logits, logits > 0, window, lambda *_: pytest.fail("asked")) is logits


def test_stretching_follows_single_precision():
    """32 to 82: 41 * 32 / 82 is 16, but not with the ratio in single precision."""
    line = torch.arange(32.0)[None, None, :, None, None]
    for length in range(33, 200):
        expected = F.interpolate(line, (length, 1, 1), mode="nearest")[0, 0, :, 0, 0].numpy()
        assert np.array_equal(zooming.stretched(line.numpy()[0, 0], (length, 1, 1))[:, 0, 0], expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("skewed", [False, True])
def test_limits_are_percentiles_of_what_exceeds_the_mean(dtype, skewed):
    """However they are found: short integers are counted, others sorted."""
    rng = np.random.default_rng(0)
    values = np.full((20, 30, 40), 3) if skewed else rng.integers(0, 120, (20, 30, 40))
    values[0] = rng.integers(5, 60, (30, 40))
    if np.dtype(dtype).kind != "u":
        values -= 50
    array = values.astype(dtype)
    above = array[array > array.mean(dtype=float)].astype(float)
    assert np.allclose(zooming.grey_limits(array), np.percentile(above, (0.05, 99.95)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_of_two_grey_values_both_are_limits(dtype):
    array = np.zeros((4, 5, 6), dtype)
    array[1:3, 2:4, 1:5] = 7
    limits = zooming.grey_limits(array)
    assert limits == (0, 7)
    assert np.array_equal(zooming.scaled(array, limits), array / 7)


def test_an_even_image_is_refused():
    with pytest.raises(InputError, match="same value 3"):
        zooming.grey_limits(np.full((4, 4, 4), 3))
