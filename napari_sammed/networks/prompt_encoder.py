"""Prompt encoder of SAM for images and volumes: points, boxes and masks become embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_sammed.networks.layers import CONV, FourierCode, LayerNormNd


class PromptEncoder(nn.Module):
    """Points and boxes become tokens (sparse), a mask becomes a map (dense); SAM paper, appendix A.

    Parameters
    ----------
    embed_dim
        Length C of an embedding.
    embedding_size
        Size of the image embedding's grid, in array order: (h, w) or (d, h, w). Its length sets the dimension
        D.
    input_size
        Size of the network's input, in array order; coordinates are given in its pixels.
    mask_channels
        Channels of the second convolution of a mask prompt; the first has a quarter of them.
    point_kinds
        Number of learned point embeddings: background, foreground, first and second corner of a box. Networks
        without boxes have only the first two.
    frequencies
        See `FourierCode`.

    Notes
    -----
    Component 0 of a coordinate belongs to array axis 1 and component 1 to array axis 0, further components to
    their own axis. In 2D this is the usual (x, y). The published 3D networks kept the rule, so that there
    points given in array order and the grid's codes disagree about the first two axes; their weights were
    trained with it.
    """

    def __init__(
        self,
        embed_dim: int,
        embedding_size: Sequence[int],
        input_size: Sequence[int],
        mask_channels: int = 16,
        *,
        point_kinds: int = 4,
        frequencies: int | None = None,
    ) -> None:
        super().__init__()
        if len(embedding_size) != len(input_size) or len(input_size) not in CONV:
            raise ValueError(f"sizes must both be 2D or both 3D, got {embedding_size} and {input_size}")
        self.embed_dim = embed_dim
        self.embedding_size = tuple(embedding_size)
        self.input_size = tuple(input_size)
        self.dims = len(self.input_size)
        self.component_axes = (1, 0, *range(2, self.dims))
        self.pe_layer = FourierCode(self.dims, embed_dim, frequencies)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(point_kinds))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = self._make_mask_downscaling(mask_channels, self.dims)
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def _make_mask_downscaling(self, channels: int, dims: int) -> nn.Sequential:
        conv = CONV[dims]
        return nn.Sequential(
            conv(1, channels // 4, kernel_size=2, stride=2),
            LayerNormNd(channels // 4),
            nn.GELU(),
            conv(channels // 4, channels, kernel_size=2, stride=2),
            LayerNormNd(channels),
            nn.GELU(),
            conv(channels, self.embed_dim, kernel_size=1),
        )

    @property
    def mask_input_size(self) -> tuple[int, ...]:
        """Size of a mask prompt (logits), in array order: four times the embedding's grid."""
        return tuple(4 * n for n in self.embedding_size)

    def get_dense_pe(self) -> Tensor:
        """Position codes of the image embedding's grid, shape (1, C, *embedding_size)."""
        return self.pe_layer.grid(self.embedding_size, self.component_axes).unsqueeze(0)

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode B sets of prompts.

        Parameters
        ----------
        points
            Coordinates (B, N, D) in pixels of the input, the centre of the first pixel being 0, and labels
            (B, N): 1 foreground, 0 background, -1 padding.
        boxes
            (B, 2·D): first corner, then the opposite one, coordinates as in ``points``; a (B, 1, 2·D) tensor
            of one box a set is accepted too.
        masks
            Logits (B, 1, *mask_input_size), normally the decoder's output of the round before.

        Returns
        -------
        sparse : Tensor
            (B, tokens, C): points, a padding token if there are points but no box, the two corners of the
            box.
        dense : Tensor
            (B, C, *embedding_size). Without masks it is one vector, *expanded* (no memory of its own) over
            batch and grid, by which the decoder knows that it may share work between prompts.

        Raises
        ------
        ValueError
            Boxes for a network without them.
        """
        batch = self._batch_size(points, boxes, masks)
        tokens = [self.no_mask_embed.weight.new_empty(batch, 0, self.embed_dim)]
        if points is not None:
            tokens.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            tokens.append(self._embed_boxes(boxes))
        if masks is not None:
            dense = self.mask_downscaling(masks)
        else:
            dense = self.no_mask_embed.weight.reshape(1, -1, *[1] * self.dims)
            dense = dense.expand(batch, -1, *self.embedding_size)
        return torch.cat(tokens, dim=1), dense

    def _embed_points(self, coords: Tensor, labels: Tensor, pad: bool) -> Tensor:
        if pad:
            coords = torch.cat([coords, coords.new_zeros(coords.shape[0], 1, self.dims)], dim=1)
            labels = torch.cat([labels, labels.new_full((labels.shape[0], 1), -1)], dim=1)
        labels = labels.unsqueeze(-1)
        embedding = self._encode(coords)
        embedding = torch.where(labels == -1, self.not_a_point_embed.weight, embedding)
        for kind in (0, 1):
            embedding = torch.where(labels == kind, embedding + self.point_embeddings[kind].weight, embedding)
        return embedding

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        if len(self.point_embeddings) < 4:
            raise ValueError("this network has no embeddings for the corners of boxes")
        corners = torch.cat([self.point_embeddings[2].weight, self.point_embeddings[3].weight])
        return self._encode(boxes.reshape(-1, 2, self.dims)) + corners

    def _encode(self, coords: Tensor) -> Tensor:
        size = coords.new_tensor([self.input_size[axis] for axis in self.component_axes])
        return self.pe_layer((coords + 0.5) / size)  # the code of pixel 0 is that of its centre

    @staticmethod
    def _batch_size(points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> int:
        if points is not None:
            return points[0].shape[0]
        if boxes is not None:
            return boxes.shape[0]
        return 1 if masks is None else masks.shape[0]
