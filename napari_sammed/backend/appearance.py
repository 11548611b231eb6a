"""What an object looks like: how likely a grey value belongs to it rather than to its surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.special import logit

_BINS = 32
_RING = 4  # pixels around the object that count as its surroundings
_DOUBT = 1e-3  # added to each share of a bin, so that values never seen tell nothing
_LEAST, _MOST = 0.02, 0.98  # no grey value alone decides
_BLUR = 0.7  # pixels; evens out noise without moving edges


class Appearance:
    """Histograms of an object's pixels and of those around it, on the slices where it is known.

    Between two slices of a scan a shape changes, the grey values of an organ hardly do: they tell a leak from growth.

    Parameters
    ----------
    slices : sequence of (ndarray, ndarray of bool)
        Grey values of a slice and the object on it, both (rows, columns). Grey values may be NaN.
    """

    def __init__(self, slices: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        inside = _known([pixels[mask] for pixels, mask in slices])
        around = _known([pixels[_ring(mask)] for pixels, mask in slices])
        low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 0.0)
        self._low, self._width = 2 * low - high, 3 * (high - low)  # the object's range, and once more on either side
        shares = [ndimage.gaussian_filter1d(self._histogram(values), 1.0) + _DOUBT for values in (inside, around)]
        self._probability = shares[0] / (shares[0] + shares[1])

    def log_odds(self, pixels: np.ndarray) -> np.ndarray:
        """Log odds of belonging to the object by grey value alone, slightly smoothed.

        Parameters
        ----------
        pixels : ndarray
            Grey values of a slice, (rows, columns).

        Returns
        -------
        ndarray of float
            Same shape; 0 where the grey value tells nothing.
        """
        probability = np.where(np.isfinite(pixels), self._probability[self._bins(pixels)], 0.5)
        return ndimage.gaussian_filter(logit(np.clip(probability, _LEAST, _MOST)), _BLUR)

    def _bins(self, values: np.ndarray) -> np.ndarray:
        if self._width <= 0:
            return np.zeros(values.shape, int)
        place = np.nan_to_num((values - self._low) / self._width, nan=0.0)
        return np.clip(place * _BINS, 0, _BINS - 1).astype(int)

    def _histogram(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._bins(values), minlength=_BINS) / max(values.size, 1)


def _ring(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(mask, iterations=_RING) & ~mask


def _known(parts: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(parts).astype(float)
    return values[np.isfinite(values)]
