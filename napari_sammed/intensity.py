"""How grey values become the 0..255 that networks were trained on.

CT has a physical scale, so a window of it (level and width in Hounsfield units) says what can be told apart; every
other modality is scaled between percentiles of its own voxels. The choice is the user's and part of the journal.

Sources: MedSAM, official code `pre_CT_MR.py`: windows 40/400, -600/1500, 40/80 (bone 400/1800 is the usual one);
elsewhere percentiles 0.5 and 99.5 of the voxels above 0, and voxels that are 0 stay 0. One difference: there the
darkest and brightest voxel left *after* clipping become 0 and 255, so that grey values change with whatever else is in
the image; here the limits of the window do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_sammed.errors import InputError
from napari_sammed.volume import Volume

_CT = {  # key: (label, level, width), Hounsfield units
    "soft-tissue": ("CT soft tissue", 40.0, 400.0),
    "lung": ("CT lung", -600.0, 1500.0),
    "bone": ("CT bone", 400.0, 1800.0),
    "brain": ("CT brain", 40.0, 80.0),
}
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601."""

_PERCENTILES = (0.5, 99.5)
_VALUES = {"custom": 2, "displayed": 2, "percentiles": 2, "as-is": 0, **dict.fromkeys(_CT, 0)}
_TABLE = 1 << 16  # 8- and 16-bit arrays larger than this go through a table of all values
_AIR = -500.0  # a lowest voxel at or below this means Hounsfield units: air is -1000, no other modality goes there

_MEASURED: WeakKeyDictionary[Volume, dict[tuple[float, ...], tuple[float, ...]]] = WeakKeyDictionary()
"""Percentiles of the images in memory: a propagation asks for them at every slice."""


