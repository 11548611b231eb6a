"""SegVol: points and boxes in CT volumes, seen whole in one window of 32 x 256 x 256, then in windows one to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.models import registry
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.planar import united
from napari_sammed.models.segvol_windows import WindowRegion, measured, network_input, widened
from napari_sammed.models.stability import stability_score
from napari_sammed.models.windows import covering
from napari_sammed.models.zooming import WindowPrompts
from napari_sammed.networks import optimized
from napari_sammed.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume


class SegVol:
    """A `napari_sammed.models.base.ZoomingModel` for volumes, which it takes in the order of the file.

    The official code asks for an orientation to RAS, which has no effect there, and does not look at the spacing:
    neither does this. Arrays of this package have the axes that it swaps its own to, (z, y, x) in the order of the
    file. What the network sees for the same image and prompts is what it sees there. Around it:

    - Logits, not masks, come back to the image grid, linearly instead of by nearest samples, in the place that they
      belong to; the official code has no way back to the file.
    - Without a part to look at, the network sees the official crop: the box of all voxels above the lower grey limit.
      It is squeezed or stretched into the window; so are smaller volumes, which the official code pads first and then
      crops again.
    - Clicks and boxes of the user take the place of those that the official code draws from a label.

    Parameters
    ----------
    network : PromptableNetwork
        With its weights loaded; its text branch is not used.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    dtype : torch.dtype
        In which the image encoder multiplies matrices, see `napari_sammed.networks.optimized`.
    """

    has_half_precision = True
    """Whether `dtype` is an argument."""

    zooms_in = True
    """An answer about a whole volume is to be followed by a look at native resolution where it found something.

    That is the published zoom-out-zoom-in. Whoever does it with `windows` can keep negative clicks, move prompts into
    every window, skip windows without prompt or answer, and stay with the components that hold a prompt;
    `napari_sammed.models.segvol_published` does none of this.
    """

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.card = registry.card("segvol")
        self.weights_hash = weights_hash
        self.device = torch.device(device)
        self.network = optimized(network.to(self.device).eval(), dtype)
        self.kept_as = torch.float32 if dtype == torch.float32 else torch.float16
        self.window: tuple[int, ...] = self.network.prompt_encoder.input_size

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> Region:
        """The whole volume, or all of `within`, in one window. Of the whole volume `embed` takes the foreground.

        Raises
        ------
        InputError
            For flat images and parts outside of the image.
        """
        limit = self._part(grid, grid.box if within is None else within)
        return Region.of_box(grid, limit, self.window)

    def windows(self, grid: Grid, part: Box) -> list[Region]:
        """Windows that show a part of a volume voxel by voxel, each half overlapping the next.

        Where the image is smaller than a window, it lies in the middle of zeros, as in the official code.

        Raises
        ------
        InputError
            For flat images and parts outside of the image.
        """
        boxes = covering(self._part(grid, part), self.window, grid.box)
        return [WindowRegion.showing(grid, widened(box, self.window), self.window) for box in boxes]

    def _part(self, grid: Grid, part: Box) -> Box:
        if grid.ndim != 3:
            raise InputError(f"{self.card.title} looks at volumes only: choose a model of flat images for this one.")
        common = part.intersect(grid.box)
        if common is None:
            raise InputError(f"The part from {part.low} to {part.high} lies outside the image of shape {grid.shape}.")
        return common

    @torch.inference_mode()
    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode a region; of the whole image only the foreground, which is the region of the embedding.

        Grey limits are those of the whole volume. The window is for the eye; the network was trained with these.

        Raises
        ------
        InputError
            For voxels that are NaN or infinite, and images that have the same value everywhere.
        """
        limits, foreground = measured(image)
        if isinstance(region, WindowRegion):
            shown = region
        else:
            seen = foreground if region.box == image.grid.box else region.box
            shown = WindowRegion.showing(image.grid, seen, self.window)
        features = self.encode(network_input(image, shown, limits))
        return Embedding(features, shown, image.grid, features.numel() * features.element_size())

    def encode(self, values: np.ndarray) -> torch.Tensor:
        """The embedding (1, C, z, y, x) of a window, 0..1, float32."""
        features = self.network.image_encoder(self._tensor(values)[None, None])
        return features.to(self.kept_as)

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer the clicks and boxes that lie in the window. The network has no use for `previous`.

        Several boxes are parts of one object: each is answered with the points in it (and those that lie in no box),
        and the answers are united. The score is how steady the mask is: the network's own estimate has not been
        trained.

        Raises
        ------
        InputError
            If no positive prompt lies in the window.
        """
        answers = [self.answer(embedding.features, asked) for asked in self.asked(embedding.region, prompts)]
        parts = [Logits(values, embedding.region, stability_score(values)) for values in answers]
        return parts[0] if len(parts) == 1 else united(parts)

    def asked(self, region: WindowRegion, prompts: Prompts) -> list[WindowPrompts]:
        """Prompts in the window, one set for each question that they take; errors as of `decode`.

        A voxel v of n lies at index floor((v + 1/2) m / n) of m; boxes include their last voxel.
        """

        def places(indices: Sequence[Sequence[float]]) -> np.ndarray:
            offsets = np.array(indices) - region.seen.low + 0.5
            return np.floor(offsets * self.window / region.seen.shape).astype(np.float32)

        points = [point for point in prompts.of(Point) if region.box.contains(point.index)]
        boxes = [common for box in prompts.of(Box) if (common := box.intersect(region.box))]
        if not boxes and not any(point.positive for point in points):
            raise InputError(self._missing(region, prompts))
        questions = []
        for box in boxes or [None]:
            own = [p for p in points if len(boxes) < 2 or box.contains(p.index) or not _in_any(p, boxes)]
            questions.append(
                WindowPrompts(
                    None if box is None else places([box.low, [high - 1 for high in box.high]]).ravel(),
                    places([point.index for point in own]) if own else None,
                    np.array([point.positive for point in own], np.float32) if own else None,
                )
            )
        return questions

    def _missing(self, region: Region, prompts: Prompts) -> str:
        if prompts.of(Box) or any(point.positive for point in prompts.of(Point)):
            return (
                f"{self.card.title} looks at the part of the image from {region.box.low} to {region.box.high}, outside "
                "of which it is dark or was not asked: mark the object in there, or choose the region to look at."
            )
        if prompts.of(Point):
            return "A click inside the object is needed first; there are only clicks outside of it."
        return f"{self.card.title} needs a click or a box."

    @torch.inference_mode()
    def answer(self, features: torch.Tensor, prompts: WindowPrompts) -> np.ndarray:
        """Ask the decoder in the network's own terms.

        Parameters
        ----------
        features : Tensor
            From `encode`.
        prompts : WindowPrompts
            A box, points, or both.

        Returns
        -------
        ndarray of float32, (z, y / 4, x / 4) of the window
            Logits.
        """
        points = box = None
        if prompts.points is not None:
            points = self._tensor(prompts.points)[None], self._tensor(prompts.labels)[None]
        if prompts.box is not None:
            box = self._tensor(prompts.box)[None]
        sparse, dense = self.network.prompt_encoder(points=points, boxes=box)
        masks, _ = self.network.mask_decoder(
            image_embeddings=features.float(),
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[0, 0].float().cpu().numpy()

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``region.box.shape``; linear, from the decoder's own samples."""
        region = cast(WindowRegion, logits.region)
        return enlarged(logits.values, region.seen.shape)[region.inside.slices]


def enlarged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Logits of the decoder with another number of samples, trilinear."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return F.interpolate(tensor, tuple(shape), mode="trilinear", align_corners=False)[0, 0].numpy()


def _in_any(point: Point, boxes: Sequence[Box]) -> bool:
    return any(box.contains(point.index) for box in boxes)
