"""What SegVol has of its own beside its image encoder: the text branch, and a norm over channels and voxels.

Sources: Du et al., SegVol (2023), section 3; ``segment_anything_volumetric/modeling`` of the official code. Texts come
as vectors; the CLIP tower that makes them from words is not part of this network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_sammed.networks.mask_decoder import MaskDecoder
from napari_sammed.networks.prompt_encoder import PromptEncoder
from napari_sammed.networks.promptable import PromptableNetwork
from napari_sammed.networks.transformer import TwoWayTransformer

TEXT_WIDTH = 768  # of text vectors, and their width in the mask decoder's dot product; both fixed in the official code
TEXT_CHANNELS = 96
CLIP_WIDTH = 512


class SegVolPromptEncoder(PromptEncoder):
    """SAM's prompt encoder for volumes, with a token for a text and without mask prompts.

    The convolutions for masks are two-dimensional in the official code and never used there; they are kept for their
    weights.
    """

    def _make_mask_downscaling(self, channels: int, dims: int) -> nn.Sequential:
        return super()._make_mask_downscaling(channels, dims=2)

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: None = None,
        text_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode B sets of prompts; see `PromptEncoder.forward`.

        Parameters
        ----------
        masks
            None: the network has no mask prompt.
        text_embedding
            Text vectors (B, C), each a token after all others.

        Raises
        ------
        ValueError
            ``masks`` is not None.
        """
        if masks is not None:
            raise ValueError("SegVol's network has no mask prompt, masks must be None")
        sparse, dense = super().forward(points, boxes)
        if text_embedding is None:
            return sparse, dense
        texts = text_embedding.unsqueeze(1)
        sparse = torch.cat([sparse.expand(len(texts), -1, -1), texts], dim=1)
        return sparse, dense[:1].expand(len(texts), *dense.shape[1:])


class SegVolMaskDecoder(MaskDecoder):
    """SAM's mask decoder for volumes, whose first norm in upscaling is over channels and voxels together.

    Parameters
    ----------
    transformer, embed_dim, num_multimask_outputs, iou_head_depth, iou_head_hidden_dim
        See `MaskDecoder`.
    grid
        Size of the image embedding, (z, y, x), which the norm fixes.
    """

    def __init__(
        self,
        transformer: TwoWayTransformer,
        embed_dim: int,
        grid: Sequence[int],
        *,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__(
            transformer,
            embed_dim,
            dims=3,
            num_multimask_outputs=num_multimask_outputs,
            iou_head_depth=iou_head_depth,
            iou_head_hidden_dim=iou_head_hidden_dim,
        )
        self.output_upscaling[1] = nn.LayerNorm((embed_dim // 4, *[2 * n for n in grid]))
        self.txt_align_upscaled_embedding = nn.Linear(TEXT_WIDTH, TEXT_CHANNELS)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        text_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode B sets of prompts; see `MaskDecoder.forward`.

        ``text_embedding`` (B, 768) adds to all masks the dot product of every voxel's features with the text's.
        """
        return super().forward(
            image_embeddings,
            image_pe,
            sparse_prompt_embeddings,
            dense_prompt_embeddings,
            multimask_output,
            self.text_weights(text_embedding),
        )

    def text_weights(self, text_embedding: Tensor | None) -> Tensor | None:
        """Channel weights of texts, (B, C / 8)."""
        return None if text_embedding is None else self.txt_align_upscaled_embedding(text_embedding)


class TextProjection(nn.Module):
    """Last layer of SegVol's text branch: pooled outputs of CLIP's text tower to text vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.dim_align = nn.Linear(CLIP_WIDTH, TEXT_WIDTH)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map (B, 512) to (B, 768)."""
        return self.dim_align(pooled)


class SegVolNetwork(PromptableNetwork):
    """SegVol without the CLIP tower.

    Parameters
    ----------
    image_encoder, prompt_encoder, mask_decoder
        See `PromptableNetwork`.
    text_encoder
        Projects pooled outputs of CLIP to the ``text_embedding`` of prompt encoder and mask decoder; None for a network
        that is used without texts, or with vectors that were projected before.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        text_encoder: TextProjection | None = None,
    ) -> None:
        super().__init__(image_encoder, prompt_encoder, mask_decoder)
        self.text_encoder = text_encoder
