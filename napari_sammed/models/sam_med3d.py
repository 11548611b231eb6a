"""SAM-Med3D: clicks in volumes, seen as a cube of 128 samples a side at 1.5 mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F

from napari_sammed.errors import InputError
from napari_sammed.geometry import Box, Grid, Region
from napari_sammed.intensity import LUMA
from napari_sammed.models import cube_choice, registry
from napari_sammed.models.adjoining import blended, enclosing, innermost_sample
from napari_sammed.models.base import Embedding, Logits
from napari_sammed.models.cubes import CubeRegion
from napari_sammed.models.refining import logit
from napari_sammed.models.resampling import coverage, covered, resample
from napari_sammed.models.stability import stability_score
from napari_sammed.networks import optimized
from napari_sammed.prompts import MaskPrompt, Point, Prompts

if TYPE_CHECKING:
    from napari_sammed.intensity import Window
    from napari_sammed.networks import PromptableNetwork
    from napari_sammed.volume import Volume

_SURE = 1e-3  # a mask prompt says 0.1 % or 99.9 %: as a logit -6.9 or 6.9, the range of the networks' own answers


class SAMMed3D:
    """A `napari_sammed.models.base.ExtendingModel`, and a `ZoomingModel`, for volumes in any orientation.

    The network's input and answers are those of the official code (``medim_infer.py`` of SAM-Med3D) for the same cube
    and clicks. Four things around them are better than there:

    - The cube lies around the clicks or around a part of the image that the user chose; the official one needs a label.
    - Logits come back to the image grid, and are cut at 0 there; the official code brings back the mask of 1.5 mm, by
      nearest samples, which makes stairs on finer grids.
    - The cube is sampled from the image itself, which is nowhere resampled as a whole.
    - Objects that leave the cube are followed (`beyond`, `decode_beyond`, `joined`); there they end in a plane.

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
        self.mask_shape = self.network.prompt_encoder.mask_input_size

    def plan(self, grid: Grid, prompts: Prompts, within: Box | None) -> CubeRegion:
        """See `napari_sammed.models.cube_choice.first_cube`."""
        return cube_choice.first_cube(grid, prompts, within, self.side)

    def windows(self, grid: Grid, part: Box) -> list[CubeRegion]:
        """See `napari_sammed.models.cube_choice.closer_cubes`."""
        return cube_choice.closer_cubes(grid, part, self.side)

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
        """Answer the clicks and masks that lie in the cube.

        The mask prompt is `previous`, which the clicks refine, unless the newest prompt is itself a mask. A mask alone
        is enough: the network was trained with rounds without a click. The score is how steady the mask is: the
        network's own estimate has not been trained.

        Raises
        ------
        InputError
            If neither a click nor a mask lies in the cube, or only negative clicks and there is nothing that they could
            correct.
        """
        region = cast(CubeRegion, embedding.region)
        points, labels = self._clicks(region, prompts)
        mask = self._mask_prompt(region, prompts)
        refines = previous is not None and previous.region == region and bool(labels.size)
        if refines and (mask is None or not isinstance(prompts.items[-1], MaskPrompt)):
            mask = previous.values
            if self.newest_only:
                points, labels = points[-1:], labels[-1:]
        if mask is None and not labels.size:
            raise InputError(f"{self.card.title} needs a click or a mask in the part of the image that it looks at.")
        if mask is None and not labels.any():
            raise InputError("A click inside the object is needed first; there are only clicks outside of it.")
        return _scored(self.answer(embedding, points, labels, mask), region)

    def _clicks(self, region: CubeRegion, prompts: Prompts) -> tuple[np.ndarray, np.ndarray]:
        """Places in the cube and signs of the clicks in it."""
        clicks = prompts.of(Point)
        indices = np.array([click.index for click in clicks]).reshape(-1, 3)
        points = region.grid.to_index(region.image.to_world(indices))
        inside = ((points >= -0.5) & (points < self.side - 0.5)).all(axis=1)
        return points[inside], np.array([int(click.positive) for click in clicks])[inside]

    def _mask_prompt(self, region: CubeRegion, prompts: Prompts) -> np.ndarray | None:
        """The masks in the cube as the network's logits: by the share of each cell that they cover; None if none is."""
        painted = np.zeros(region.box.shape, bool)
        for prompt in prompts.of(MaskPrompt):
            common = prompt.extent.intersect(region.box)
            if common is not None:
                part = prompt.mask[common.shift([-low for low in prompt.offset]).slices]
                painted[common.shift([-low for low in region.box.low]).slices] |= part
        if not painted.any():
            return None
        shares = coverage(painted, region.answered, region.grid.resample(self.mask_shape))
        return logit(shares.clip(_SURE, 1 - _SURE))

    def beyond(self, answers: Sequence[Logits], prompts: Prompts, within: Box | None) -> CubeRegion | None:
        """See `napari_sammed.models.cube_choice.next_cube`."""
        return cube_choice.next_cube(answers, prompts, within)

    def decode_beyond(self, embedding: Embedding, prompts: Prompts, answers: Sequence[Logits]) -> Logits:
        """Answer the clicks and masks that lie in a further cube, with what is known of it as the mask prompt.

        Logits of 0, "not known", are said of the rest. Where no positive click lies in the cube, the innermost place
        of what is known of the object is one: training rounds without a click are rare, and always late.
        """
        region = cast(CubeRegion, embedding.region)
        points, labels = self._clicks(region, prompts)
        mask, weights = blended(answers, region.grid, self.mask_shape)
        if not labels.any():
            middle = innermost_sample(mask, region.grid)
            if middle is not None:
                points, labels = np.concatenate([points, middle[None]]), np.append(labels, 1)
        given = self._mask_prompt(region, prompts)
        if given is not None:
            mask = np.where(weights > 0, mask, given)
        return _scored(self.answer(embedding, points, labels, mask), region)

    def joined(self, answers: Sequence[Logits]) -> Logits:
        """One answer about all cubes: logits blended where they overlap, surely outside in gaps between them."""
        region, shape = enclosing(answers)
        values, weights = blended(answers, region.grid, shape)
        values[weights == 0] = logit(_SURE)
        return _scored(values, region)

    @torch.inference_mode()
    def answer(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Ask the decoder in the network's own terms.

        Parameters
        ----------
        embedding : Embedding
        points : ndarray, (N, 3)
            Index coordinates in the cube; N may be 0, with a mask.
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
        clicks = (self._tensor(points)[None], self._tensor(labels)[None]) if len(points) else None
        if mask is None:
            mask = np.zeros(self.mask_shape, np.float32)
        sparse, dense = prompt_encoder(points=clicks, masks=self._tensor(mask)[None, None])
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


def _scored(values: np.ndarray, region: CubeRegion) -> Logits:
    return Logits(values, region, stability_score(values))


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
    seen = covered(image.grid, region.grid)
    array, grid = image.around(seen.grow(1), region.grid.shape) if seen else (image.array, image.grid)
    if image.channels == 3:
        channels = (resample(array[..., i], grid, region.grid) for i in range(3))
        samples = sum(weight * channel for weight, channel in zip(LUMA, channels, strict=True))
    else:
        samples = resample(array, grid, region.grid)
    if image.dtype.kind in "iu":
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
