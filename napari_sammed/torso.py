"""A torso in computed tomography, made on the fly: needs no network, and its labels are exact.

Ellipsoids in millimetres, bent by a slow wave so that nothing is quite symmetric, with edges as soft as a scanner's,
texture and noise. World axes are LPS: x to the patient's left, y to posterior, z to superior; 0 is the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import ndimage

from napari_sammed.geometry import Grid
from napari_sammed.volume import Volume

SHAPE = (100, 128, 168)  # z, y, x
SPACING = (3.0, 2.2, 2.2)  # mm
_EDGE = 2.0  # mm, from one tissue to the next
_NOISE = 14.0  # Hounsfield units
_TEXTURE = 5.0  # Hounsfield units
_AIR, _FAT, _MUSCLE = -1000.0, -100.0, 55.0

NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "liver",
        2: "spleen",
        3: "right kidney",
        4: "left kidney",
        5: "right lung",
        6: "left lung",
        7: "aorta",
        8: "spine",
    }
)


@dataclass(frozen=True)
class _Ellipsoid:
    """Centre and half-axes in mm, order x, y, z."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def depth(self, places: np.ndarray) -> np.ndarray:
        """About how deep (mm, negative outside) places (3, ...) lie in it; exact on its surface."""
        shape = (3, *(1,) * (places.ndim - 1))
        scaled = (places - np.reshape(self.centre, shape)) / np.reshape(self.radii, shape)
        return (1 - np.sqrt((scaled**2).sum(0))) * min(self.radii)


def torso() -> tuple[Volume, np.ndarray]:
    """The image in Hounsfield units (int16) and its labels (uint8, `NAMES`), both (100, 128, 168); always the same."""
    grid = _grid()
    places = _bent(np.moveaxis(grid.to_world(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0))
    hounsfield = np.full(SHAPE, _AIR)
    labels = np.zeros(SHAPE, np.uint8)
    for depth, value, label in _tissues(places):
        share = np.clip(depth / _EDGE + 0.5, 0, 1)
        hounsfield += share * (value - hounsfield)
        if label is not None:
            labels[share > 0.5] = label
    rng = np.random.default_rng(2026)
    inside = hounsfield > _AIR / 2
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2.0)
    hounsfield += _TEXTURE * texture / texture.std() * inside
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), (0.3, 0.6, 0.6))
    hounsfield += _NOISE * noise / noise.std()
    image = np.clip(np.rint(hounsfield), -1024, 3071).astype(np.int16)
    return Volume(image, grid, name="torso", modality="CT"), labels


def _grid() -> Grid:
    plain = Grid.plain(SHAPE, SPACING)
    middle = plain.to_world((np.array(SHAPE) - 1) / 2)
    return Grid(SHAPE, SPACING, tuple(-middle), plain.direction)


def _bent(places: np.ndarray) -> np.ndarray:
    """Places (3, ...) moved by up to 6 mm, as a slow function of where they are."""
    x, y, z = places
    wave = (
        4 * np.sin(z / 47 + 0.5) + 2 * np.sin(y / 29),
        3 * np.sin(x / 41 + 1.0) + 2 * np.sin(z / 31),
        4 * np.sin(x / 53) + 3 * np.sin(y / 37 + 2.0),
    )
    return places + np.stack(wave)


def _tissues(places: np.ndarray) -> list[tuple[np.ndarray, float, int | None]]:
    """Depth, Hounsfield units and label of each tissue; later ones lie over earlier ones. None keeps the label."""
    x, y, z = places

    def tube(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Depth in an elliptic cylinder along z."""
        return (1 - np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])) * min(radii)

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return _Ellipsoid(centre, radii).depth(places)

    lungs_bottom = 44 - 0.0016 * (x**2 + y**2)  # the diaphragm's domes
    cavity = tube((0, -8), (126, 80))
    liver = np.minimum(
        np.maximum(ellipsoid((-62, -12, -4), (66, 62, 62)), ellipsoid((10, -46, 8), (58, 30, 26))), cavity
    )
    hilum = -ellipsoid((24, -34, 78), (54, 44, 48))  # room for the heart
    lungs = {
        5: np.minimum(ellipsoid((-64, -4, 40), (52, 66, 130)), z - lungs_bottom),
        6: np.minimum(np.minimum(ellipsoid((66, -2, 40), (50, 64, 130)), z - lungs_bottom), hilum),
    }
    vertebrae = 7 * np.abs(np.sin(np.pi * z / 32))  # waists between the vertebrae
    column = tube((0, 58), (19, 16)) - 5 + 0.7 * vertebrae
    canal = tube((0, 80), (9, 8))
    spinous = np.minimum(tube((0, 90), (5, 17)), vertebrae - 2)
    transverse = np.minimum(tube((0, 76), (30, 5)), vertebrae - 3)
    arch = tube((0, 80), (14, 12))
    spine = np.maximum.reduce([column, arch, spinous, transverse])
    pelvis_of_kidney = [ellipsoid((side * 44, 36, -52), (9, 8, 16)) for side in (-1, 1)]
    return [
        (tube((0, 0), (164, 112)), _FAT, None),
        (tube((0, 0), (147, 97)), _MUSCLE, None),
        (cavity, -90.0, None),
        (np.minimum(ellipsoid((26, -36, 78), (50, 42, 46)), cavity), 130.0, None),  # heart
        (ellipsoid((48, -34, -8), (34, 30, 38)), 30.0, None),  # stomach
        (np.maximum(ellipsoid((-10, -40, -86), (70, 32, 30)), ellipsoid((30, -28, -64), (50, 30, 24))), 35.0, None),
        (lungs[5], -840.0, 5),
        (lungs[6], -840.0, 6),
        (np.minimum(liver, lungs_bottom - z), 108.0, 1),
        (np.minimum(ellipsoid((88, 34, 6), (27, 36, 40)), lungs_bottom - z), 128.0, 2),
        (ellipsoid((-56, 40, -52), (24, 23, 50)), 190.0, 3),
        (ellipsoid((56, 40, -46), (24, 23, 50)), 190.0, 4),
        (pelvis_of_kidney[0], -60.0, 0),
        (pelvis_of_kidney[1], -60.0, 0),
        (tube((-24, 30), (11, 10)), 95.0, 0),  # inferior vena cava
        (tube((14, 32), (11, 11)), 165.0, 7),
        (spine, 520.0, 8),
        (column - 4, 230.0, 8),
        (canal, 30.0, 0),
    ]
