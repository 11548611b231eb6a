"""Invented anatomy: shapes that no scanner has seen, with grey values, textures and colours drawn by lot.

After SynthSeg's idea (Billot et al., Medical Image Analysis 86, 2023) that a network which has seen any contrast minds
none: label maps, real and deformed or made of blobs, are painted at random.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_sammed.training.pictures import SIDE, Picture, disturbed, fitted, largest, smooth_noise

_SPECKS = 12  # labels that a map keeps


def invent(random: np.random.Generator, anatomy: np.ndarray | None = None, *, odd: bool = False) -> Picture:
    """A picture with its masks.

    Parameters
    ----------
    random : Generator
    anatomy : ndarray of int, optional
        A label map (rows, columns) to deform; without, blobs.
    odd : bool
        Shapes that no box describes: rings, bands, trees of vessels.
    """
    shape = tuple(int(n) for n in random.integers(160, SIDE + 1, 2))
    if anatomy is not None:
        labels = _deformed(anatomy, shape, random)
    else:
        labels = _odd_shapes(shape, random) if odd else _blobs(shape, random)
    values, kept = _painted(labels, random)
    masks = [labels == value for value in kept]
    masks += [largest(mask) for mask in masks if random.random() < 0.5]
    stack = np.stack(masks) if masks else np.zeros((0, *shape), bool)
    return fitted(disturbed(values, random), stack)


def _blobs(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Label map of overlapping shapes: bent ellipses, islands of noise, tubes; sometimes one large one alone."""
    labels = np.zeros(shape, np.int32)
    count = 1 if random.random() < 0.25 else int(random.integers(2, _SPECKS))
    if random.random() < 0.4:  # a body that the rest lies in
        labels[_ellipse(shape, random, (0.6, 1.0))] = 1
    for value in range(2, count + 2):
        kind = random.random()
        if kind < 0.55:
            labels[_ellipse(shape, random, (0.05, 0.5) if count > 1 else (0.2, 0.7))] = value
        elif kind < 0.8:
            field = smooth_noise(shape, random.uniform(15, 80), random)
            labels[largest(field > random.uniform(0.6, 1.5))] = value
        else:
            labels[_tube(shape, random)] = value
    return labels


