"""SAMed: organs in abdominal CT without prompts, slice by slice (hitachinsk/SAMed, MIT).

The steps are those of the official ``utils.test_single_volume`` and ``preprocess_data.py``: Hounsfield units -125 to
275 become 0 to 1; the slice is brought to 224 x 224 and from there to the network's 512 x 512, both with SciPy's cubic
splines; of the class maps, enlarged bilinearly, the largest wins; labels go back to the slice with SciPy's nearest.

The official data preparation reads the files of the Synapse (BTCV) challenge with nibabel and transposes them, so that
rows are the second axis of the file and columns the first. Printed headers of these files say left, anterior, superior
(TorchIO issue 1300, a direction of 1, -1, 1 in MONAI research-contributions issue 419): training slices have the
patient's *back* up and left side on the right. Slices are brought there; half of the training slices were turned or
mirrored at random, so a mistake in this would cost little.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from napari_sammed.errors import Cancelled, InputError
from napari_sammed.geometry import Box
from napari_sammed.intensity import Window
from napari_sammed.models import registry
from napari_sammed.models.axial import AxialView
from napari_sammed.models.base import LabelMap
from napari_sammed.models.class_names import SYNAPSE
from napari_sammed.networks import optimized
from napari_sammed.volume import Volume

if TYPE_CHECKING:
    from napari_sammed.networks import PromptableNetwork

TRAINED_WINDOW = Window.custom(75, 400)
"""Hounsfield units -125 to 275."""

_BATCH = 4  # slices at once


class SAMed:
    """A `napari_sammed.models.base.AutomaticModel`.

    Parameters
    ----------
    network : PromptableNetwork
        ``networks.create("samed")`` (or ``"samed_s"``, ``"samed_h"``) with its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    classes : sequence of str, optional
        Names of classes 1, 2, ...; without, eight classes are the organs of the Synapse challenge, others are numbered.
    sampled_size : int
        Rows, and columns, to which slices are brought first; 224 in the published training.
    window : Window
        In which images that are not 8-bit were seen in training.
    dtype : torch.dtype
        In which the image encoder multiplies matrices, see `napari_sammed.networks.optimized`.

    Raises
    ------
    InputError
        If there are more or fewer names than classes: the decoder has a map more, for the background.
    """

    has_half_precision = True
    """Whether `dtype` is an argument."""

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        classes: Sequence[str] | None = None,
        *,
        sampled_size: int = 224,
        window: Window = TRAINED_WINDOW,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        count = network.mask_decoder.num_mask_tokens - 1
        if classes is None:
            classes = SYNAPSE if count == len(SYNAPSE) else [f"class {number}" for number in range(1, count + 1)]
        if len(classes) != count:
            raise InputError(f"These weights know {count} classes beside the background, not {len(classes)}.")
        self.card = registry.card("samed")
        self.classes = tuple(classes)
        self.weights_hash = weights_hash
        self.device = torch.device(device)
        self.network = optimized(network.to(self.device).eval(), dtype)
        self.side = self.network.prompt_encoder.input_size[0]
        self.sampled_size = sampled_size
        self.window = window

    def segment(
        self,
        image: Volume,
        within: Box | None = None,
        window: Window | None = None,
        progress: Callable[[str, float], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> LabelMap:
        """Label an image or a volume; see `napari_sammed.models.base.AutomaticModel.segment`.

        The network always sees whole axial slices, which it was trained on: `within` says which of them, and which
        part of their labels is wanted. Without a window it is that of the training; 8-bit images, which cannot be in
        Hounsfield units, are taken as they are.
        """
        box = image.grid.box if within is None else within.intersect(image.grid.box)
        if box is None:
            raise InputError(
                f"The region from {within.low} to {within.high} lies outside the image of shape {image.grid.shape}."
            )
        view = AxialView.of(image.grid, rows="A", columns="L")
        if not image.in_memory:
            slab = _whole_slices(image, box, view.axes[0])
            found = self.segment(
                Volume(image.part(slab), image.grid.crop(slab), image.name, image.modality),
                box.shift([-low for low in slab.low]), window, progress, cancel,
            )  # fmt: skip
            return LabelMap(found.labels, box, self.classes)
        slices, *part = view.turn_box(box, image.grid)
        stack = view.turn(_grey(image))[slices]
        _check_finite(stack)
        if window is None:
            window = Window.preset("as-is") if image.dtype == np.uint8 else self.window
        limits = window.limits(image)
        labels = np.zeros(box.shape, np.uint8)
        turned = view.turn(labels)
        for start in range(0, len(stack), _BATCH):
            if cancel is not None and cancel.is_set():
                raise Cancelled
            if progress is not None:
                progress(f"labelling slice {start + 1} of {len(stack)}", start / len(stack))
            pixels = [scaled(plane, window, limits) for plane in stack[start : start + _BATCH]]
            for index, label in enumerate(self.label(pixels), start):
                turned[index] = label[tuple(part)]
        return LabelMap(labels, box, self.classes)

    @torch.inference_mode()
    def label(self, slices: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Classes, uint8, of equally large slices of grey values 0 to 1, in the orientation of the training."""
        inputs = np.stack([to_frame(pixels, self.sampled_size, self.side) for pixels in slices])
        images = torch.from_numpy(inputs)[:, None].to(self.device).expand(-1, 3, -1, -1)
        sparse, dense = self.network.prompt_encoder(points=None, boxes=None, masks=None)
        maps, _ = self.network.mask_decoder(
            image_embeddings=self.network.image_encoder(images),
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        maps = F.interpolate(maps.float(), (self.side, self.side), mode="bilinear", align_corners=False)
        classes = maps.argmax(dim=1).to(torch.uint8).cpu().numpy()
        return [zoom(found, pixels.shape, order=0) for found, pixels in zip(classes, slices, strict=True)]


def scaled(pixels: np.ndarray, window: Window, limits: tuple[float, float]) -> np.ndarray:
    """Grey values of a slice as float32, 0 to 1 between the limits of a window for the *whole* image.

    Unlike `Window.apply` it keeps fractions of grey levels, as SAMed's training did.
    """
    low, high = limits
    values = (np.clip(pixels.astype(np.float32), low, high) - np.float32(low)) / np.float32(max(high - low, 1e-8))
    if window.kind == "percentiles":
        values[pixels == 0] = 0
    return values


def to_frame(pixels: np.ndarray, sampled_size: int, side: int) -> np.ndarray:
    """The network's input of a slice, float32 (side, side): by way of a smaller square, as in training."""
    return zoom(zoom(pixels, (sampled_size, sampled_size), order=3), (side, side), order=3).astype(np.float32)


def zoom(pixels: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    """Resize with SciPy's splines; the centres of the corner pixels stay where they are."""
    if pixels.shape == tuple(shape):
        return pixels
    return ndimage.zoom(pixels, [new / old for new, old in zip(shape, pixels.shape, strict=True)], order=order)


def _whole_slices(image: Volume, box: Box, axis: int) -> Box:
    """The slices across an axis that a box reaches into."""
    if image.grid.ndim == 2:
        return image.grid.box
    low, high = list(image.grid.box.low), list(image.grid.box.high)
    low[axis], high[axis] = box.low[axis], box.high[axis]
    return Box(tuple(low), tuple(high))


def _grey(image: Volume) -> np.ndarray:
    """The image's voxels; of colour images the one channel if all are equal."""
    if image.channels == 1:
        return image.array
    first = image.array[..., 0]
    if not all(np.array_equal(first, image.array[..., channel]) for channel in (1, 2)):
        raise InputError("SAMed labels grey CT slices, and this image is in colour: choose another model.")
    return first


def _check_finite(stack: np.ndarray) -> None:
    if stack.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in stack):
        raise InputError("The image has voxels that are NaN or infinite: replace them before labelling it.")
