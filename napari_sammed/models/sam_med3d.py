"""SAM-Med3D: clicks in volumes, seen as a cube of 128 samples a side at 1.5 mm."""

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
from napari_sammed.models.cubes import CubeRegion, canonical_lattice, centred_cube, on_lattice
from napari_sammed.models.resampling import covered, resample
from napari_sammed.models.stability import stability_score
from napari_sammed.networks import optimized
from napari_sammed.prompts import Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume

SPACING = 1.5
"""mm between samples, as in the training of the network."""

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class SAMMed3D:
    """A `napari_sammed.models.base.PromptableModel` for volumes in any orientation.

    The network's input and answers are those of the official code (``medim_infer.py`` of SAM-Med3D) for the same cube
    and clicks. Three things around them are better than there:

    - The cube lies around the clicks or around a part of the image that the user chose; the official one needs a label.
    - Logits come back to the image grid, and are cut at 0 there; the official code brings back the mask of 1.5 mm, by
      nearest samples, which makes stairs on finer grids.
    - The cube is sampled from the image itself, which is nowhere resampled as a whole.

    Parameters
    ----------
    network : PromptableNetwork
        With its weights loaded.
    weights_hash : str
        sha256 of the weights.
    device : torch.device or str
    dtype : torch.dtype
        In which the image encoder multiplies matrices, see `napari_sammed.networks.optimized`.
    newest_only : bool
        Where an earlier answer is refined, say the newest click only, as in the training of the network, instead of
        all clicks, as the official code for inference does.
    """

    has_half_precision = True
    """Whether `dtype` is an argument."""

    def __init__(
        self,
        network: PromptableNetwork,
        weights_hash: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        newest_only: bool = False,
    ) -> None:
        self.card = registry.card("sam-med3d")
        self.weights_hash = weights_hash
        self.device = torch.device(device)
        self.network = optimized(network.to(self.device).eval(), dtype)
        self.kept_as = torch.float32 if dtype == torch.float32 else torch.float16
        self.newest_only = newest_only
        self.side = self.network.prompt_encoder.input_size[0]

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> CubeRegion:
        """A cube in canonical orientation around `within`, or where that does not fit, around the prompts.

        Around the first positive prompt, so that more clicks keep the cube, while it holds all prompts; then around
        the middle of all of them; around the newest positive one where they are too far apart for one cube.

        Raises
        ------
        InputError
            For flat images, for parts outside of the image, and if there is neither a positive prompt nor a part that
            fits into the cube.
        """
        if grid.ndim != 3:
            raise InputError(f"{self.card.title} looks at volumes only: choose a model of flat images for this one.")
        limit = grid.box if within is None else within.intersect(grid.box)
        if limit is None:
            raise InputError(
                f"The part from {within.low} to {within.high} lies outside the image of shape {grid.shape}."
            )
        lattice = canonical_lattice(grid, SPACING)
        part = on_lattice(limit, grid, lattice)
        if within is None or max(part.shape) > self.side:
            part = self._middle(grid, lattice, prompts)
        cube = lattice.crop(centred_cube(part, self.side))
        seen = covered(grid, cube)
        box = None if seen is None else seen.intersect(limit)
        if box is None:
            raise InputError("No prompt lies in the part of the image to look at.")
        return CubeRegion(box, cube, grid)

    def _middle(self, grid: Grid, lattice: Grid, prompts: Prompts) -> Box:
        """The part of the lattice whose middle is that of the cube."""
        extents = [item if isinstance(item, Box) else item.extent for item in prompts]
        positive = [
            extent
            for item, extent in zip(prompts, extents, strict=True)
            if isinstance(item, Box) or getattr(item, "positive", True)
        ]
        if not positive:
            raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
        everything = on_lattice(prompts.extent, grid, lattice)
        first = on_lattice(positive[0], grid, lattice)
        around_first = centred_cube(first, self.side)
        if everything.intersect(around_first) == everything:
            return first
        if max(everything.shape) <= self.side:
            return everything
        return on_lattice(positive[-1], grid, lattice)

    @torch.inference_mode()
    def embed(self, image: Volume, region: Region, window: Window) -> Embedding:
        """Encode the cube. The window is for the eye; the network was trained on all grey values.

        Raises
        ------
        InputError
            If the cube has voxels that are NaN or infinite, or the same value everywhere.
        """
        cube = torch.from_numpy(network_input(image, region)).to(self.device)
        features = self.network.image_encoder(cube[None, None]).to(self.kept_as)
        return Embedding(features, region, image.grid, features.numel() * features.element_size())

    def decode(self, embedding: Embedding, prompts: Prompts, previous: Logits | None) -> Logits:
        """Answer the clicks that lie in the cube; `previous` goes to the network as its mask prompt.

        The score is how steady the mask is: the network's own estimate has not been trained.

        Raises
        ------
        InputError
            If no click lies in the cube, or only negative ones and there is nothing that they could correct.
        """
        if previous is not None and previous.region != embedding.region:
            previous = None
        points, labels = self._clicks(embedding, prompts, refine=previous is not None)
        values = self.answer(embedding, points, labels, None if previous is None else previous.values)
        return Logits(values, embedding.region, stability_score(values))

    def _clicks(self, embedding: Embedding, prompts: Prompts, refine: bool) -> tuple[np.ndarray, np.ndarray]:
        """Places in the cube and signs of the clicks in it."""
        clicks = prompts.of(Point)
        indices = np.array([click.index for click in clicks]).reshape(-1, embedding.image.ndim)
        points = embedding.region.grid.to_index(embedding.image.to_world(indices))
        labels = np.array([int(click.positive) for click in clicks])
        inside = ((points >= -0.5) & (points < self.side - 0.5)).all(axis=1)
        points, labels = points[inside], labels[inside]
        if not labels.size:
            raise InputError(f"{self.card.title} needs a click in the part of the image that it looks at.")
        if not refine and not labels.any():
            raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
        return (points[-1:], labels[-1:]) if refine and self.newest_only else (points, labels)

    @torch.inference_mode()
    def answer(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Ask the decoder in the network's own terms.

        Parameters
        ----------
        embedding : Embedding
        points : ndarray, (N, 3)
            Index coordinates in the cube.
        labels : ndarray, (N,)
            1 inside, 0 outside, -1 nothing.
        mask : ndarray, (side / 4, side / 4, side / 4), optional
            Logits of the answer before. Without, they are all 0: the network was trained so and does not know its own
            code for "no mask".

        Returns
        -------
        ndarray of float32, (side / 4, side / 4, side / 4)
            Logits.
        """
        prompt_encoder = self.network.prompt_encoder
        if mask is None:
            mask = np.zeros(prompt_encoder.mask_input_size, np.float32)
        sparse, dense = prompt_encoder(
            points=(self._tensor(points)[None], self._tensor(labels)[None]), masks=self._tensor(mask)[None, None]
        )
        masks, _ = self.network.mask_decoder(
            image_embeddings=embedding.features.float(),
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[0, 0].float().cpu().numpy()

    def _tensor(self, values: Sequence[float] | np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)

    def restore(self, logits: Logits) -> np.ndarray:
        """Logits on the image grid, float32 of shape ``region.box.shape``; linear, first to the cube's samples."""
        region = cast(CubeRegion, logits.region)
        return resample(enlarged(logits.values, region.grid.shape), region.grid, region.answered)


def network_input(image: Volume, region: Region) -> np.ndarray:
    """The samples of a region, float32, with mean 0 and standard deviation 1 over those that are above 0.

    Outside of the image they are 0 before that. Whole numbers stay whole: fractions are cut off, as by the official
    resampler. Where no sample is above 0 (the official code stops there) all those in the image count. Colours are
    taken as their luma.

    Raises
    ------
    InputError
        For voxels that are NaN or infinite, and for regions that have the same value everywhere.
    """
    if image.channels == 3:
        channels = (resample(image.array[..., i], image.grid, region.grid) for i in range(3))
        samples = sum(weight * channel for weight, channel in zip(_LUMA, channels, strict=True))
    else:
        samples = resample(image.array, image.grid, region.grid)
    if image.array.dtype.kind in "iu":
        samples = np.trunc(samples.round(9))  # 2.9999999999 is a 3 that was interpolated
    if not np.isfinite(samples).all():
        raise InputError("The image has voxels that are NaN or infinite near the prompts: replace them first.")
    shown = samples[samples > 0] if (samples > 0).any() else samples[samples < 0]
    spread = float(shown.std(ddof=1, dtype=float)) if shown.size > 1 else 0.0
    if not spread:
        raise InputError("The image has the same value all around the prompts: there is nothing to segment.")
    return ((samples - shown.mean(dtype=float)) / spread).astype(np.float32)


def enlarged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Logits of the decoder at the network's input size, trilinear; the official mask is where they are above 0."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return F.interpolate(tensor, tuple(shape), mode="trilinear", align_corners=False)[0, 0].numpy()