def _odd_shapes(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Label map of one to four rings, bands and trees, among a few blobs."""
    labels = np.zeros(shape, np.int32)
    if random.random() < 0.5:
        labels[_ellipse(shape, random, (0.6, 1.0))] = 1
    for value in range(2, int(random.integers(2, 6))):
        labels[_ellipse(shape, random, (0.05, 0.3))] = value
    for value in range(10, 10 + int(random.integers(1, 4))):
        kind = random.random()
        if kind < 0.4:
            mask = _ellipse(shape, random, (0.15, 0.6))
            depth = ndimage.distance_transform_edt(mask)
            cavity = depth > random.uniform(0.25, 0.6) * depth.max()
            labels[mask] = value
            labels[cavity] = value + 10 if random.random() < 0.7 else 1
        elif kind < 0.7:
            labels[_tube(shape, random, (5, 25))] = value
        else:
            labels[_tree(shape, random)] = value
    return labels


def _tree(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """A tree of vessels: branches leave a stem, thinner and shorter each time."""
    lines = np.ones(shape, bool)
    width = np.zeros(shape)
    start = random.uniform(0, 1, 2) * shape
    twigs = [(start, random.uniform(0, 2 * np.pi), random.uniform(2, 5), max(shape) * random.uniform(0.3, 0.7), 0)]
    while twigs:
        place, angle, radius, length, depth = twigs.pop()
        for _ in range(int(length)):
            angle += random.normal(0, 0.08)
            place = place + np.array([np.sin(angle), np.cos(angle)])
            row, column = place.astype(int)
            if not (0 <= row < shape[0] and 0 <= column < shape[1]):
                break
            lines[row, column], width[row, column] = False, max(radius, width[row, column])
            if depth < 3 and random.random() < 2.5 / length:
                turn = angle + random.choice([-1, 1]) * random.uniform(0.4, 1.2)
                twigs.append((place, turn, max(0.65 * radius, 0.8), 0.7 * length, depth + 1))
    distance, nearest = ndimage.distance_transform_edt(lines, return_indices=True)
    return distance <= width[tuple(nearest)]


def _ellipse(shape: tuple[int, ...], random: np.random.Generator, sizes: tuple[float, float]) -> np.ndarray:
    """An ellipse with a wavy edge; `sizes` are shares of the picture's longer side, of its longer diameter."""
    rows, columns = np.indices(shape)
    centre = random.uniform(0.1, 0.9, 2) * shape
    half = max(shape) * np.exp(random.uniform(*np.log(sizes))) / 2
    short = half * random.uniform(0.35, 1)
    angle = random.uniform(0, np.pi)
    y, x = rows - centre[0], columns - centre[1]
    u, v = (np.cos(angle) * y + np.sin(angle) * x) / half, (np.cos(angle) * x - np.sin(angle) * y) / short
    theta = np.arctan2(v, u)
    wave = sum(random.normal(0, 0.12 / k) * np.cos(k * theta + random.uniform(0, 6.3)) for k in range(2, 6))
    return np.hypot(u, v) < 1 + wave


def _tube(shape: tuple[int, ...], random: np.random.Generator, radii: tuple[float, float] = (1.5, 12)) -> np.ndarray:
    """A winding vessel, or a band."""
    time = np.linspace(0, 1, 200)[:, None]
    start, stop = random.uniform(0, 1, (2, 2))
    bend = np.stack([np.sin(np.pi * k * time[:, 0]) for k in (1, 2, 3)], axis=1) @ random.normal(0, 0.15, (3, 2))
    line = ((start + (stop - start) * time + bend) * shape).astype(int)
    inside = ((line >= 0) & (line < shape)).all(axis=1)
    mask = np.ones(shape, bool)
    mask[tuple(line[inside].T)] = False
    return ndimage.distance_transform_edt(mask) < random.uniform(*radii)


def _deformed(anatomy: np.ndarray, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """A label map stretched, turned and bent."""
    angle, zoom = random.normal(0, 0.3), np.exp(random.normal(0, 0.25))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    scale = max(anatomy.shape) / max(shape)
    places = np.indices(shape).reshape(2, -1).astype(float) - (np.array(shape)[:, None] - 1) / 2
    for axis in (0, 1):
        bend = smooth_noise(shape, random.uniform(20, 80), random).ravel()
        places[axis] += bend * random.uniform(0, 6)
    places = turn @ places * scale + (np.array(anatomy.shape)[:, None] - 1) / 2
    return ndimage.map_coordinates(anatomy, places, order=0).reshape(shape)


def _painted(labels: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Values 0..1, grey or in colours, and the labels that can be told from what they touch."""
    channels = 3 if random.random() < 0.4 else 1
    values = np.zeros((*labels.shape, channels))
    present = [int(value) for value in np.unique(labels)]
    colours = {value: random.uniform(0.05, 0.95, channels) for value in present}
    for value, colour in colours.items():
        inside = labels == value
        grain = smooth_noise(labels.shape, random.uniform(1, 4), random) * random.uniform(0, 0.1)
        patches = smooth_noise(labels.shape, random.uniform(8, 40), random) * random.uniform(0, 0.08)
        values[inside] = (colour + (grain + patches)[..., None])[inside]
    values = ndimage.gaussian_filter(values, (random.uniform(0.4, 1.6),) * 2 + (0,))
    kept = []
    for value in present:
        inside = labels == value
        rim = ndimage.binary_dilation(inside, iterations=2) & ~inside
        if value and rim.any():
            around = values[rim].mean(axis=0)
            if np.abs(values[inside].mean(axis=0) - around).max() > 0.08:
                kept.append(value)
    return (values if channels == 3 else values[..., 0]), kept