@dataclass(frozen=True)
class Window:
    """A mapping of grey values to 0..255.

    Parameters
    ----------
    kind : str
        ``soft-tissue``, ``lung``, ``bone``, ``brain``: CT presets. ``custom``: a CT window of one's own.
        ``displayed``: between two grey values, as a viewer shows it. ``percentiles``: between two percentiles of the
        voxels above 0; voxels that are 0 stay 0. ``as-is``: 8-bit images unchanged, others between their extremes.
    values : tuple of float
        Level and width (custom), lowest and highest value (displayed), two percentiles (percentiles), else empty.

    Raises
    ------
    InputError
    """

    kind: str
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _VALUES:
            raise InputError(f"There is no window {self.kind!r}: choose one of {', '.join(_VALUES)}.")
        try:
            values = tuple(float(v) for v in self.values)
        except (TypeError, ValueError):
            raise InputError(f"The values of a window are numbers, not {self.values!r}.") from None
        if len(values) != _VALUES[self.kind] or not np.isfinite(values).all():
            raise InputError(f"The window {self.kind} takes {_VALUES[self.kind]} finite values, not {values}.")
        if self.kind == "custom" and values[1] <= 0:
            raise InputError(f"The width of a window is positive, not {values[1]:g}.")
        if self.kind in ("displayed", "percentiles") and values[0] >= values[1]:
            raise InputError(f"The lower end of a window, {values[0]:g}, is not below the upper, {values[1]:g}.")
        if self.kind == "percentiles" and not (values[0] >= 0 and values[1] <= 100):
            raise InputError(f"Percentiles lie between 0 and 100, not {values}.")
        object.__setattr__(self, "values", values)

    @classmethod
    def presets(cls) -> Mapping[str, str]:
        """What to offer users, in order: key (for `preset`) -> label."""
        labels = {key: f"{label} (level {lv:g}, width {wd:g})" for key, (label, lv, wd) in _CT.items()}
        labels["percentiles"] = f"Percentiles {_PERCENTILES[0]:g} to {_PERCENTILES[1]:g}"
        labels["as-is"] = "As it is (8 bit)"
        return MappingProxyType(labels)

    @classmethod
    def preset(cls, key: str) -> Window:
        """The window of one of the `presets`."""
        if key not in cls.presets():
            raise InputError(f"There is no window {key!r}: choose one of {', '.join(cls.presets())}.")
        return cls(key, _PERCENTILES if key == "percentiles" else ())

    @classmethod
    def custom(cls, level: float, width: float) -> Window:
        """Grey values from level - width / 2 to level + width / 2."""
        return cls("custom", (level, width))

    @classmethod
    def displayed(cls, low: float, high: float) -> Window:
        """Grey values from low to high: the contrast limits of a viewer."""
        return cls("displayed", (low, high))

    @classmethod
    def auto(cls, volume: Volume) -> Window:
        """What suits an image: as it is for 8 bit and colour, soft tissue for CT, else percentiles.

        CT is what DICOM calls CT, and where the file does not say, what goes down to the Hounsfield units of air.
        """
        if volume.channels == 3 or volume.dtype == np.uint8:
            return cls.preset("as-is")
        hounsfield = volume.modality is None and volume.extremes[0] <= _AIR
        return cls.preset("soft-tissue" if volume.modality == "CT" or hounsfield else "percentiles")

    @property
    def label(self) -> str:
        """One phrase for users."""
        match self.kind, self.values:
            case "custom", (level, width):
                return f"Custom (level {level:g}, width {width:g})"
            case "displayed", (low, high):
                return f"As displayed ({low:g} to {high:g})"
            case "percentiles", (low, high):
                return f"Percentiles {low:g} to {high:g}"
        return self.presets()[self.kind]

    def limits(self, volume: Volume) -> tuple[float, float]:
        """The grey values of an image that become 0 and 255; pass them to `apply`.

        Colour images ignore the window: they are taken as they are.
        """
        if volume.channels == 3:
            return _own_range(volume)
        match self.kind, self.values:
            case "displayed", (low, high):
                return low, high
            case "custom", (level, width):
                return level - width / 2, level + width / 2
            case "percentiles", quantiles:
                measured = _MEASURED.setdefault(volume, {})
                if quantiles not in measured:
                    measured[quantiles] = positive_percentiles(volume.sample, quantiles)
                low, high = measured[quantiles]
                return (low, high) if low < high else volume.extremes
            case "as-is", _:
                return _own_range(volume)
        _, level, width = _CT[self.kind]
        return level - width / 2, level + width / 2

    def apply(self, array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        """Any part of the image, clipped to the limits and scaled to 0..255, fractions cut off.

        Parameters
        ----------
        array : ndarray
            Voxels, any shape and real dtype.
        limits : tuple of float
            From `limits` of the whole image, so that all parts of it are treated alike.

        Returns
        -------
        ndarray of uint8
            Of the same shape; the array itself where nothing changes.
        """
        if array.dtype == np.uint8 and tuple(limits) == (0.0, 255.0):
            return array
        if array.dtype.kind in "iu" and array.dtype.itemsize <= 2 and array.size > _TABLE:
            values = np.iinfo(array.dtype)
            table = self._scaled(np.arange(values.min, values.max + 1, dtype=array.dtype), limits)
            return np.roll(table, values.min)[array.view(f"u{array.dtype.itemsize}")]  # negative values come last
        return self._scaled(array, limits)

    def _scaled(self, array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        low, high = limits
        scaled = (np.clip(array, low, high, dtype=float) - low) / max(high - low, 1e-8) * 255.0
        result = scaled.astype(np.uint8)
        if self.kind == "percentiles":
            result[array == 0] = 0
        return result

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, ready for ``json.dumps``."""
        return {"kind": self.kind, "values": list(self.values)}

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Window:
        """The inverse of `to_json`; InputError for anything that is not one."""
        try:
            return cls(item["kind"], tuple(item["values"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"Not a window: {str(item)[:80]} ({error!r}).") from None


def luma(array: np.ndarray) -> np.ndarray:
    """Colours as grey: red, green and blue along the last axis, weighted as in ITU-R BT.601.

    Parameters
    ----------
    array : ndarray, (..., 3)

    Returns
    -------
    ndarray of float32, (...)
    """
    return np.asarray(array, np.float32) @ np.array(LUMA, np.float32)


def positive_percentiles(array: np.ndarray, quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """Percentiles (NumPy's, linear between order statistics) of the voxels above 0; of all if none is."""
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        counts = _histogram(array)
        if counts.any():
            return tuple(quantile_of_counts(counts, q / 100) for q in quantiles)
    positive = array[array > 0]
    return tuple(float(v) for v in np.percentile(positive if positive.size else array, quantiles))


def _histogram(array: np.ndarray) -> np.ndarray:
    """How many voxels have the value 0, 1, 2, ...; 0 and negative values are not counted."""
    top = np.iinfo(array.dtype).max
    counts = np.zeros(top + 1, np.int64)
    for part in array if array.ndim > 2 else [array]:  # slice by slice: bincount widens its input to 64 bits
        counts += np.bincount(np.maximum(part, 0).ravel(), minlength=top + 1)
    counts[0] = 0
    return counts


def quantile_of_counts(counts: np.ndarray, fraction: float) -> float:
    """The quantile that `numpy.percentile` would give for the voxels of a histogram, to the last bit."""
    below = counts.cumsum()
    position = (int(below[-1]) - 1) * fraction
    lower = int(position)
    a, b = (int(np.searchsorted(below, rank, side="right")) for rank in (lower, min(lower + 1, int(below[-1]) - 1)))
    part = position - lower
    return a + (b - a) * part if part < 0.5 else b - (b - a) * (1 - part)


def _own_range(volume: Volume) -> tuple[float, float]:
    """0 to 255 for 8-bit values, 0 to 1 for fractions, else the extremes."""
    low, high = volume.extremes
    if volume.dtype.kind == "f" and low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, 255.0) if low >= 0 and high <= 255 else (low, high)
