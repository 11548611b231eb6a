"""The images that a monkey works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from napari_sammed.volume import Volume, write_volume
from tests.phantoms import two_balls

_AFFINE = np.array([[2.0, 0, 0, 5], [0, 0.8, 0.3, -7], [0, -0.3, 0.8, 11], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Scene:
    """An image as `add_image` takes it, read by region in chunks if there is a size for them."""

    name: str
    array: np.ndarray
    layer: dict[str, Any] = field(default_factory=dict)
    chunks: tuple[int, ...] = ()


def scenes(random: Random) -> list[Scene]:
    """Images of all kinds, each time others by their grey values, so that none continues an older session."""

    def grey(shape: tuple[int, ...], kind: type) -> np.ndarray:
        array = np.array(two_balls(shape)[0].array)
        array += random.uniform(0, 0.5)
        return np.rint(array).astype(kind) if kind is np.int16 else array.astype(kind)

    flat = np.clip(grey((60, 80), np.float32), 0, 255).astype(np.uint8)
    colour = np.repeat(flat[..., None], 3, axis=-1)
    colour[0, 0] = random.randrange(256), random.randrange(256), random.randrange(256)
    flat[0, :8] = [random.randrange(256) for _ in range(8)]
    return [
        Scene("flat", flat, {"scale": (0.5, 0.7)}),
        Scene("volume", grey((20, 40, 50), np.float32), {"scale": (3, 1, 1)}),
        Scene("colour", colour, {"rgb": True}),
        Scene("oblique", grey((18, 44, 40), np.float32), {"affine": _AFFINE, "translate": (4, 5, 6)}),
        Scene("flipped", grey((24, 30, 36), np.int16), {"scale": (3, 1, -1), "translate": (0, 9, 0)}),
        Scene("large", grey((48, 160, 160), np.float32), {"scale": (2.5, 0.7, 0.7)}),
        Scene("times", np.stack([grey((10, 32, 40), np.float32) for _ in range(3)]), {"scale": (1, 3, 1, 1)}),
        Scene(
            "channels",
            np.stack([grey((48, 56), np.float32) for _ in range(3)]),
            {"axis_labels": ("c", "y", "x"), "scale": (1, 0.6, 0.6)},
        ),
        Scene("region", grey((16, 90, 120), np.float32), {"scale": (3, 1, 1)}, chunks=(4, 64, 64)),
    ]


def folder_of_images(folder: Path, random: Random) -> None:
    """Small images in files: two volumes, a picture, and one that cannot be read."""
    import imageio.v3 as imageio

    folder.mkdir(parents=True)
    for name in ("b.nii.gz", "c.nii.gz"):
        array = np.array(two_balls((12, 30, 34))[0].array)
        array = np.rint(array + random.uniform(0, 90)).astype(np.int16)
        write_volume(Volume.from_array(array, (3.0, 1.0, 1.0)), folder / name)
    flat = np.clip(np.array(two_balls((60, 80))[0].array), 0, 255).astype(np.uint8)
    flat[0, :8] = [random.randrange(256) for _ in range(8)]
    imageio.imwrite(folder / "a.png", flat)
    (folder / "d.nii.gz").write_bytes(b"broken")
