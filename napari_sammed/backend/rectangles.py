"""Rectangles on a slice with edges between pixels: the boxes of the ladder before they are rounded to voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rectangle:
    """Edges in rows and columns of a slice; row i reaches from i to i + 1."""

    top: float
    left: float
    bottom: float
    right: float

    @classmethod
    def centred(cls, centre: np.ndarray, sides: np.ndarray) -> Rectangle:
        """Of a centre and the lengths of its sides, both (rows, columns)."""
        return cls(*(centre - sides / 2), *(centre + sides / 2))

    @property
    def sides(self) -> np.ndarray:
        """Height and width."""
        return np.array([self.bottom - self.top, self.right - self.left])

    @property
    def centre(self) -> np.ndarray:
        return np.array([self.top + self.bottom, self.left + self.right]) / 2

    def stretched(self, factor: float) -> Rectangle:
        """With the same centre and `factor` times as long sides."""
        return Rectangle.centred(self.centre, self.sides * factor)

    def reshaped(self, shape: float) -> Rectangle:
        """Of the same area and centre, ``shape`` times as high against its width."""
        return Rectangle.centred(self.centre, self.sides * np.array([shape, 1 / shape]) ** 0.5)

    def holds(self, points: np.ndarray) -> bool:
        """Whether all points, (2,) or (N, 2), lie strictly inside."""
        low, high = np.array([self.top, self.left]), np.array([self.bottom, self.right])
        return bool(((points > low) & (points < high)).all())

    def cuts(self, point: np.ndarray) -> list[Rectangle]:
        """What is left above, below, left and right of a point inside."""
        if not self.holds(point):
            return []
        row, column = point
        return [
            Rectangle(self.top, self.left, row, self.right),
            Rectangle(row, self.left, self.bottom, self.right),
            Rectangle(self.top, self.left, self.bottom, column),
            Rectangle(self.top, column, self.bottom, self.right),
        ]


def squares(centre: np.ndarray, least: np.ndarray, sides: Sequence[np.ndarray]) -> list[Rectangle]:
    """Rectangles around a centre with the given sides, none smaller than `least`."""
    return [Rectangle.centred(centre, np.maximum(side, least)) for side in sides]
