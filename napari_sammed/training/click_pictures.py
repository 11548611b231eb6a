"""What the click network is trained on: pictures, encoded once by LiteMedSAM's image encoder and kept in a folder.

    python -m napari_sammed.training.click_pictures DATA FOLDER --count 1200

`DATA` holds one folder a volume (`image.*`, `labels.*`). Picture number i is the same on every machine and in every
order; those that are there already are not made again, so that several processes, or several evenings, can share the
work.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage import data as photographs

from napari_sammed.intensity import Window
from napari_sammed.models.base import Embedding
from napari_sammed.models.litemedsam import LiteMedSAM
from napari_sammed.prompts import Prompts
from napari_sammed.training.invented import invent
from napari_sammed.training.pictures import LEAST, SIDE, Picture, Source
from napari_sammed.training.stable_masks import stable_masks
from napari_sammed.volume import Volume, read_volume, resample_labels

logger = logging.getLogger(__name__)

SEED = 20261128
ODD = 10_000
"""Pictures from this number on are of invented rings, bands and trees."""
FLAT = 20_000
"""Pictures from this number on are parts of flat images and photographs."""

_EVERY = (0, 1, 2)

# Of the labels of a brain atlas only those whose edges can be seen: deep nuclei, hippocampi, cerebellum, hemispheres.
_DEEP = [[n] for n in (37, 38, 41, 42, 71, 72, 73, 74, 77, 78)]
_BRAIN_PARTS = [*_DEEP, list(range(91, 117)), list(range(1, 91, 2)), list(range(2, 91, 2)), list(range(1, 117))]

# Names in `DATA`, how often they are taken, and their settings. Classes A and B of the licences only. What is missing
# here and below is kept to measure on: the CT series, the abdominal MR, the oblique cord, and nine flat images.
VOLUMES = (
    ("3d_ct_torso_multiorgan", 4.0, {"kind": "ct", "planes": _EVERY}),
    ("3d_ct_torso_vertebrae", 1.5, {"kind": "ct", "planes": _EVERY}),
    ("3d_mr_brain_colin27_aal", 1.5, {"kind": "mr", "planes": _EVERY, "groups": _BRAIN_PARTS, "single": False}),
    ("3d_ct_lung_mha", 1.0, {"kind": "ct", "planes": _EVERY}),
    ("3d_mr_brain_tumour_aniso", 0.7, {"kind": "mr"}),
    ("3d_mr_cord_t2_permuted_axes", 0.5, {"kind": "mr", "planes": _EVERY}),
)
FLAT_IMAGES = ("2d_endoscopy_polyp_a", "2d_us_nerve_vessel_a", "2d_us_nerve_vessel_b", "2d_xray_hip_femur")
# Photographs that scikit-image brings along, in the public domain, CC0 or without known restrictions; without labels.
PHOTOGRAPHS = ("astronaut", "camera", "cell", "chelsea", "coffee", "coins", "hubble_deep_field", "microaneurysms",
               "moon", "retina", "rocket")  # fmt: skip
_INVENTED, _PHOTOGRAPHED = 6.0, 0.8  # how often, beside the volumes


@dataclass(frozen=True)
class Encoded:
    """A picture as the decoder learns from it.

    Parameters
    ----------
    features : ndarray of float16
        ``(256, 64, 64)``.
    masks : ndarray of bool
        ``(n, 256, 256)`` in the network's frame.
    pixels : ndarray of uint8
        ``(rows, columns)`` or ``(rows, columns, 3)``.
    """

    features: np.ndarray
    masks: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, picture: Picture, embedding: Embedding) -> Encoded:
        """A picture, and LiteMedSAM's embedding of it."""
        masks = picture.masks
        frames = np.zeros((len(masks), SIDE, SIDE), bool)
        frames[:, : masks.shape[1], : masks.shape[2]] = masks
        return cls(embedding.features[0].half().cpu().numpy(), frames, picture.pixels)

    @classmethod
    def read(cls, path: Path) -> Encoded:
        with np.load(path, allow_pickle=False) as kept:
            masks = np.unpackbits(kept["masks"], axis=-1).astype(bool)
            return cls(kept["features"], masks, kept["pixels"])

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        part = path.with_suffix(f".{os.getpid()}")
        with part.open("wb") as file:
            np.savez(file, features=self.features, masks=np.packbits(self.masks, axis=-1), pixels=self.pixels)
        part.rename(path)


