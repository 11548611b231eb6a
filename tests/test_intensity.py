"""Windows: the published mappings, speed-ups that change no number, JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sammed.errors import InputError
from napari_sammed.geometry import Grid
from napari_sammed.intensity import Window, positive_percentiles
from napari_sammed.volume import Volume

ALL = [*map(Window.preset, Window.presets()), Window.custom(50, 350.5), Window.displayed(-3, 7.25)]


def volume_of(array: np.ndarray, modality: str | None = None) -> Volume:
    return Volume(array, Grid.plain(array.shape), modality=modality)


@pytest.mark.parametrize("window", ALL, ids=lambda w: w.kind)
def test_json_round_trip(window: Window) -> None:
    assert Window.from_json(json.loads(json.dumps(window.to_json()))) == window
    assert window.label


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"kind": "soft-tissue"},
        {"kind": "liver", "values": []},
        {"kind": "custom", "values": [40]},
        {"kind": "custom", "values": [40, 0]},
        {"kind": "custom", "values": [40, -1]},
        {"kind": "custom", "values": [40, float("nan")]},
        {"kind": "custom", "values": ["a", 1]},
        {"kind": "displayed", "values": [5, 5]},
        {"kind": "percentiles", "values": [99.5, 0.5]},
        {"kind": "percentiles", "values": [-1, 50]},
        {"kind": "as-is", "values": [1]},
        {"kind": ["custom"], "values": [1, 2]},
        None,
    ],
    ids=str,
)
def test_refused_json(item: object) -> None:
    with pytest.raises(InputError):
        Window.from_json(item)


@pytest.mark.parametrize(
    ("key", "limits"),
    [("soft-tissue", (-160, 240)), ("lung", (-1350, 150)), ("bone", (-500, 1300)), ("brain", (0, 80))],
)
def test_ct_presets(key: str, limits: tuple[float, float]) -> None:
    window = Window.preset(key)
    low, high = limits
    hounsfield = np.array([[-2000, low, (low + high) / 2, high - 1, high, 3000]], np.int16)
    assert window.limits(volume_of(hounsfield)) == limits
    last = int((high - 1 - low) / (high - low) * 255)
    assert window.apply(hounsfield, limits).tolist() == [[0, 0, 127, last, 255, 255]]
    assert f"level {(low + high) / 2:g}, width {high - low:g}" in Window.presets()[key]


def test_presets_are_offered_in_order() -> None:
    assert list(Window.presets()) == ["soft-tissue", "lung", "bone", "brain", "percentiles", "as-is"]
    with pytest.raises(InputError, match="liver"):
        Window.preset("liver")


@pytest.mark.parametrize(
    ("array", "modality", "kind"),
    [
        (np.array([[0, 255]], np.uint8), None, "as-is"),
        (np.array([[0, 255]], np.uint8), "CT", "as-is"),
        (np.array([[-1024, 2000]], np.int16), None, "soft-tissue"),
        (np.array([[-1024, 2000]], np.float32), None, "soft-tissue"),
        (np.array([[-500, 2000]], np.int16), None, "soft-tissue"),
        (np.array([[-499, 2000]], np.int16), None, "percentiles"),
        (np.array([[-30, 200]], np.int16), "CT", "soft-tissue"),
        (np.array([[-1024, 2000]], np.int16), "MR", "percentiles"),
        (np.array([[0, 4095]], np.uint16), None, "percentiles"),
    ],
    ids=str,
)
def test_the_window_that_suits(array: np.ndarray, modality: str | None, kind: str) -> None:
    assert Window.auto(volume_of(array, modality)).kind == kind


def test_colour_passes_as_it_is() -> None:
    colour = Volume.from_array(np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8))
    assert Window.auto(colour).kind == "as-is"
    for window in ALL:
        assert window.apply(colour.array, window.limits(colour)) is colour.array


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 7, 255]], np.uint8), [[0, 7, 255]]),
        (np.array([[0, 7, 255]], np.int32), [[0, 7, 255]]),
        (np.array([[0, 510, 1020]], np.uint16), [[0, 127, 255]]),
        (np.array([[0, 0.5, 1]], np.float32), [[0, 127, 255]]),
        (np.array([[-1, 0, 1]], np.float64), [[0, 127, 255]]),
    ],
    ids=str,
)
def test_as_it_is(array: np.ndarray, expected: list) -> None:
    window = Window.preset("as-is")
    assert window.apply(array, window.limits(volume_of(array))).tolist() == expected


def test_percentiles_follow_the_published_rule() -> None:
    """MedSAM's rule written out: percentiles of what is above 0, clip, scale, zeros stay 0, cut to 8 bits."""
    array = np.random.default_rng(0).gamma(2, 200, (5, 40, 50)).astype(np.int16)
    array[:, :10] = 0
    window = Window.preset("percentiles")
    limits = window.limits(volume_of(array))
    assert limits == tuple(np.percentile(array[array > 0], (0.5, 99.5)))
    clipped = np.clip(array, *limits)
    expected = (clipped - limits[0]) / (limits[1] - limits[0]) * 255.0
    expected[array == 0] = 0
    np.testing.assert_array_equal(window.apply(array, limits), expected.astype(np.uint8))
    np.testing.assert_array_equal(window.apply(array[2], limits), expected[2].astype(np.uint8))


def test_zeros_stay_black_below_bright_limits() -> None:
    window = Window("percentiles", (0, 100))
    assert window.apply(np.array([-5, 0, 1, 5]), (-5, 5)).tolist() == [0, 0, 153, 255]


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.int16, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)
    ),
    st.floats(0, 100),
)
def test_percentiles_of_integers_equal_numpys(array: np.ndarray, q: float) -> None:
    if (array > 0).any():
        assert positive_percentiles(array, (q,))[0] == np.percentile(array[array > 0], q)
    else:
        assert positive_percentiles(array, (q,))[0] == np.percentile(array, q)


def test_percentiles_when_few_values_differ() -> None:
    window = Window.preset("percentiles")
    binary = np.zeros((50, 50), np.int16)
    binary[:5] = 9
    assert window.limits(volume_of(binary)) == (0, 9)
    assert np.unique(window.apply(binary, (0, 9))).tolist() == [0, 255]
    negative = -np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    low, high = window.limits(volume_of(negative))
    assert -100 <= low < high <= -1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("window", ALL, ids=lambda w: w.kind)
def test_large_arrays_give_the_same_as_small_ones(window: Window, dtype: type) -> None:
    info = np.iinfo(dtype)
    array = np.random.default_rng(0).integers(info.min, info.max, (3, 256, 256), dtype=dtype, endpoint=True)
    limits = window.limits(volume_of(array))
    whole = window.apply(array, limits)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole[:, :100], window.apply(array[:, :100], limits))
    np.testing.assert_array_equal(whole.transpose(2, 0, 1), window.apply(array.transpose(2, 0, 1), limits))


@pytest.mark.full
def test_percentiles_of_a_large_volume_are_those_of_numpy() -> None:
    array = np.random.default_rng(0).normal(100, 300, (200, 512, 512)).astype(np.int16)
    limits = positive_percentiles(array, (0.5, 99.5))
    assert limits == tuple(np.percentile(array[array > 0], (0.5, 99.5)))
