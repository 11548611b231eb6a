"""Mask decoder of SAM for images and volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sammed.networks.layers import CONV_TRANSPOSE, MLP, LayerNormNd
from napari_sammed.networks.transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """Image embedding and prompt embeddings become mask logits and their predicted IoU.

    Parameters
    ----------
    transformer
        The two-way transformer between the tokens and the image.
    embed_dim
        Width C of tokens and image embedding.
    dims
        2 or 3.
    num_multimask_outputs
        Masks of an ambiguous prompt; mask token 0 is an extra one for the single answer.
    iou_head_depth, iou_head_hidden_dim
        Of the head that predicts the IoU (not a probability: no sigmoid).
    always_all
        Return the masks of all tokens whatever is asked for: they are classes (SAMed), not readings of a prompt.
    """

    def __init__(
        self,
        transformer: TwoWayTransformer,
        embed_dim: int,
        *,
        dims: int = 2,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        always_all: bool = False,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.always_all = always_all
        self.num_mask_tokens = num_multimask_outputs + 1
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, embed_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, embed_dim)
        self.output_upscaling = self._make_upscaling(embed_dim)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(embed_dim, embed_dim, embed_dim // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(embed_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth)

    def _make_upscaling(self, embed_dim: int) -> nn.Sequential:
        conv_transpose = CONV_TRANSPOSE[self.dims]
        return nn.Sequential(
            conv_transpose(embed_dim, embed_dim // 4, kernel_size=2, stride=2),
            LayerNormNd(embed_dim // 4),
            nn.GELU(),
            conv_transpose(embed_dim // 4, embed_dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        added_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode B sets of prompts.

        Parameters
        ----------
        image_embeddings
            (B, C, *grid), or (1, C, *grid) when all prompts belong to one image.
        image_pe
            (1, C, *grid), from ``prompt_encoder.get_dense_pe()``.
        sparse_prompt_embeddings
            (B, T, C), or (1, T, C) for all images alike.
        dense_prompt_embeddings
            (B, C, *grid) or (1, C, *grid).
        multimask_output
            True: the masks of tokens 1 and following; False: that of token 0. Ignored with ``always_all``.
        added_weights
            (B, C / 8), added to the channel weights of all masks.

        Returns
        -------
        masks : Tensor
            Logits, (B, masks, *four times the grid).
        iou : Tensor
            Predicted IoU, (B, masks).
        """
        chosen = self.chosen_masks(multimask_output)
        tokens = self.prompt_tokens(image_embeddings, sparse_prompt_embeddings)
        image = image_embeddings + unexpanded(dense_prompt_embeddings)
        tokens, image_tokens = self.transformer(image, image_pe, tokens)
        features = self._upscale(image_tokens, image.shape[2:])
        weights = self.mask_weights(tokens, chosen, added_weights)
        masks = torch.einsum("bmc,bcn->bmn", weights, features.flatten(2))
        iou = self.iou_prediction_head(tokens[:, 0])
        return masks.unflatten(2, features.shape[2:]), iou[:, chosen.start : chosen.stop]

    def chosen_masks(self, multimask_output: bool) -> range:
        """Mask tokens whose masks are returned; the work for the others is not done."""
        if self.always_all:
            return range(self.num_mask_tokens)
        return range(1, self.num_mask_tokens) if multimask_output else range(1)

    def prompt_tokens(self, image_embeddings: Tensor, sparse: Tensor) -> Tensor:
        """Tokens of the transformer: IoU, masks, prompts; (B, 1 + masks + T, C)."""
        batch = max(len(image_embeddings), len(sparse))
        if not {len(image_embeddings), len(sparse)} <= {1, batch}:
            raise ValueError(f"{len(image_embeddings)} image embeddings do not match {len(sparse)} prompt sets")
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).unsqueeze(0)
        return torch.cat([output.expand(batch, -1, -1), sparse.expand(batch, -1, -1)], dim=1)

    def mask_weights(self, tokens: Tensor, chosen: range, added: Tensor | None = None) -> Tensor:
        """Channel weights of the chosen masks, (B, masks, C / 8), from their tokens; ``added`` is (B, C / 8)."""
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in chosen], dim=1)
        return weights if added is None else weights + added.unsqueeze(1)

    def _upscale(self, image_tokens: Tensor, grid: torch.Size) -> Tensor:
        """Image tokens (B, N, C) to features (B, C / 8, *four times the grid)."""
        return self.output_upscaling(image_tokens.transpose(1, 2).unflatten(2, grid))


def unexpanded(x: Tensor) -> Tensor:
    """First entry of a batch that was expanded from one entry, else the batch itself.

    A stride of zero tells that all entries are the same memory, so that the work on them can be done once.
    """
    return x[:1] if x.stride(0) == 0 else x