def encode(model: LiteMedSAM, image: Volume) -> Embedding:
    """Of a flat 8-bit image."""
    return model.embed(image, model.plan(image.grid, Prompts(), None), Window("as-is"))


class Painter:
    """Makes the pictures of the recipe."""

    def __init__(self, folder: Path, model: LiteMedSAM) -> None:
        self._model = model
        self._sources = [_source(folder / name, settings) for name, _, settings in VOLUMES]
        self._flat = [_source(folder / name, {"kind": "8-bit"}) for name in FLAT_IMAGES]
        shares = np.array([share for _, share, _ in VOLUMES] + [_PHOTOGRAPHED, _INVENTED])
        self._shares = shares / shares.sum()

    def encoded(self, number: int) -> Encoded:
        """Picture `number`; one without any mask is replaced by the next draw."""
        random = np.random.default_rng([SEED, number])
        while True:
            picture, labelled = self._picture(random, number)
            image = Volume.from_array(picture.pixels, rgb=picture.pixels.ndim > 2)
            if not labelled or (len(picture.masks) < 3 and not ODD <= number < FLAT):
                embedding = self._embed(image)
                found = stable_masks(self._model, embedding, picture.pixels, random)
                found = found[found.sum(axis=(1, 2)) >= LEAST]
                masks = np.concatenate([picture.masks, found])
            elif len(picture.masks):
                embedding, masks = self._embed(image), picture.masks
            if len(masks):
                return Encoded.of(Picture(picture.pixels, masks), embedding)

    def _picture(self, random: np.random.Generator, number: int) -> tuple[Picture, bool]:
        """A picture, and whether what can be seen in it has labels."""
        if number >= FLAT:
            choice = int(random.integers(len(self._flat) + 2))
            if choice < len(self._flat):
                return self._flat[choice].picture(random), False
            return self._photograph(random), False
        if number >= ODD:
            return invent(random, odd=True), True
        choice = int(random.choice(len(self._shares), p=self._shares))
        if choice < len(self._sources):
            return self._sources[choice].picture(random), True
        if choice == len(self._sources):
            return self._photograph(random), False
        anatomy = None
        if random.random() < 0.4:
            source = self._sources[int(random.choice([0, 2]))]
            anatomy = source.labels[int(random.integers(len(source.labels)))]
        return invent(random, anatomy if anatomy is not None and anatomy.any() else None), True

    def _photograph(self, random: np.random.Generator) -> Picture:
        pixels = getattr(photographs, PHOTOGRAPHS[int(random.integers(len(PHOTOGRAPHS)))])()
        whole = np.ones(pixels.shape[:2], np.uint8)
        return Source(pixels, whole, (1.0, 1.0), "8-bit", single=False).picture(random)

    def _embed(self, image: Volume) -> Embedding:
        return encode(self._model, image)


def _source(folder: Path, settings: dict) -> Source:
    image = read_volume(next(path for path in sorted(folder.glob("image.*"))))
    labels = read_volume(next(path for path in sorted(folder.glob("labels.*")) if path.suffix != ".json"))
    return Source(image.array, resample_labels(labels, image.grid), image.grid.spacing, **settings)


def path_of(folder: Path, number: int) -> Path:
    """Where picture `number` is kept."""
    return folder / f"{number:05d}.npz"


def make(painter: Callable[[int], Encoded], folder: Path, numbers: Sequence[int]) -> None:
    """Make the pictures that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        path = path_of(folder, number)
        if not path.exists():
            painter(number).write(path)
            logger.info("picture %d", number)


def main() -> None:
    from napari_sammed.models.registry import load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--first", type=int, default=0, help="number of the first picture; for several processes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    painter = Painter(options.data, load("litemedsam"))
    make(painter.encoded, options.folder, range(options.first, options.first + options.count))


if __name__ == "__main__":
    main()
